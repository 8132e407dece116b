/** Some whole lines as their bytes, or the place of a line that is too long. */
export interface LineBytes {
  /**
   * The lines with their line ends, in memory of their own; only the last line of all may have none. Of a line that is too
   * long its beginning, {@link HEAD_BYTES}.
   */
  bytes: Uint8Array<ArrayBuffer>;
  /** Offset of the first byte. */
  offset: number;
  /** Offset of what follows. */
  end: number;
  /** True for a single line of more than {@link MAX_LINE} bytes. */
  tooLong: boolean;
}

/** Bytes of the longest line that is read. A decompressed bomb has no line ends, and must not fill the memory. */
export const MAX_LINE = 64 * 1024 * 1024;

/** Little enough to encode in some milliseconds, enough to make a trip to a worker worth it. */
const CHUNK_BYTES = 128 * 1024;

/** What is kept of a line that is too long. */
const HEAD_BYTES = 64;

const NEWLINE = 0x0a;

/**
 * Gathers bytes into chunks of whole lines, of about {@link CHUNK_BYTES} unless a line is longer. When the bytes fail, the
 * whole lines before the failure come first.
 *
 * @param pieces the bytes from the beginning of a line on; each is copied before the next one is asked for
 * @param from offset of that line
 */
export async function* chunkLines(pieces: AsyncIterable<Uint8Array>, from: number): AsyncGenerator<LineBytes, void> {
  const gathered = new LineBuffer(from);
  const iterator = pieces[Symbol.asyncIterator]();
  let failure: { cause: unknown } | undefined;
  try {
    for (;;) {
      // `yield` must not be inside what notes the failure.
      const next = await iterator.next().catch((cause: unknown) => {
        failure = { cause };
      });
      if (next === undefined || next.done === true) break;
      for (let rest = next.value; rest.length > 0; ) {
        rest = gathered.add(rest);
        const lines = gathered.take();
        if (lines !== undefined) yield lines;
      }
    }
    const last = failure === undefined ? gathered.takeAll() : gathered.takeWhole();
    if (last !== undefined) yield last;
  } finally {
    await iterator.return?.();
  }
  if (failure !== undefined) throw failure.cause;
}

/** Bytes that wait for the end of their line. */
class LineBuffer {
  private offset: number;
  private buffer = new Uint8Array(CHUNK_BYTES);
  private used = 0;
  /** Bytes of a line that is too long; they are not in the buffer, which holds its beginning. */
  private dropped = 0;
  /** Whether the line that is dropped has ended. */
  private complete = false;

  constructor(from: number) {
    this.offset = from;
  }

  /** Adds the first bytes of a piece and gives the others. */
  add(piece: Uint8Array): Uint8Array {
    if (this.dropped > 0) {
      const end = piece.indexOf(NEWLINE) + 1;
      this.complete = end > 0;
      const taken = this.complete ? end : piece.length;
      this.dropped += taken;
      return piece.subarray(taken);
    }
    const taken = piece.subarray(0, this.buffer.length - this.used);
    this.buffer.set(taken, this.used);
    this.used += taken.length;
    return piece.subarray(taken.length);
  }

  /** The lines gathered so far if the buffer is full. */
  take(): LineBytes | undefined {
    if (this.complete) return this.takeDropped();
    if (this.used < this.buffer.length) return undefined;
    const lines = this.takeWhole();
    if (lines !== undefined || this.dropped > 0) return lines;
    if (this.used > MAX_LINE) {
      this.dropped = this.used;
      this.used = 0;
      this.buffer = this.buffer.slice(0, HEAD_BYTES);
      return undefined;
    }
    const longer = new Uint8Array(Math.min(2 * this.buffer.length, MAX_LINE + 1));
    longer.set(this.buffer);
    this.buffer = longer;
    return undefined;
  }

  /** The lines that have ended. */
  takeWhole(): LineBytes | undefined {
    const end = this.buffer.subarray(0, this.used).lastIndexOf(NEWLINE) + 1;
    return end === 0 ? undefined : this.cut(end);
  }

  /** All that there is; the last line need not have ended. */
  takeAll(): LineBytes | undefined {
    if (this.dropped > 0) return this.takeDropped();
    return this.used === 0 ? undefined : this.cut(this.used);
  }

  private takeDropped(): LineBytes {
    const { buffer, offset, dropped } = this;
    this.buffer = new Uint8Array(CHUNK_BYTES);
    this.offset += dropped;
    this.dropped = 0;
    this.complete = false;
    return { bytes: buffer, offset, end: this.offset, tooLong: true };
  }

  private cut(end: number): LineBytes {
    const { buffer, offset } = this;
    const rest = buffer.subarray(end, this.used);
    this.buffer = new Uint8Array(Math.max(CHUNK_BYTES, 2 * rest.length));
    this.buffer.set(rest);
    this.used = rest.length;
    this.offset += end;
    return { bytes: buffer.subarray(0, end), offset, end: this.offset, tooLong: false };
  }
}

/** Line ends in some bytes. */
export function countLines(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** What {@link skipBytes} found. */
export interface Skipped {
  /** Whether the bytes that are left begin a line, or there are none. */
  atLineStart: boolean;
  /** Line ends that were skipped. */
  lines: number;
  rest: AsyncGenerator<Uint8Array, void>;
}

/** Drops the first `count` bytes. Closing `rest` closes `pieces`. */
export async function skipBytes(pieces: AsyncGenerator<Uint8Array, void>, count: number): Promise<Skipped> {
  let left = count;
  let lines = 0;
  let last = NEWLINE;
  let first: Uint8Array | undefined;
  while (left > 0 || first === undefined) {
    const { done, value } = await pieces.next();
    if (done === true) return { atLineStart: left === 0, lines, rest: pieces };
    const dropped = value.subarray(0, left);
    left -= dropped.length;
    lines += countLines(dropped);
    last = dropped.at(-1) ?? last;
    if (dropped.length < value.length) first = value.subarray(dropped.length);
  }
  return { atLineStart: last === NEWLINE, lines, rest: followedBy(first, pieces) };
}

/** Puts a piece that was taken back before the others. */
export async function* followedBy(
  first: Uint8Array,
  rest: AsyncGenerator<Uint8Array, void>,
): AsyncGenerator<Uint8Array, void> {
  try {
    if (first.length > 0) yield first;
    yield* rest;
  } finally {
    await rest.return();
  }
}
