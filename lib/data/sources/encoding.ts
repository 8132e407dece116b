import { KotodamaError } from '../../errors.js';

/** How the characters of a text are bytes; the names are those of the WHATWG Encoding Standard. */
export const ENCODINGS = ['utf-8', 'shift_jis', 'euc-jp', 'utf-16le', 'utf-16be'] as const;

export type Encoding = (typeof ENCODINGS)[number];

/** Stands for bytes that are no character. */
export const NO_CHARACTER = '\ufffd';

/** Control characters that ICU's Shift_JIS, which Node.js takes, exchanges with one another (IBM's code page 943). */
const CONTROLS = '\x1a\x1c\x7f';
const CONTROL = new RegExp(`[${CONTROLS}]`, 'g');
const EXCHANGED = new TextDecoder('shift_jis').decode(Buffer.from(CONTROLS));

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
  const decoder = new TextDecoder(encoding);
  const toUtf8 = (text: string) => Buffer.from(encoding === 'shift_jis' ? withoutExchange(text) : text);
  let first = true;
  for await (const piece of pieces) {
    const text = decoder.decode(piece, { stream: true });
    if (text === '') continue;
    if (first && text.startsWith(REVERSED_MARK)) throw reversed(encoding, name);
    first = false;
    yield toUtf8(text);
  }
  const rest = decoder.decode();
  if (rest !== '') yield toUtf8(rest);
}

function reversed(encoding: Encoding, name: string): KotodamaError {
  const other = encoding === 'utf-16le' ? 'utf-16be' : 'utf-16le';
  return new KotodamaError('ERR_DATA', `${name} is not ${encoding}`, {
    received: `a byte order mark of ${other}`,
    hint: `take --encoding ${other} (API: encoding)`,
  });
}

function withoutExchange(text: string): string {
  return text.replaceAll(CONTROL, (control) => CONTROLS.charAt(EXCHANGED.indexOf(control)));
}

/** Half-width kana, the private use area, and what stands for no character: a wrong encoding makes many of them. */
const UNLIKELY = /[\uff61-\uff9f\ue000-\uf8ff\ufffd]/g;
const OTHERS = ['shift_jis', 'euc-jp'] as const satisfies readonly Encoding[];

/** The encoding that some bytes, which are not UTF-8, may be in. */
export function likelyEncoding(bytes: Uint8Array): Encoding | undefined {
  const guesses = OTHERS.map((encoding) => ({ encoding, text: new TextDecoder(encoding).decode(bytes) }))
    .filter(({ text }) => !text.includes(NO_CHARACTER))
    .map(({ encoding, text }) => ({ encoding, unlikely: text.match(UNLIKELY)?.length ?? 0 }));
  return guesses.sort((a, b) => a.unlikely - b.unlikely)[0]?.encoding;
}
