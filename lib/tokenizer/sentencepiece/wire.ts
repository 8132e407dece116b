import { KotodamaError } from '../../errors.js';

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Strict reader of the protocol buffer wire format (protobuf.dev/programming-guides/encoding) over one message.
 *
 * ```ts
 * while (reader.next()) {
 *   if (reader.field === 1) text = reader.bytes();
 *   else reader.skip();
 * }
 * ```
 *
 * Every value must lie wholly inside the message; nothing is allocated beyond views into the input. Groups, which
 * proto2 allows but SentencePiece never writes, are refused, so reading never recurses by itself.
 */
export class WireReader {
  /** Number of the field that {@link next} found. */
  field = 0;
  private wireType = 0;
  private position = 0;
  private readonly view: DataView;

  constructor(
    private readonly data: Uint8Array,
    /** Name of the message, for errors. */
    private readonly message: string,
  ) {
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  /** Reads the key of the next field; false at the end of the message. */
  next(): boolean {
    if (this.position === this.data.length) return false;
    const key = this.varint();
    this.wireType = key % 8;
    this.field = Math.floor(key / 8);
    if (this.field < 1 || this.field > 0x1fffffff)
      throw this.error('a field number from 1 to 536870911', `${this.field}`);
    return true;
  }

  /** Value of a varint field. Above 2^53 only its magnitude is right, which is enough to refuse it. */
  integer(): number {
    this.expect(0, 'a varint');
    return this.varint();
  }

  boolean(): boolean {
    return this.integer() !== 0;
  }

  float32(): number {
    this.expect(5, 'a 32-bit value');
    return this.view.getFloat32(this.take(4), true);
  }

  /** Content of a length-delimited field: a view, not a copy. */
  bytes(): Uint8Array {
    this.expect(2, 'a length-delimited value');
    const length = this.varint();
    const start = this.take(length);
    return this.data.subarray(start, start + length);
  }

  /** Content of a string field, which must be valid UTF-8. */
  text(): string {
    const bytes = this.bytes();
    try {
      return UTF8.decode(bytes);
    } catch (cause) {
      throw new KotodamaError('ERR_TOKENIZER', `SentencePiece model: ${this.message} holds text that is not UTF-8`, {
        cause,
      });
    }
  }

  /** Passes over the value of a field that is not needed. */
  skip(): void {
    if (this.wireType === 0) this.varint();
    else if (this.wireType === 1) this.take(8);
    else if (this.wireType === 2) this.take(this.varint());
    else if (this.wireType === 5) this.take(4);
    else throw this.error('wire type 0, 1, 2 or 5', `${this.wireType} in field ${this.field}`);
  }

  private varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      const byte = this.data[this.take(1)]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw this.error('a varint of at most 10 bytes', 'a longer one');
  }

  /** Start of the next `length` bytes, which are passed over. */
  private take(length: number): number {
    const start = this.position;
    const left = this.data.length - start;
    if (length > left) throw this.error(`${length} more bytes`, `the end after ${left}`);
    this.position += length;
    return start;
  }

  private expect(wireType: number, what: string): void {
    if (this.wireType !== wireType) throw this.error(what, `wire type ${this.wireType} in field ${this.field}`);
  }

  private error(expected: string, received: string): KotodamaError {
    return new KotodamaError(
      'ERR_TOKENIZER',
      `SentencePiece model: ${this.message} is damaged at byte ${this.position}`,
      {
        expected,
        received,
        hint: 'fetch the .model file again; it is truncated or not a SentencePiece model',
      },
    );
  }
}
