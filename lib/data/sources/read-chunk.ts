import { isUtf8 } from 'node:buffer';
import { type OnBadRecord, type Problem, reject } from './bad-records.js';
import type { LineBytes } from './lines.js';
import { jsonReader, textReader, tooLongProblem } from './records.js';
import type { LinesChunk, TextChunk, TextsChunk } from './text-source.js';

const NEWLINE = 0x0a;

/** What reading a chunk needs to know; survives `structuredClone`. */
export type ChunkContent =
  | ({ kind: 'lines' } & LineBytes & Pick<LinesChunk, 'lineFormat'>)
  | ({ kind: 'texts' } & Pick<TextsChunk, 'texts' | 'prompts'>);

/** Takes the texts of a chunk one by one. */
export interface TextVisitor {
  /** @param offset where the text begins in its file */
  utf8(bytes: Uint8Array, start: number, end: number, offset: number): void;
  text(text: string, offset: number): void;
  /** A text with the prompt before it, where the source was asked for those. Gives what is wrong with them. */
  pair?(prompt: string, text: string, offset: number): Problem | undefined;
}

/** A line that holds no text although it should, or one that nothing can be done with. */
export interface LineProblem {
  /** Index among the lines, or texts, of its chunk. */
  line: number;
  problem: Problem;
}

export interface LinesRead {
  /** Lines in the chunk. */
  lines: number;
  problems: LineProblem[];
}

/** The part of a chunk that a reader in any thread needs. */
export function contentOf(chunk: TextChunk): ChunkContent {
  if (chunk.kind === 'texts') return { kind: 'texts', texts: chunk.texts, prompts: chunk.prompts };
  const { bytes, offset, end, tooLong, lineFormat } = chunk;
  return { kind: 'lines', bytes, offset, end, tooLong, lineFormat };
}

/**
 * Hands the texts of a chunk to a visitor.
 *
 * @param skipBad whether reading goes on after a line that holds no text
 */
export function visitTexts(chunk: ChunkContent, visitor: TextVisitor, skipBad: boolean): LinesRead {
  if (chunk.kind === 'lines') return visitLines(chunk, visitor, skipBad);
  const problems: LineProblem[] = [];
  for (const [index, text] of chunk.texts.entries()) {
    const prompt = chunk.prompts?.[index];
    if (prompt === undefined) visitor.text(text, index);
    else {
      const problem = visitor.pair?.(prompt, text, index);
      if (problem === undefined) continue;
      problems.push({ line: index, problem });
      if (!skipBad) break;
    }
  }
  return { lines: 0, problems };
}

/** The texts of a chunk as strings; those before the first bad line if there is one. */
export function textsIn(chunk: ChunkContent): LinesRead & { texts: string[] } {
  const texts: string[] = [];
  const visitor: TextVisitor = {
    utf8: ({ buffer, byteOffset }, start, end) => {
      texts.push(Buffer.from(buffer, byteOffset + start, end - start).toString('utf8'));
    },
    text: (text) => texts.push(text),
  };
  return { ...visitTexts(chunk, visitor, false), texts };
}

function visitLines(
  { bytes: data, offset, tooLong, lineFormat }: ChunkContent & { kind: 'lines' },
  visitor: TextVisitor,
  skipBad: boolean,
): LinesRead {
  if (tooLong) return { lines: 1, problems: [{ line: 0, problem: tooLongProblem(lineFormat.format, offset, data) }] };
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const readLine = lineFormat.format === 'jsonl' ? jsonReader(lineFormat) : textReader(lineFormat);
  const wellFormed = isUtf8(bytes);
  const problems: LineProblem[] = [];
  let line = 0;
  for (let start = 0; start < bytes.length; line++) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline < 0 ? bytes.length : newline;
    const problem = readLine({ bytes, start, end, ended: newline >= 0, offset: offset + start, wellFormed }, visitor);
    if (problem !== undefined) {
      problems.push({ line, problem });
      if (!skipBad) return { lines: line + 1, problems };
    }
    start = end + 1;
  }
  return { lines: line, problems };
}

/** Ends the pass with the first bad line of a chunk, or reports them all. */
export async function reportProblems(chunk: TextChunk, read: LinesRead, onBad: OnBadRecord): Promise<void> {
  if (chunk.kind === 'texts') {
    for (const { line, problem } of read.problems) reject(chunk.nameOf(chunk.offsets[line] as number), problem, onBad);
    return;
  }
  for (const { line, problem } of read.problems) reject(await chunk.counter.nameOf(line), problem, onBad);
  chunk.counter.advance(read.lines);
}
