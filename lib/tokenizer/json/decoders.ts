import { isUtf8 } from 'node:buffer';
import { CHARACTER_OF_BYTE } from '../byte-level/byte-alphabet.js';
import { asObject, type JsonObject } from '../check-tokenizer-json.js';

/** Makes texts of tokens, which are then joined. */
export type Decoder = (tokens: readonly string[]) => string[];

const BYTE_OF_CHARACTER = new Map(CHARACTER_OF_BYTE.map((character, byte) => [character, byte]));

/** Bytes that are no UTF-8 become U+FFFD. */
const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * A decoder of tokenizer.json as Python's tokenizers have it.
 *
 * @param added texts of the added tokens, which are no characters of bytes
 * @param another makes the decoders that are not here
 * @throws what `another` throws
 */
export function decoderOf(
  json: JsonObject,
  added: ReadonlySet<string>,
  another: (json: JsonObject) => Decoder,
): Decoder {
  if (json.type === 'Metaspace') return metaspace(json);
  if (json.type === 'ByteFallback') return byteFallback;
  if (json.type === 'ByteLevel') return (tokens) => byteLevel(tokens, added);
  if (json.type !== 'Sequence' || !Array.isArray(json.decoders)) return another(json);
  const decoders = json.decoders.map((part) => decoderOf(asObject(part) ?? {}, added, another));
  return (tokens) => decoders.reduce((texts: readonly string[], decode) => decode(texts), tokens) as string[];
}

/** Where a text was to begin with a space that it may not have had, the first token loses its own. */
function metaspace({ replacement = '▁', add_prefix_space: prefix, prepend_scheme: given }: JsonObject): Decoder {
  const mark = String(replacement);
  const scheme = given ?? (prefix === false ? 'never' : 'always');
  return (tokens) => tokens.map((token, index) => token.replaceAll(mark, index === 0 && scheme !== 'never' ? '' : ' '));
}

/** Bytes side by side that are not UTF-8 altogether become U+FFFD, each of them. */
function byteFallback(tokens: readonly string[]): string[] {
  const bytesOf = (token: string) => {
    const byte = byteOf(token);
    return byte === undefined ? undefined : [byte];
  };
  return decodeRuns(tokens, bytesOf, (run) => (isUtf8(run) ? UTF8.decode(run) : '\ufffd'.repeat(run.length)));
}

/** The byte that a token is for ByteFallback. */
export function byteOf(token: string): number | undefined {
  const digits = /^<0x([0-9a-f]{2})>$/i.exec(token)?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

/** Whether a decoder, or a part of it, is ByteFallback. */
export function hasByteFallback(json: unknown): boolean {
  const { type, decoders } = asObject(json) ?? {};
  return type === 'ByteFallback' || (type === 'Sequence' && Array.isArray(decoders) && decoders.some(hasByteFallback));
}

/** A token with a character that stands for no byte is the text that it is. */
function byteLevel(tokens: readonly string[], added: ReadonlySet<string>): string[] {
  const bytesOf = (token: string) => {
    if (added.has(token)) return undefined;
    const bytes = Array.from(token, (character) => BYTE_OF_CHARACTER.get(character));
    return bytes.includes(undefined) ? Buffer.from(token) : (bytes as number[]);
  };
  return decodeRuns(tokens, bytesOf, (run) => UTF8.decode(run));
}

/** Decodes the bytes of tokens side by side together; a token without any is a text. */
function decodeRuns(
  tokens: readonly string[],
  bytesOf: (token: string) => Iterable<number> | undefined,
  decode: (run: Uint8Array) => string,
): string[] {
  const texts: string[] = [];
  let run: number[] = [];
  const flush = () => {
    if (run.length > 0) texts.push(decode(Uint8Array.from(run)));
    run = [];
  };
  for (const token of tokens) {
    const bytes = bytesOf(token);
    if (bytes === undefined) {
      flush();
      texts.push(token);
    } else for (const byte of bytes) run.push(byte);
  }
  flush();
  return texts;
}
