import { KotodamaError } from '../../errors.js';
import { HEAD_BYTES, refuseArchive } from './archives.js';
import { changed } from './changed.js';
import { compressionOf, MAGIC_BYTES, unpack } from './compression.js';
import { decoded } from './encoding.js';
import { readFileBytes } from './file-bytes.js';
import { LineCounter } from './line-counter.js';
import { chunkLines, countLines, followedBy, skipBytes } from './lines.js';
import type { Place } from './names.js';
import type { LineFormat, LinesChunk } from './text-source.js';
import { readUrlBytes } from './url-bytes.js';

/** Bytes in which lines are counted to tell where a text is: some ten seconds. */
const MOST_COUNTED = 16 * 2 ** 30;

/** The lines of a file, a URL or the standard input, compressed or not. Offsets count bytes of UTF-8. */
export class LineInput {
  private readonly place: Place;
  private readonly lineFormat: LineFormat;
  private begun = false;
  /** Where lines were counted last. */
  private counted = { offset: 0, lines: 0 };

  constructor(
    place: Place,
    options: { [Name in keyof Omit<LineFormat, 'format'>]?: LineFormat[Name] | undefined } = {},
  ) {
    this.place = place;
    const { field = 'text', promptField, encoding = 'utf-8', keepLinebreaks = false } = options;
    const format = place.format === 'jsonl' ? 'jsonl' : 'text';
    this.lineFormat = { format, field, promptField, encoding, keepLinebreaks };
  }

  /**
   * The lines from an offset on, some at a time. Those before a failure come first.
   *
   * @param closed see `TextSource.read`
   */
  async *read(from: number, closed?: AbortSignal): AsyncGenerator<Omit<LinesChunk, 'file'>, void> {
    const { bytes, linesBefore } = await this.openAt(from, closed);
    const counter = new LineCounter(this.place.name, linesBefore, () => this.countLines(from));
    const common = { kind: 'lines', lineFormat: this.lineFormat, counter } as const;
    for await (const lines of chunkLines(bytes, from)) yield { ...common, ...lines };
  }

  /** The bytes from the line at `from` on, and the number of lines before it where that is known. */
  private async openAt(
    from: number,
    closed: AbortSignal | undefined,
  ): Promise<{ bytes: Bytes; linesBefore: number | undefined }> {
    const { kind, path, name } = this.place;
    // A file that is neither compressed nor decoded can be entered anywhere; the byte before shows whether a line begins there.
    const seek = kind === 'file' && from > 0 && (await this.isPlain());
    const start = seek ? from - 1 : 0;
    const raw = seek ? readFileBytes(path, start) : await this.openUnpacked(closed);
    const { atLineStart, lines, rest } = await skipBytes(raw, from - start);
    if (!atLineStart) {
      await raw.return();
      throw changed(`In ${name} no line begins at byte ${from}`);
    }
    return { bytes: rest, linesBefore: seek ? undefined : lines };
  }

  /** Whether the bytes of the file are those of the text. */
  private async isPlain(): Promise<boolean> {
    const { path, name, compression } = this.place;
    return this.lineFormat.encoding === 'utf-8' && compressionOf(await headOf(path), compression, name) === undefined;
  }

  private async openUnpacked(closed: AbortSignal | undefined): Promise<Bytes> {
    const { name, compression: promised } = this.place;
    let unpackedOnTheWay = false;
    const raw = this.openRaw(() => {
      unpackedOnTheWay = true;
    }, closed);
    /** What was begun last; it closes what is under it. */
    let open = raw;
    try {
      let content = await peek(raw);
      // Such a server may have taken the .gz of the name for its own packing of the way, which is gone; the bytes tell.
      const compression = compressionOf(content.head, unpackedOnTheWay ? undefined : promised, name);
      if (compression !== undefined) {
        open = unpack(content.bytes, compression, name);
        content = await peek(open);
      }
      refuseArchive(content.head, name);
      const { encoding } = this.lineFormat;
      return encoding === 'utf-8' ? content.bytes : decoded(content.bytes, encoding, name);
    } catch (error) {
      await open.return();
      throw error;
    }
  }

  /** @param onUnpacked called before the first bytes of what the server packed for the way */
  private openRaw(onUnpacked: () => void, closed: AbortSignal | undefined): Bytes {
    const { kind, path } = this.place;
    if (kind === 'file') return readFileBytes(path, 0);
    if (kind === 'url') return readUrlBytes(path, onUnpacked, closed);
    if (this.begun) {
      throw new KotodamaError('ERR_DATA', 'The standard input can be read only once, and was', {
        hint: 'save it to a file and give that, or train for one epoch',
      });
    }
    this.begun = true;
    return readStandardInput(closed);
  }

  /** Lines are counted in files that are not compressed; elsewhere, and far into a huge one, the byte must do. */
  async locate(offset: number): Promise<{ unit: string; number: number }> {
    const plain = this.place.kind === 'file' && (await this.isPlain());
    if (!plain || offset > MOST_COUNTED) return { unit: 'byte', number: offset };
    return { unit: 'line', number: (await this.countLines(offset)) + 1 };
  }

  /** Lines of the file before an offset. Questions that go forwards read no byte twice. */
  private async countLines(offset: number): Promise<number> {
    const start = this.counted.offset <= offset ? this.counted : { offset: 0, lines: 0 };
    let { lines } = start;
    let left = offset - start.offset;
    if (left > 0) {
      for await (const piece of readFileBytes(this.place.path, start.offset)) {
        lines += countLines(piece.subarray(0, left));
        left -= piece.length;
        if (left <= 0) break;
      }
    }
    this.counted = { offset, lines };
    return lines;
  }
}

type Bytes = AsyncGenerator<Uint8Array, void>;

async function* readStandardInput(closed: AbortSignal | undefined): Bytes {
  const close = () => process.stdin.destroy();
  closed?.throwIfAborted();
  closed?.addEventListener('abort', close, { once: true });
  try {
    for await (const piece of process.stdin) yield piece as Buffer;
  } finally {
    closed?.removeEventListener('abort', close);
  }
}

async function headOf(path: string): Promise<Uint8Array> {
  for await (const piece of readFileBytes(path, 0)) return piece.subarray(0, MAGIC_BYTES);
  return new Uint8Array(0);
}

/** The first bytes, and all of them again. A failure after some of them comes once more, after them. */
async function peek(raw: Bytes): Promise<{ head: Uint8Array; bytes: Bytes }> {
  let head: Uint8Array = new Uint8Array(0);
  try {
    while (head.length < HEAD_BYTES) {
      const { done, value } = await raw.next();
      if (done === true) break;
      head = Buffer.concat([head, value]);
    }
  } catch (cause) {
    if (head.length < MAGIC_BYTES) throw cause;
    return { head, bytes: endingWith(cause, followedBy(head, raw)) };
  }
  return { head, bytes: followedBy(head, raw) };
}

async function* endingWith(cause: unknown, bytes: Bytes): Bytes {
  yield* bytes;
  throw cause;
}
