import { read } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { KotodamaError } from '../errors.js';
import { ioError } from '../files.js';
import { HEADER_BYTES, TOKEN_TYPES, type TokenFile } from './token-file.js';

/** Ids that follow each other in one file, and where their bytes go. */
interface Piece {
  /** Index of the file. */
  file: number;
  /** Number of the first id in its file. */
  offset: number;
  count: number;
  /** Index of the first id in the target, which is also its place in the buffer. */
  index: number;
}

type Failure = KotodamaError | undefined;

/** Bytes kept for an id, of whatever type. */
const ID_BYTES = 4;

/**
 * Token files one after the other, as one sequence of ids that can be read anywhere. They are read by position, through the
 * system's page cache. (A memory map would do the same, but a file that becomes shorter would then end the process.)
 */
export class TokenFileReader {
  private readonly files: readonly TokenFile[];
  /** Number of the first id of each file, and the number of all. */
  private readonly starts: readonly number[];
  private readonly vocabSize: number;
  private readonly handles: (Promise<FileHandle | KotodamaError> | undefined)[] = [];
  private buffer = new Uint8Array(0);

  /** @param vocabSize every id must be below it */
  constructor(files: readonly TokenFile[], vocabSize: number) {
    this.files = files;
    this.starts = startsOf(files);
    this.vocabSize = vocabSize;
  }

  /**
   * Reads ranges of ids, all at once, so that the disk has many requests to order. The next call must wait for this one.
   *
   * @param firsts number of the first id of each range
   * @param length ids in a range; what lies beyond the last file is not written
   * @param target the ranges, one after the other
   * @returns the failure of each range, or undefined: `ERR_DATA` for an id that is not in the vocabulary, or a file that
   *   became shorter; `ERR_IO`
   */
  async read(firsts: readonly number[], length: number, target: Int32Array): Promise<Failure[]> {
    const size = firsts.length * length * ID_BYTES;
    if (this.buffer.length < size) this.buffer = new Uint8Array(size);
    const ranges = firsts.map((first, range) => this.piecesOf(first, length, range * length));
    const failures = await this.readAll(ranges);
    for (const [range, pieces] of ranges.entries()) {
      for (const piece of pieces) failures[range] ??= this.decode(piece, target);
    }
    return failures;
  }

  /** Closes the files. No read may be under way. */
  async close(): Promise<void> {
    const opened = await Promise.all(this.handles);
    this.handles.length = 0;
    await Promise.all(opened.map((handle) => (handle instanceof KotodamaError ? undefined : handle?.close())));
  }

  private piecesOf(first: number, length: number, start: number): Piece[] {
    const pieces: Piece[] = [];
    let file = this.fileOf(first);
    for (let filled = 0; filled < length && file < this.files.length; file++) {
      const offset = first + filled - (this.starts[file] as number);
      const count = Math.min(length - filled, (this.files[file] as TokenFile).tokens - offset);
      if (count > 0) pieces.push({ file, offset, count, index: start + filled });
      filled += count;
    }
    return pieces;
  }

  private async readAll(ranges: readonly (readonly Piece[])[]): Promise<Failure[]> {
    for (const { file } of ranges.flat()) this.handles[file] ??= openFile((this.files[file] as TokenFile).path);
    const opened = await Promise.all(this.handles);
    const failures = ranges.map((): Failure => undefined);
    // One promise for all of them: a promise for each read would cost as much as the read.
    await new Promise<void>((resolve) => {
      let left = 1;
      const finish = () => {
        if (--left === 0) resolve();
      };
      for (const [range, pieces] of ranges.entries()) {
        for (const piece of pieces) {
          left++;
          this.readPiece(piece, opened[piece.file] as FileHandle | KotodamaError, (failure) => {
            failures[range] ??= failure;
            finish();
          });
        }
      }
      finish();
    });
    return failures;
  }

  private readPiece(piece: Piece, handle: FileHandle | KotodamaError, done: (failure?: KotodamaError) => void): void {
    if (handle instanceof KotodamaError) {
      done(handle);
      return;
    }
    const { path, dtype } = this.files[piece.file] as TokenFile;
    const { bytes } = TOKEN_TYPES[dtype];
    const position = HEADER_BYTES + piece.offset * bytes;
    const start = piece.index * ID_BYTES;
    const size = piece.count * bytes;
    const next = (from: number) => {
      read(handle.fd, this.buffer, start + from, size - from, position + from, (error, count) => {
        if (error !== null) done(ioError(error, `The token file ${path} cannot be read`));
        else if (count === 0) done(new KotodamaError('ERR_DATA', `${path} became shorter while it was read`));
        else if (from + count < size) next(from + count);
        else done();
      });
    };
    next(0);
  }

  /** Takes ids out of the buffer and checks them. */
  private decode({ file, offset, count, index }: Piece, target: Int32Array): Failure {
    const { buffer, vocabSize } = this;
    const found = this.files[file] as TokenFile;
    const ids = new (found.dtype === 'uint16' ? Uint16Array : Uint32Array)(buffer.buffer, index * ID_BYTES, count);
    for (let i = 0; i < count; i++) {
      const id = ids[i] as number;
      if (id >= vocabSize) return unknownId(found, offset + i, id, vocabSize);
      target[index + i] = id;
    }
    return undefined;
  }

  /** The file that id number `first` is in: the last one that begins at or before it. */
  private fileOf(first: number): number {
    let low = 0;
    let high = this.files.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.starts[middle] as number) <= first) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** A handle, or why there is none. */
function openFile(path: string): Promise<FileHandle | KotodamaError> {
  return open(path).catch((cause: unknown) => ioError(cause, `The token file ${path} cannot be read`));
}

function unknownId({ path }: TokenFile, index: number, id: number, vocabSize: number): KotodamaError {
  return new KotodamaError('ERR_DATA', `${path} holds an id that is not in the vocabulary, at token ${index}`, {
    expected: `ids below ${vocabSize}`,
    received: String(id),
    hint: 'use the tokenizer that the file was written with',
  });
}

function startsOf(files: readonly TokenFile[]): number[] {
  const starts = [0];
  for (const { tokens } of files) starts.push((starts.at(-1) as number) + tokens);
  return starts;
}
