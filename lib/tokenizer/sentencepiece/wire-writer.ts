/** Writer of the protocol buffer wire format (protobuf.dev/programming-guides/encoding): the fields of one message, in order. */
export class WireWriter {
  private readonly parts: Uint8Array[] = [];

  integer(field: number, value: number): this {
    return this.key(field, 0).varint(value);
  }

  boolean(field: number, value: boolean): this {
    return this.integer(field, value ? 1 : 0);
  }

  float32(field: number, value: number): this {
    return this.key(field, 5).add(new Uint8Array(Float32Array.of(value).buffer));
  }

  text(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value));
  }

  /** A length-delimited field: bytes, or a message. */
  bytes(field: number, value: Uint8Array): this {
    return this.key(field, 2).varint(value.length).add(value);
  }

  finish(): Uint8Array {
    return Buffer.concat(this.parts);
  }

  private key(field: number, wireType: number): this {
    return this.varint(field * 8 + wireType);
  }

  /** @param value from 0 to 2^53 - 1 */
  private varint(value: number): this {
    const bytes: number[] = [];
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
    bytes.push(rest);
    return this.add(Uint8Array.from(bytes));
  }

  private add(bytes: Uint8Array): this {
    this.parts.push(bytes);
    return this;
  }
}
