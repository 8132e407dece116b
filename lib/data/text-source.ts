/** Where a text begins. */
export interface TextPosition {
  /** Index of the file; 0 for texts in memory. */
  file: number;
  /** Byte offset in the file, or the number of texts before this one. */
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
}

/** Texts in a fixed order. */
export interface TextSource {
  readonly kind: 'files' | 'texts';
  /**
   * The texts from a position on, in chunks of about {@link CHUNK_SIZE}. When the source fails, what came before the
   * failure comes first.
   */
  read(from: TextPosition): AsyncGenerator<TextChunk, void, undefined>;
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
}

/** Gathers the texts of one file into chunks. */
export async function* inChunks(file: number, texts: AsyncIterable<PlacedText>): AsyncGenerator<TextChunk, void> {
  let chunk: TextChunk | undefined;
  let size = 0;
  let failure: { cause: unknown } | undefined;
  // A failure must not swallow the texts before it, and `yield` must not be inside the `try` that notes it.
  const iterator = texts[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await iterator.next().catch((cause: unknown) => {
        failure = { cause };
      });
      if (next === undefined || next.done === true) break;
      const { text, offset, end } = next.value;
      chunk ??= { texts: [], file, offsets: [], end };
      chunk.texts.push(text);
      chunk.offsets.push(offset);
      chunk.end = end;
      size += text.length + TEXT_OVERHEAD;
      if (size >= CHUNK_SIZE) {
        yield chunk;
        chunk = undefined;
        size = 0;
      }
    }
    if (chunk !== undefined) yield chunk;
  } finally {
    await iterator.return?.();
  }
  if (failure !== undefined) throw failure.cause;
}
