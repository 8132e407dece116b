/** A UTF-16 unit becomes at most three bytes of UTF-8. */
const BYTES_PER_UNIT = 3;

/** Room above this many bytes is given back after use. */
const KEPT_BYTES = 2 ** 24;

/** Texts as UTF-8, each in the place of the one before. */
export class Utf8Scratch {
  bytes = new Uint8Array(2 ** 12);
  private readonly encoder = new TextEncoder();

  /** Writes a text into {@link bytes} and gives its length there. Lone surrogates become U+FFFD. */
  write(text: string): number {
    const longest = text.length * BYTES_PER_UNIT;
    if (longest > this.bytes.length || this.bytes.length > KEPT_BYTES) this.bytes = new Uint8Array(longest + 2 ** 12);
    return this.encoder.encodeInto(text, this.bytes).written;
  }
}
