import type { TokenizerModel } from '../tokenizer/types.js';
import type { EncodedChunk, Encoder, EncodingRules } from './encoder.js';
import { readAhead } from './read-ahead.js';
import type { OnBadRecord } from './sources/bad-records.js';
import { reportProblems } from './sources/read-chunk.js';
import {
  areDocuments,
  type TextChunk,
  type TextPosition,
  type TextSource,
  type TextsChunk,
} from './sources/text-source.js';

/** Where the end-of-text id goes: nowhere, after each text, or after each document. */
export type EndOfText = 'none' | 'line' | 'document';

/** The ids of some texts that follow each other in one file. */
export interface TokenPart {
  file: number;
  /** Of all texts, one after the other; ~id, which is negative, stands for an id of a prompt. */
  ids: Int32Array;
  /** Number of ids of each text, what follows it included. */
  lengths: Int32Array;
  /** Offset of each text. */
  offsets: ArrayLike<number>;
  /** Offset of what follows. */
  end: number;
  /** Bytes of the texts, in UTF-8. */
  textBytes: number;
  /** Whether each text is a document; otherwise the file is one. */
  documents: boolean;
}

/** How a source of texts becomes a stream of ids. */
export interface TokenStreamOptions {
  tokenizer: TokenizerModel;
  eos: EndOfText;
  /** Ids that a text with its prompt may have at most. */
  longest: number;
  /** Hears of bad records, which are then left out. */
  onBad: OnBadRecord;
  /** See {@link TextSource.read}. */
  closed?: AbortSignal;
}

/**
 * The ids of a source's texts from a place on, in order. What came before a failure comes first.
 *
 * Memory: `encoder.ahead` chunks of about 128 KiB of text or one line, whichever is more, and the ids of as many.
 */
export async function* tokenStream(
  source: TextSource,
  from: TextPosition,
  encoder: Encoder,
  options: TokenStreamOptions,
): AsyncGenerator<TokenPart, void> {
  const { eosTokenId } = options.tokenizer;
  const parts = encodeAll(source, from, encoder, options);
  if (options.eos === 'document' && eosTokenId !== undefined) yield* endingFiles(parts, eosTokenId);
  else yield* parts;
}

async function* encodeAll(
  source: TextSource,
  from: TextPosition,
  encoder: Encoder,
  { tokenizer, eos, longest, onBad, closed }: TokenStreamOptions,
): AsyncGenerator<TokenPart, void> {
  const rulesOf = (chunk: TextChunk): EncodingRules => {
    const each = eos === 'line' || (eos === 'document' && areDocuments(chunk));
    return { eos: each ? tokenizer.eosTokenId : undefined, skipBad: onBad !== undefined, longest };
  };
  const work = async (chunk: TextChunk) => ({ chunk, encoded: await encoder.encode(chunk, rulesOf(chunk)) });
  for await (const { chunk, encoded } of readAhead(source.read(from, closed), encoder.ahead, work)) {
    const { ids, lengths, textBytes } = encoded;
    const offsets = encoded.offsets ?? offsetsOf(chunk as TextsChunk, encoded);
    const { file, end } = chunk;
    yield { file, ids, lengths, offsets, end, textBytes, documents: areDocuments(chunk) };
    await reportProblems(chunk, encoded, onBad);
  }
}

/** Offsets of the texts that were encoded. */
function offsetsOf({ offsets }: TextsChunk, { problems }: EncodedChunk): readonly number[] {
  if (problems.length === 0) return offsets;
  const leftOut = new Set(problems.map(({ line }) => line));
  return offsets.filter((_, index) => !leftOut.has(index));
}

/** Puts the end-of-text id after the last text of each file that is one document. */
async function* endingFiles(parts: AsyncIterable<TokenPart>, eos: number): AsyncGenerator<TokenPart, void> {
  /** Its last text may be the last one of its file. */
  let held: TokenPart | undefined;
  let failure: { cause: unknown } | undefined;
  const iterator = parts[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await iterator.next().catch((cause: unknown) => {
        failure = { cause };
      });
      if (next === undefined || next.done === true) break;
      const part = next.value;
      if (held !== undefined) {
        const sameFile = part.file === held.file;
        if (sameFile && part.lengths.length === 0) {
          held.end = part.end;
          continue;
        }
        yield sameFile ? held : ended(held, eos);
      }
      held = part.documents || part.lengths.length === 0 ? undefined : part;
      if (held === undefined) yield part;
    }
    if (held !== undefined) yield failure === undefined ? ended(held, eos) : held;
  } finally {
    await iterator.return?.();
  }
  if (failure !== undefined) throw failure.cause;
}

/** A part whose last text is followed by one more id. */
function ended(part: TokenPart, eos: number): TokenPart {
  const ids = new Int32Array(part.ids.length + 1);
  ids.set(part.ids);
  ids[part.ids.length] = eos;
  const lengths = part.lengths.slice();
  lengths[lengths.length - 1]! += 1;
  return { ...part, ids, lengths };
}
