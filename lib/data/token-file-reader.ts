import { read, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
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

/** A range's piece and the file it is read from. */
interface Wanted {
  range: number;
  piece: Piece;
  fd: number;
}

/** Bytes kept for an id, of whatever type. */
const ID_BYTES = 4;

/** What the system has in its page cache comes within this time, in milliseconds; a disk needs more. */
const PROMPT = 0.2;

/** Reads that were late, of one call, before the others are left to other threads. */
const LATE_READS = 2;

/** Calls whose reads are all left to other threads, until it is tried again here. */
const PATIENCE = 32;

/**
 * Token files one after the other, as one sequence of ids that can be read anywhere. They are read by position, through the
 * system's page cache. (A memory map would do the same, but a file that becomes shorter would then end the process.)
 *
 * What is in the cache is read in this thread, in some microseconds: going through another one costs several times that.
 * When reads turn out to wait for a disk, they are left to other threads for a while, many at a time.
 */
export class TokenFileReader {
  private readonly files: readonly TokenFile[];
  /** Number of the first id of each file, and the number of all. */
  private readonly starts: readonly number[];
  private readonly vocabSize: number;
  private readonly handles: (Promise<FileHandle | KotodamaError> | undefined)[] = [];
  private buffer = new Uint8Array(0);
  /** Calls that are still left to other threads. */
  private patience = 0;
  private readonly clock: () => number;

  /**
   * @param vocabSize every id must be below it
   * @param clock milliseconds; tests have their own
   */
  constructor(files: readonly TokenFile[], vocabSize: number, clock: () => number = () => performance.now()) {
    this.files = files;
    this.clock = clock;
    this.starts = startsOf(files);
    this.vocabSize = vocabSize;
  }

  /**
   * Reads ranges of ids, from a disk all at once, so that it has many requests to order. The next call must wait for this one.
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
    const wanted: Wanted[] = [];
    for (const [range, pieces] of ranges.entries()) {
      for (const piece of pieces) {
        const handle = opened[piece.file] as FileHandle | KotodamaError;
        if (handle instanceof KotodamaError) failures[range] ??= handle;
        else wanted.push({ range, piece, fd: handle.fd });
      }
    }
    const read = this.readHere(wanted, failures);
    if (read < wanted.length) await this.readElsewhere(wanted.slice(read), failures);
    // Whoever reads a whole file without waiting for anything else must not keep timers and signals out.
    else await setImmediate();
    return failures;
  }

  /** Reads in this thread for as long as that is quick; gives the number of those read. */
  private readHere(wanted: readonly Wanted[], failures: Failure[]): number {
    if (this.patience > 0) {
      this.patience--;
      return 0;
    }
    let late = 0;
    for (const [index, { range, piece, fd }] of wanted.entries()) {
      const start = this.clock();
      failures[range] ??= this.readPiece(piece, fd);
      if (this.clock() - start > PROMPT) late++;
      if (late === LATE_READS) {
        this.patience = PATIENCE;
        return index + 1;
      }
    }
    return wanted.length;
  }

  /** Reads in other threads, all at once. */
  private readElsewhere(wanted: readonly Wanted[], failures: Failure[]): Promise<void> {
    // One promise for all of them: a promise for each read would cost as much as the read.
    return new Promise((resolve) => {
      let left = wanted.length;
      for (const { range, piece, fd } of wanted) {
        this.beginPiece(piece, fd, (failure) => {
          failures[range] ??= failure;
          if (--left === 0) resolve();
        });
      }
    });
  }

  private readPiece(piece: Piece, fd: number): Failure {
    const { path, start, size, position } = this.bytesOf(piece);
    try {
      for (let from = 0; from < size; ) {
        const count = readSync(fd, this.buffer, start + from, size - from, position + from);
        if (count === 0) return becameShorter(path);
        from += count;
      }
      return undefined;
    } catch (error) {
      return ioError(error, `The token file ${path} cannot be read`);
    }
  }

  private beginPiece(piece: Piece, fd: number, done: (failure?: KotodamaError) => void): void {
    const { path, start, size, position } = this.bytesOf(piece);
    const next = (from: number) => {
      read(fd, this.buffer, start + from, size - from, position + from, (error, count) => {
        if (error !== null) done(ioError(error, `The token file ${path} cannot be read`));
        else if (count === 0) done(becameShorter(path));
        else if (from + count < size) next(from + count);
        else done();
      });
    };
    next(0);
  }

  /** Where the bytes of a piece go in the buffer, how many there are, and where they are in their file. */
  private bytesOf({ file, index, count, offset }: Piece): {
    path: string;
    start: number;
    size: number;
    position: number;
  } {
    const { path, dtype } = this.files[file] as TokenFile;
    const { bytes } = TOKEN_TYPES[dtype];
    return { path, start: index * ID_BYTES, size: count * bytes, position: HEADER_BYTES + offset * bytes };
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

function becameShorter(path: string): KotodamaError {
  return new KotodamaError('ERR_DATA', `${path} became shorter while it was read`);
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
