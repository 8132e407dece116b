import { read } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { KotodamaError } from '../errors.js';
import { ioError } from '../files.js';
import { HEADER_BYTES, TOKEN_TYPES, type TokenFile } from './token-file.js';

/** Token files one after the other, as one sequence of ids that can be read anywhere. */
export class TokenFileReader {
  private readonly files: readonly TokenFile[];
  /** Number of the first id of each file, and the number of all. */
  private readonly starts: readonly number[];
  private readonly vocabSize: number;
  private readonly handles: (Promise<FileHandle> | undefined)[] = [];

  /** @param vocabSize every id must be below it */
  constructor(files: readonly TokenFile[], vocabSize: number) {
    this.files = files;
    this.starts = startsOf(files);
    this.vocabSize = vocabSize;
  }

  /**
   * Fills `target` with the ids from number `first` on, which must all be there.
   *
   * @throws KotodamaError `ERR_DATA` for an id that is not in the vocabulary, or a file that became shorter; `ERR_IO`.
   */
  async read(first: number, target: Int32Array): Promise<void> {
    let index = this.fileOf(first);
    let filled = 0;
    while (filled < target.length) {
      const offset = first + filled - (this.starts[index] as number);
      const count = Math.min(target.length - filled, (this.files[index] as TokenFile).tokens - offset);
      if (count > 0) await this.readFrom(index, offset, target.subarray(filled, filled + count));
      filled += count;
      index++;
    }
  }

  /** Closes the files. No read may be under way. */
  async close(): Promise<void> {
    const opened = await Promise.allSettled(this.handles);
    this.handles.length = 0;
    await Promise.all(opened.map((result) => (result.status === 'fulfilled' ? result.value?.close() : undefined)));
  }

  private async readFrom(index: number, offset: number, target: Int32Array): Promise<void> {
    const file = this.files[index] as TokenFile;
    const { bytes } = TOKEN_TYPES[file.dtype];
    // The raw ids go where the target ends, so that uint16 can be widened in place from its beginning.
    const size = target.length * bytes;
    const raw = new Uint8Array(target.buffer, target.byteOffset + target.byteLength - size, size);
    try {
      this.handles[index] ??= open(file.path);
      const { fd } = await (this.handles[index] as Promise<FileHandle>);
      const done = await readFully(fd, raw, HEADER_BYTES + offset * bytes);
      if (done < size) throw new KotodamaError('ERR_DATA', `${file.path} became shorter while it was read`);
    } catch (cause) {
      throw ioError(cause, `The token file ${file.path} cannot be read`);
    }
    const ids = bytes === 2 ? new Uint16Array(raw.buffer, raw.byteOffset, target.length) : target;
    for (let i = 0; i < target.length; i++) {
      // Ids from 2^31 on are negative in an Int32Array.
      const id = (ids[i] as number) >>> 0;
      if (id >= this.vocabSize) throw this.unknownId(file, offset + i, id);
      target[i] = id;
    }
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

  private unknownId(file: TokenFile, index: number, id: number): KotodamaError {
    return new KotodamaError('ERR_DATA', `${file.path} holds an id that is not in the vocabulary, at token ${index}`, {
      expected: `ids below ${this.vocabSize}`,
      received: String(id),
      hint: 'use the tokenizer that the file was written with',
    });
  }
}

function startsOf(files: readonly TokenFile[]): number[] {
  const starts = [0];
  for (const { tokens } of files) starts.push((starts.at(-1) as number) + tokens);
  return starts;
}

/**
 * Reads until `target` is full or the file ends, and gives the number of bytes. The callback costs half of what the
 * promise of a FileHandle does.
 */
function readFully(fd: number, target: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const next = () => {
      read(fd, target, done, target.length - done, position + done, (error, bytesRead) => {
        if (error !== null) return reject(error);
        done += bytesRead;
        if (bytesRead === 0 || done === target.length) resolve(done);
        else next();
      });
    };
    next();
  });
}
