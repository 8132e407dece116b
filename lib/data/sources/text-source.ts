import type { BlockOrigin, Json } from '../types.js';

/** Where a text begins. */
export interface TextPosition {
  /** Index of the file; 0 for texts in memory. */
  file: number;
  /** Byte offset in the text of the file, its row, or the number of texts before this one. */
  offset: number;
}

/** Some texts that follow each other. */
export interface TextChunk {
  texts: string[];
  /** The file they are from. */
  file: number;
  /** Offset of each text. */
  offsets: number[];
  /** Offset of what follows the last one. */
  end: number;
  /** Of each text, whether a document ends with it. */
  endsDocument: boolean[];
}

/** Texts in a fixed order. */
export interface TextSource {
  readonly kind: 'files' | 'texts';
  /**
   * The texts from a position on, in chunks of about {@link CHUNK_SIZE}. When the source fails, what came before the
   * failure comes first.
   */
  read(from: TextPosition): AsyncGenerator<TextChunk, void, undefined>;
  /** Names a file in a saved state, so that a state that meets other files is noticed. */
  mark(file: number): string;
  /** Says in words where some texts are, from the first one to the last. */
  locate(origin: BlockOrigin): Promise<string>;
  /** Marks of the content. */
  identity(): Promise<{ [key: string]: Json }>;
}

/** UTF-16 units in a chunk: little enough to encode in some milliseconds, enough to make a trip to a worker worth it. */
const CHUNK_SIZE = 16_384;

/** What an empty text counts for, so that a million empty lines are not one chunk. */
const TEXT_OVERHEAD = 16;

/** A text with its place, as a source reads it. */
export interface PlacedText {
  text: string;
  offset: number;
  /** Offset of what follows. */
  end: number;
  endsDocument: boolean;
}

/** Gathers the texts of one file into chunks. */
export async function* inChunks(
  file: number,
  batches: AsyncIterable<readonly PlacedText[]>,
): AsyncGenerator<TextChunk, void> {
  let chunk: TextChunk | undefined;
  let size = 0;
  let failure: { cause: unknown } | undefined;
  // A failure must not swallow the texts before it, and `yield` must not be inside the `try` that notes it.
  const iterator = batches[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await iterator.next().catch((cause: unknown) => {
        failure = { cause };
      });
      if (next === undefined || next.done === true) break;
      for (const { text, offset, end, endsDocument } of next.value) {
        chunk ??= { texts: [], file, offsets: [], end, endsDocument: [] };
        chunk.texts.push(text);
        chunk.offsets.push(offset);
        chunk.endsDocument.push(endsDocument);
        chunk.end = end;
        size += text.length + TEXT_OVERHEAD;
        if (size >= CHUNK_SIZE) {
          yield chunk;
          chunk = undefined;
          size = 0;
        }
      }
    }
    if (chunk !== undefined) yield chunk;
  } finally {
    await iterator.return?.();
  }
  if (failure !== undefined) throw failure.cause;
}
