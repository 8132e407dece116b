import { KotodamaError } from '../../errors.js';

/** Bytes that tell an archive. */
export const HEAD_BYTES = 265;

const UNPACK = 'unpack it, or pack it with gzip or zstd';
const TAKE_OUT = 'unpack it, and give the files in it';

/** What is no text, told by its first bytes, each as a character. No text can begin so, or none ever does. */
const KINDS: readonly { what: string; hint: string; isIt: (head: string) => boolean }[] = [
  { what: 'xz data', hint: UNPACK, isIt: (head) => head.startsWith('\xfd7zXZ\0') },
  { what: 'bzip2 data', hint: UNPACK, isIt: (head) => /^BZh[1-9]1AY&SY/.test(head) },
  { what: 'a zip archive', hint: TAKE_OUT, isIt: (head) => head.startsWith('PK\x03\x04') },
  // POSIX's and GNU's; without what follows, a text with a word such as "gustar" in this place would be one.
  {
    what: 'a tar archive',
    hint: TAKE_OUT,
    isIt: (head) => ['ustar\0', 'ustar  \0'].some((magic) => head.startsWith(magic, 257)),
  },
];

/**
 * Refuses archives, and what is compressed in ways that are not read: most of their bytes would pass for text, or be called
 * text in another encoding.
 *
 * @throws KotodamaError `ERR_DATA`
 */
export function refuseArchive(bytes: Uint8Array, name: string): void {
  const head = Buffer.from(bytes.subarray(0, HEAD_BYTES)).toString('latin1');
  const found = KINDS.find(({ isIt }) => isIt(head));
  if (found === undefined) return;
  throw new KotodamaError('ERR_DATA', `${name} is ${found.what}`, {
    expected: 'text, or text packed with gzip or zstd',
    hint: found.hint,
  });
}
