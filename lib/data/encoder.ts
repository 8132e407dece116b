import { setImmediate } from 'node:timers/promises';
import type { TokenizerModel } from '../tokenizer/types.js';

/** The ids of several texts, one text after the other. */
export interface EncodedTexts {
  ids: Int32Array;
  /** Number of ids of each text. */
  lengths: Int32Array;
}

/** Encodes texts, here or elsewhere. */
export interface Encoder {
  /** Calls to `encode` worth making before the first one has answered. */
  readonly ahead: number;
  encode(texts: string[]): Promise<EncodedTexts>;
}

/** Encodes in this thread, letting other work in before each call. */
export class InlineEncoder implements Encoder {
  readonly ahead = 1;
  private readonly tokenizer: TokenizerModel;

  constructor(tokenizer: TokenizerModel) {
    this.tokenizer = tokenizer;
  }

  async encode(texts: string[]): Promise<EncodedTexts> {
    await setImmediate();
    return encodeTexts(this.tokenizer, texts);
  }
}

export function encodeTexts(tokenizer: TokenizerModel, texts: readonly string[]): EncodedTexts {
  const encoded = texts.map((text) => tokenizer.encode(text));
  const lengths = Int32Array.from(encoded, ({ length }) => length);
  const ids = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
  let end = 0;
  for (const part of encoded) {
    ids.set(part, end);
    end += part.length;
  }
  return { ids, lengths };
}

/** Puts an id after some of the texts. */
export function addAfter({ ids, lengths }: EncodedTexts, id: number, chosen: (text: number) => boolean): EncodedTexts {
  const longer = lengths.map((length, text) => length + (chosen(text) ? 1 : 0));
  const all = new Int32Array(longer.reduce((sum, length) => sum + length, 0)).fill(id);
  let [from, to] = [0, 0];
  for (const [text, length] of lengths.entries()) {
    all.set(ids.subarray(from, from + length), to);
    from += length;
    to += longer[text] as number;
  }
  return { ids: all, lengths: longer };
}
