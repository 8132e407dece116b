import { KotodamaError, messageOf } from '../../errors.js';
import { gunzip } from './gzip.js';
import type { Compression } from './names.js';
import { unzstd } from './zstd.js';

/** What data begins with (RFC 1952, 2.3.1; RFC 8878, 3.1.1). Neither can begin a text in UTF-8. */
const MAGIC: { [C in Compression]: readonly number[] } = { gzip: [0x1f, 0x8b], zstd: [0x28, 0xb5, 0x2f, 0xfd] };

/** Bytes that tell the compression. */
export const MAGIC_BYTES = 4;

const UNPACK = { gzip: gunzip, zstd: unzstd };

/**
 * How data is compressed, from its first bytes.
 *
 * @param promised what its name says
 * @throws KotodamaError `ERR_DATA` when the name says otherwise
 */
export function compressionOf(
  head: Uint8Array,
  promised: Compression | undefined,
  name: string,
): Compression | undefined {
  const found = begins(head, MAGIC.gzip) ? 'gzip' : begins(head, MAGIC.zstd) ? 'zstd' : undefined;
  // A frame that decoders skip may stand before those with data (RFC 8878, 3.1.2).
  if (promised === 'zstd' && found === undefined && isSkippable(head)) return 'zstd';
  if (promised === undefined || found === promised) return found;
  throw new KotodamaError('ERR_DATA', `${name} is not ${promised} data`, {
    expected: `the bytes ${hexadecimal(MAGIC[promised])} at its beginning`,
    received: head.length === 0 ? 'nothing' : hexadecimal(head.subarray(0, MAGIC_BYTES)),
    hint: 'it may be damaged, or have the wrong ending in its name',
  });
}

/** The data as it was before it was compressed. */
export async function* unpack(
  pieces: AsyncIterable<Uint8Array>,
  compression: Compression,
  name: string,
): AsyncGenerator<Uint8Array, void> {
  let received = 0;
  let failure: unknown;
  const iterator = UNPACK[compression](pieces);
  try {
    for (;;) {
      const next = await iterator.next().catch((cause: unknown) => {
        failure = cause;
      });
      if (next === undefined || next.done === true) break;
      received += next.value.length;
      yield next.value;
    }
  } finally {
    await iterator.return();
  }
  if (failure === undefined || failure instanceof KotodamaError) {
    if (failure !== undefined) throw failure;
    return;
  }
  throw new KotodamaError('ERR_DATA', `${name} is damaged or cut off after ${received} bytes of its text`, {
    expected: `whole ${compression} data`,
    received: messageOf(failure),
    hint: 'get it again; gzip -t or zstd -t tells whether it is whole',
    cause: failure,
  });
}

function begins(head: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, index) => head[index] === byte);
}

function isSkippable([first = 0, ...rest]: Uint8Array): boolean {
  return first >> 4 === 5 && begins(Uint8Array.from(rest), [0x2a, 0x4d, 0x18]);
}

export function hexadecimal(bytes: ArrayLike<number>): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}
