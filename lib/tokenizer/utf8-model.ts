import type { IdBuffer } from './id-buffer.js';
import type { TokenizerModel, Utf8TokenizerModel } from './types.js';

/** Ways into any tokenizer that leave the ids in a buffer. */
export interface TextEncoders {
  utf8(bytes: Uint8Array, start: number, end: number, ids: IdBuffer): void;
  text(text: string, ids: IdBuffer): void;
}

/** The quickest ways into a tokenizer: straight from UTF-8 where it can do that. */
export function encodersOf(tokenizer: Pick<TokenizerModel, 'encode'>): TextEncoders {
  const text = (content: string, ids: IdBuffer) => ids.addAll(tokenizer.encode(content));
  if (takesUtf8(tokenizer)) {
    return { utf8: (bytes, start, end, ids) => tokenizer.encodeUtf8(bytes, start, end, ids), text };
  }
  return {
    utf8: (bytes, start, end, ids) =>
      text(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8'), ids),
    text,
  };
}

/** Whether a tokenizer is one of those that read UTF-8 themselves: this package's. */
export function takesUtf8(tokenizer: object): tokenizer is Utf8TokenizerModel {
  return 'encodeUtf8' in tokenizer;
}
