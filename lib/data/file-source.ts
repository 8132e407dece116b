import { constants } from 'node:buffer';
import { statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { KotodamaError, messageOf } from '../errors.js';
import { inChunks, type PlacedText, type TextChunk, type TextPosition, type TextSource } from './text-source.js';
import { firstBadByte } from './utf8.js';

const READ_SIZE = 256 * 1024;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * The lines of files, one file after the other, without their `\n` or `\r\n`. Files are streamed: memory is that of the
 * longest line. Every byte must be UTF-8.
 */
export class FileSource implements TextSource {
  readonly kind = 'files';
  private readonly paths: readonly string[];

  /** @throws KotodamaError `ERR_IO` when one cannot be opened or is not a file, `ERR_DATA` when one is empty */
  constructor(paths: readonly string[]) {
    for (const path of paths) checkFile(path);
    this.paths = paths;
  }

  async *read(from: TextPosition): AsyncGenerator<TextChunk, void> {
    if (from.file >= this.paths.length) throw changed(`There is no file number ${from.file + 1}`);
    for (const [file, path] of this.paths.entries()) {
      if (file < from.file) continue;
      yield* inChunks(file, readLines(path, file === from.file ? from.offset : 0));
    }
  }
}

function checkFile(path: string): void {
  let problem: { code: 'ERR_IO' | 'ERR_DATA'; received: string; cause?: unknown } | undefined;
  try {
    const found = statSync(path);
    if (found.isDirectory()) problem = { code: 'ERR_IO', received: 'a directory' };
    else if (!found.isFile()) problem = { code: 'ERR_IO', received: 'a pipe or device' };
    else if (found.size === 0) problem = { code: 'ERR_DATA', received: 'an empty file' };
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    problem = { code: 'ERR_IO', received: missing ? 'nothing: it does not exist' : messageOf(cause), cause };
  }
  if (problem === undefined) return;
  const { code, received, cause } = problem;
  throw new KotodamaError(code, `The text file ${path} cannot be used`, {
    expected: 'a file with text',
    received,
    cause,
  });
}

/** The lines of a file from a byte offset on, which is the beginning of a line. */
export async function* readLines(path: string, from: number): AsyncGenerator<PlacedText, void> {
  let handle: FileHandle;
  try {
    handle = await open(path);
  } catch (cause) {
    throw cannotRead(path, cause);
  }
  try {
    await checkLineStart(handle, path, from);
    let offset = from;
    /** What was read of the line at `offset`. */
    let parts: Buffer[] = [];
    let position = from;
    for (;;) {
      const block = await readBlock(handle, path, position);
      if (block.length === 0) break;
      position += block.length;
      let start = 0;
      for (let end = block.indexOf(NEWLINE); end >= 0; end = block.indexOf(NEWLINE, start)) {
        parts.push(block.subarray(start, end));
        const line = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
        yield { text: decodeLine(line, path, offset, true), offset, end: offset + line.length + 1 };
        offset += line.length + 1;
        parts = [];
        start = end + 1;
      }
      if (start < block.length) parts.push(block.subarray(start));
    }
    if (parts.length > 0) {
      yield { text: decodeLine(Buffer.concat(parts), path, offset, false), offset, end: position };
    }
  } finally {
    await handle.close();
  }
}

async function readBlock(handle: FileHandle, path: string, position: number): Promise<Buffer> {
  // A new buffer each time: lines that go on in the next block keep their part of this one.
  const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
  try {
    const { bytesRead } = await handle.read(buffer, 0, READ_SIZE, position);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    throw cannotRead(path, cause);
  }
}

/** A saved position still fits when the byte before it ends a line. */
async function checkLineStart(handle: FileHandle, path: string, offset: number): Promise<void> {
  if (offset === 0) return;
  const { size } = await handle.stat();
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, offset - 1);
  const atEnd = offset === size;
  if (offset <= size && bytesRead === 1 && (atEnd || buffer[0] === NEWLINE)) return;
  throw changed(`In ${path} no line begins at byte ${offset}`);
}

function decodeLine(line: Buffer, path: string, offset: number, ended: boolean): string {
  const bad = firstBadByte(line);
  if (bad >= 0) {
    throw new KotodamaError('ERR_DATA', `${path} is not UTF-8 at byte ${offset + bad}`, {
      expected: 'UTF-8 text',
      received: `the bytes ${hexadecimal(line.subarray(bad, bad + 4))}`,
      hint: `convert the file first, e.g. with iconv -f SHIFT_JIS -t UTF-8 for an older Japanese one`,
    });
  }
  if (line.length > constants.MAX_STRING_LENGTH) {
    throw new KotodamaError('ERR_DATA', `${path} has too long a line at byte ${offset}`, {
      expected: `at most ${constants.MAX_STRING_LENGTH} bytes`,
      received: `${line.length}`,
    });
  }
  const end = ended && line.at(-1) === CARRIAGE_RETURN ? line.length - 1 : line.length;
  return line.toString('utf8', 0, end);
}

function hexadecimal(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function cannotRead(path: string, cause: unknown): KotodamaError {
  return new KotodamaError('ERR_IO', `${path} cannot be read (${messageOf(cause)})`, { cause });
}

function changed(what: string): KotodamaError {
  return new KotodamaError('ERR_CHECKPOINT', `${what}, where the saved state continues`, {
    hint: 'give the same files as before, unchanged and in the same order',
  });
}
