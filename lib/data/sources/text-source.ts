import type { BlockOrigin, Json } from '../types.js';
import type { Encoding } from './encoding.js';
import type { LineCounter } from './line-counter.js';
import type { LineBytes } from './lines.js';

/** Where a text begins. */
export interface TextPosition {
  /** Index of the file; 0 for texts in memory. */
  file: number;
  /** Byte offset in the text of the file, its row, or the number of texts before this one. */
  offset: number;
}

/** What lines are; survives `structuredClone`. */
export interface LineFormat {
  format: 'text' | 'jsonl';
  /** Field of the records that holds the text. */
  field: string;
  /** Field of the records that holds the prompt before the text, where there is one. */
  promptField: string | undefined;
  /** What their file is in. The bytes are UTF-8. */
  encoding: Encoding;
  /** Whether the end of a line of text is part of it. */
  keepLinebreaks: boolean;
}

/** Lines as they were read; each is a text or a record that holds one. */
export interface LinesChunk extends LineBytes {
  kind: 'lines';
  /** The file they are from. */
  file: number;
  lineFormat: LineFormat;
  /** Knows the numbers of the lines; whoever has read them tells it. */
  counter: LineCounter;
}

/** Texts that follow each other. Each is a document. */
export interface TextsChunk {
  kind: 'texts';
  file: number;
  texts: string[];
  /** The prompt before each text, where there are prompts. */
  prompts: string[] | undefined;
  /** Names a text in messages by its offset. */
  nameOf(offset: number): string;
  /** Offset of each text. */
  offsets: number[];
  /** Offset of what follows the last one. */
  end: number;
}

/** Some texts of one file, in a form that can be handed to another thread. */
export type TextChunk = LinesChunk | TextsChunk;

/** Whether each text of a chunk is a document. Otherwise all lines of its file are one. */
export function areDocuments(chunk: TextChunk): boolean {
  return chunk.kind === 'texts' || chunk.lineFormat.format === 'jsonl';
}

/** Texts in a fixed order. */
export interface TextSource {
  readonly kind: 'files' | 'texts';
  /**
   * The texts from a position on. When the source fails, what came before the failure comes first.
   *
   * @param closed when it aborts, the source waits no longer for a server or the standard input, and fails
   */
  read(from: TextPosition, closed?: AbortSignal): AsyncGenerator<TextChunk, void, undefined>;
  /** Names a file in a saved state, so that a state that meets other files is noticed. */
  mark(file: number): string;
  /** Says in words where some texts are, from the first one to the last. */
  locate(origin: BlockOrigin): Promise<string>;
  /** Marks of the content. */
  identity(): Promise<{ [key: string]: Json }>;
}

/** UTF-16 units in a chunk of texts. */
const CHUNK_SIZE = 16_384;

/** What an empty text counts for, so that a million empty ones are not one chunk. */
const TEXT_OVERHEAD = 16;

/** A text with its place, as a source reads it. */
export interface PlacedText {
  text: string;
  /** What comes before it, where prompts were asked for. */
  prompt?: string | undefined;
  offset: number;
  /** Offset of what follows. */
  end: number;
}

/**
 * Gathers the texts of one file into chunks.
 *
 * @param nameOf names a text in messages by its offset
 */
export async function* inChunks(
  file: number,
  batches: AsyncIterable<readonly PlacedText[]>,
  nameOf: (offset: number) => string,
): AsyncGenerator<TextsChunk, void> {
  let chunk: TextsChunk | undefined;
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
      for (const { text, prompt, offset, end } of next.value) {
        const prompts = prompt === undefined ? undefined : [];
        chunk ??= { kind: 'texts', file, texts: [], prompts, nameOf, offsets: [], end };
        chunk.texts.push(text);
        if (prompt !== undefined) chunk.prompts?.push(prompt);
        chunk.offsets.push(offset);
        chunk.end = end;
        size += text.length + (prompt?.length ?? 0) + TEXT_OVERHEAD;
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
