/** A line as its bytes. */
export interface Line {
  /** Without the `\n` at its end; undefined when there are more than {@link MAX_LINE}. */
  bytes: Buffer | undefined;
  /** Offset of its first byte. */
  offset: number;
  /** Offset of what follows. */
  end: number;
  /** Whether a `\n` ended it: only the last line may have none. */
  ended: boolean;
}

/** Bytes of the longest line that is read. A decompressed bomb has no line ends, and must not fill the memory. */
export const MAX_LINE = 64 * 1024 * 1024;

const NEWLINE = 0x0a;

/**
 * Cuts bytes into lines, as many at a time as a piece of the bytes holds.
 *
 * @param pieces the bytes from the beginning of a line on; the pieces must not be changed afterwards
 * @param from offset of that line
 */
export async function* cutLines(pieces: AsyncIterable<Uint8Array>, from: number): AsyncGenerator<Line[], void> {
  let offset = from;
  /** What was read of the line at `offset`. */
  let parts: Uint8Array[] = [];
  let length = 0;
  const take = (part: Uint8Array, ended: boolean): Line => {
    add(part);
    const bytes = length > MAX_LINE ? undefined : parts.length === 1 ? bufferOf(part) : Buffer.concat(parts, length);
    const line = { bytes, offset, end: offset + length + (ended ? 1 : 0), ended };
    offset = line.end;
    parts = [];
    length = 0;
    return line;
  };
  const add = (part: Uint8Array) => {
    length += part.length;
    if (length > MAX_LINE) parts = [];
    else parts.push(part);
  };
  for await (const piece of pieces) {
    const lines: Line[] = [];
    let start = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, start)) {
      lines.push(take(piece.subarray(start, end), true));
      start = end + 1;
    }
    if (start < piece.length) add(piece.subarray(start));
    if (lines.length > 0) yield lines;
  }
  if (length > 0) yield [take(new Uint8Array(0), false)];
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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
