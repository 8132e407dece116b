/**
 * How byte-level BPE writes bytes as characters (`bytes_to_unicode` of GPT-2): printable bytes as themselves, the others
 * as U+0100, U+0101, ... in turn.
 */
export const CHARACTER_OF_BYTE: readonly string[] = byteCharacters();

/** The bytes in the order of their characters, which is that of their ids. */
export const BYTES_BY_CHARACTER: readonly number[] = Array.from({ length: 256 }, (_, byte) => byte).sort(
  (a, b) => CHARACTER_OF_BYTE[a]!.charCodeAt(0) - CHARACTER_OF_BYTE[b]!.charCodeAt(0),
);

function byteCharacters(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
}
