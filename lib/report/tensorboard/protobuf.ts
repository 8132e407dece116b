/** A field of a message in the protocol buffer wire format (protobuf.dev/programming-guides/encoding). */
export type Field = Buffer;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** A message of fields. */
export function message(...fields: readonly Field[]): Buffer {
  return Buffer.concat(fields);
}

/** An integer of at least 0. */
export function integer(field: number, value: number): Field {
  return Buffer.from([...varint(field * 8 + VARINT), ...varint(value)]);
}

export function float(field: number, value: number): Field {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([Buffer.from(varint(field * 8 + FIXED32)), bytes]);
}

export function double(field: number, value: number): Field {
  return Buffer.concat([Buffer.from(varint(field * 8 + FIXED64)), doubles([value])]);
}

/** A string, bytes, or a message inside the message. */
export function bytes(field: number, value: string | Uint8Array): Field {
  const content = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([Buffer.from([...varint(field * 8 + BYTES), ...varint(content.length)]), content]);
}

/** Repeated doubles, packed. */
export function packedDoubles(field: number, values: readonly number[]): Field {
  return bytes(field, doubles(values));
}

function doubles(values: readonly number[]): Buffer {
  const content = Buffer.alloc(8 * values.length);
  for (const [index, value] of values.entries()) content.writeDoubleLE(value, 8 * index);
  return content;
}

function varint(value: number): number[] {
  const digits: number[] = [];
  let rest = value;
  while (rest >= 128) {
    digits.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  return [...digits, rest];
}
