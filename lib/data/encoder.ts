import { setImmediate } from 'node:timers/promises';
import { KotodamaError } from '../errors.js';
import { IdBuffer } from '../tokenizer/id-buffer.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { encodersOf, type TextEncoders, takesUtf8 } from '../tokenizer/utf8-model.js';
import { describe } from '../validate.js';
import type { Problem } from './sources/bad-records.js';
import { type ChunkContent, contentOf, type LinesRead, type TextVisitor, visitTexts } from './sources/read-chunk.js';
import type { TextChunk } from './sources/text-source.js';

/** How texts become ids; survives `structuredClone`. */
export interface EncodingRules {
  /** Id that follows each text, if any. */
  eos: number | undefined;
  /** Whether lines that hold no text are left out; otherwise encoding ends before the first one. */
  skipBad: boolean;
  /** Ids that a text with its prompt and its end may have at most: more are a bad record. */
  longest: number;
}

/** The ids of the texts of a chunk, one text after the other. */
export interface EncodedChunk extends LinesRead {
  /** ~id, which is negative, stands for an id of a prompt. */
  ids: Int32Array;
  /** Number of ids of each text, its prompt included. */
  lengths: Int32Array;
  /** Offset of each text of lines; undefined for other texts, whose offsets are known. */
  offsets: Float64Array | undefined;
  /** Bytes of the texts, in UTF-8. */
  textBytes: number;
}

/** Encodes chunks of texts, here or elsewhere. */
export interface Encoder {
  /** Calls to `encode` worth making before the first one has answered. */
  readonly ahead: number;
  /** The bytes of the chunk may be gone afterwards. */
  encode(chunk: TextChunk, rules: EncodingRules): Promise<EncodedChunk>;
}

/** Encodes in this thread, letting other work in before each call. */
export class InlineEncoder implements Encoder {
  readonly ahead = 1;
  private readonly encoder: ChunkEncoder;

  constructor(tokenizer: TokenizerModel) {
    // The tokenizers of this package are those that take UTF-8; their ids need no second look.
    this.encoder = new ChunkEncoder(encodersOf(takesUtf8(tokenizer) ? tokenizer : checked(tokenizer)));
  }

  async encode(chunk: TextChunk, rules: EncodingRules): Promise<EncodedChunk> {
    await setImmediate();
    return this.encoder.encode(contentOf(chunk), rules);
  }
}

/** Encodes chunks in whatever thread it is made. */
export class ChunkEncoder {
  private readonly encoders: TextEncoders;
  private readonly ids = new IdBuffer();

  constructor(encoders: TextEncoders) {
    this.encoders = encoders;
  }

  encode(chunk: ChunkContent, { eos, skipBad, longest }: EncodingRules): EncodedChunk {
    const { ids, encoders } = this;
    const lengths: number[] = [];
    const offsets: number[] = [];
    let textBytes = 0;
    let count = ids.count;
    const note = (offset: number) => {
      if (eos !== undefined) ids.add(eos);
      lengths.push(ids.count - count);
      count = ids.count;
      offsets.push(offset);
    };
    const visitor: TextVisitor = {
      utf8(bytes, start, end, offset) {
        encoders.utf8(bytes, start, end, ids);
        textBytes += end - start;
        note(offset);
      },
      text(text, offset) {
        encoders.text(text, ids);
        textBytes += Buffer.byteLength(text);
        note(offset);
      },
      pair(prompt, text, offset) {
        encoders.text(prompt, ids);
        ids.complement(count);
        const ofPrompt = ids.count - count;
        encoders.text(text, ids);
        const length = ids.count - count + (eos === undefined ? 0 : 1);
        if (length > longest) {
          ids.truncate(count);
          return tooLong(length, ofPrompt, longest);
        }
        textBytes += Buffer.byteLength(text);
        note(offset);
        return undefined;
      },
    };
    try {
      const read = visitTexts(chunk, visitor, skipBad);
      return {
        ...read,
        ids: ids.take(),
        lengths: Int32Array.from(lengths),
        offsets: chunk.kind === 'lines' ? Float64Array.from(offsets) : undefined,
        textBytes,
      };
    } catch (error) {
      // What was encoded before is not wanted in the next chunk.
      ids.take();
      throw error;
    }
  }
}

/** The problem of a record that fits into no block. */
function tooLong(length: number, ofPrompt: number, longest: number): Problem {
  return {
    what: 'does not fit into a block',
    expected: `at most ${longest} tokens, for blocks of ${longest - 1} (--block-size)`,
    received: `${length}, of which ${ofPrompt} are the prompt's`,
  };
}

/** The tokenizer, but what its `encode` gives is looked at: an array of integers would keep anything else as 0. */
function checked(tokenizer: TokenizerModel): Pick<TokenizerModel, 'encode'> {
  const { vocabSize } = tokenizer;
  const isId = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
  const encode = (text: string): number[] => {
    const ids: unknown = tokenizer.encode(text);
    if (!Array.isArray(ids) && !ArrayBuffer.isView(ids)) throw notIds(vocabSize, describe(ids));
    const list = ids as number[];
    for (let index = 0; index < list.length; index++) {
      if (!isId(list[index])) throw notIds(vocabSize, `${describe(list[index])} at index ${index}`);
    }
    return list;
  };
  return { encode };
}

function notIds(vocabSize: number, received: string): KotodamaError {
  return new KotodamaError('ERR_TOKENIZER', "The tokenizer's encode did not give the ids of a text", {
    expected: `an array of whole numbers from 0 to below its vocabSize, ${vocabSize}`,
    received,
    hint: 'encode has to answer at once, with ids that the model has',
  });
}
