import { CHARACTER_OF_BYTE } from '../byte-level/byte-alphabet.js';

/** The UTF-8 bytes of a text, in the characters that byte-level vocabularies write bytes with. */
export function byteCharacters(text: string): string {
  return Array.from(Buffer.from(text), (byte) => CHARACTER_OF_BYTE[byte]!).join('');
}
