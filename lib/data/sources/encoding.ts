import { KotodamaError } from '../../errors.js';

/** How the characters of a text are bytes; the names are those of the WHATWG Encoding Standard. */
export const ENCODINGS = ['utf-8', 'shift_jis', 'euc-jp', 'utf-16le', 'utf-16be'] as const;

export type Encoding = (typeof ENCODINGS)[number];

/** Stands for bytes that are no character. */
export const NO_CHARACTER = '\ufffd';

/** A byte order mark whose bytes were read in the other order. */
const REVERSED_MARK = '\ufffe';

/**
 * A text as UTF-8. Bytes that are no character become {@link NO_CHARACTER}; a byte order mark at the beginning is left out.
 * Closing it closes `pieces`.
 *
 * @param name how messages call the text
 * @throws KotodamaError `ERR_DATA` for UTF-16 in the other byte order, all of which could pass for characters
 */
export async function* decoded(
  pieces: AsyncIterable<Uint8Array>,
  encoding: Encoding,
  name: string,
): AsyncGenerator<Uint8Array, void> {
  const texts = encoding.startsWith('utf-16') ? inStream(pieces, encoding) : byLines(pieces, encoding);
  let first = true;
  for await (const text of texts) {
    if (text === '') continue;
    if (first && text.startsWith(REVERSED_MARK)) throw reversed(encoding, name);
    first = false;
    yield Buffer.from(text);
  }
}

async function* inStream(pieces: AsyncIterable<Uint8Array>, encoding: Encoding): AsyncGenerator<string, void> {
  const decoder = new TextDecoder(encoding);
  for await (const piece of pieces) yield decoder.decode(piece, { stream: true });
  yield decoder.decode();
}

const NEWLINE = 0x0a;

/**
 * Whole lines at a time: Node's decoder fails where a broken character is continued in another piece. No character of these
 * encodings holds the byte of a line end.
 */
async function* byLines(pieces: AsyncIterable<Uint8Array>, encoding: Encoding): AsyncGenerator<string, void> {
  const decoder = new TextDecoder(encoding);
  const exchange = encoding === 'shift_jis' ? controlExchange() : (text: string) => text;
  let begun: Uint8Array[] = [];
  const take = (last: Uint8Array) => exchange(decoder.decode(Buffer.concat([...begun, last])));
  for await (const piece of pieces) {
    const end = piece.lastIndexOf(NEWLINE) + 1;
    if (end > 0) {
      yield take(piece.subarray(0, end));
      begun = [];
    }
    // What is not decoded yet outlives the piece.
    if (end < piece.length) begun.push(piece.slice(end));
  }
  yield take(new Uint8Array(0));
}

/** ICU's Shift_JIS, which Node.js takes, exchanges some control characters with one another (IBM's code page 943). */
function controlExchange(): (text: string) => string {
  const controls = '\x1a\x1c\x7f';
  const exchanged = new TextDecoder('shift_jis').decode(Buffer.from(controls));
  const any = new RegExp(`[${controls}]`, 'g');
  return (text) => text.replaceAll(any, (control) => controls.charAt(exchanged.indexOf(control)));
}

function reversed(encoding: Encoding, name: string): KotodamaError {
  const other = encoding === 'utf-16le' ? 'utf-16be' : 'utf-16le';
  return new KotodamaError('ERR_DATA', `${name} is not ${encoding}`, {
    received: `a byte order mark of ${other}`,
    hint: `take --encoding ${other} (API: encoding)`,
  });
}

/** Half-width kana and the private use area: a wrong encoding makes many of them. */
const UNLIKELY = /[\uff61-\uff9f\ue000-\uf8ff]/g;
const OTHERS = ['shift_jis', 'euc-jp'] as const satisfies readonly Encoding[];

/** The encoding that some bytes, which are not UTF-8, may be in. */
export function likelyEncoding(bytes: Uint8Array): Encoding | undefined {
  const guesses = OTHERS.map((encoding) => ({ encoding, text: new TextDecoder(encoding).decode(bytes) }))
    .filter(({ text }) => !text.includes(NO_CHARACTER))
    .map(({ encoding, text }) => ({ encoding, unlikely: text.match(UNLIKELY)?.length ?? 0 }));
  return guesses.sort((a, b) => a.unlikely - b.unlikely)[0]?.encoding;
}
