import { XxHash64 } from './xxhash64.js';
import { BlockDecoder, littleEndian, MAX_BLOCK } from './zstd-block.js';
import { ZstdError } from './zstd-tables.js';

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;

/** Bytes that a frame may look back, as the zstd program has it without `--long=31`. */
const MAX_WINDOW = 2 ** 27;

/**
 * Unpacks Zstandard data (RFC 8878), also of several frames. What was unpacked before a failure comes first. Memory is
 * twice what the frame looks back (8 MB at most levels). Where a frame has a checksum, as the zstd program writes it, damage
 * that still unpacks is noticed at the end of the frame.
 *
 * @throws ZstdError when the data is damaged or cut off, or needs a dictionary or more than 128 MB to look back
 */
export async function* unzstd(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const input = new Input(pieces);
  try {
    while (!(await input.atEnd())) {
      const magic = littleEndian(await input.take(4), 0, 4);
      if (magic === MAGIC) yield* readFrame(input);
      else if (magic >>> 4 === SKIPPABLE >>> 4) await input.skip(littleEndian(await input.take(4), 0, 4));
      else throw new ZstdError('something else follows the data');
    }
  } finally {
    await input.close();
  }
}

async function* readFrame(input: Input): AsyncGenerator<Uint8Array, void> {
  const { window, size, checksum } = await readHeader(input);
  const decoder = new BlockDecoder();
  const hash = checksum ? new XxHash64() : undefined;
  const blockSize = Math.min(window, MAX_BLOCK);
  // Twice the window, so that moving it to the front costs each byte one copy.
  const output = new Uint8Array(
    Math.min(2 * window + 2 * MAX_BLOCK, Math.max(size ?? Number.POSITIVE_INFINITY, window)),
  );
  let [position, total] = [0, 0];
  for (let last = false; !last; ) {
    const header = littleEndian(await input.take(3), 0, 3);
    last = (header & 1) === 1;
    const [kind, length] = [(header >> 1) & 3, header >> 3];
    if (kind === 3 || length > blockSize) throw new ZstdError('a block is not possible');
    const data = await input.take(kind === 1 ? 1 : length);
    if (position + blockSize > output.length && position > window) {
      output.copyWithin(0, position - window, position);
      position = window;
    }
    const limit = Math.min(output.length, position + blockSize);
    let end = position + length;
    if (kind === 2) end = decoder.decode(data, output, position, limit);
    else if (end > limit) throw new ZstdError('a frame is longer than it says');
    else if (kind === 0) output.set(data, position);
    else output.fill(data[0] as number, position, end);
    total += end - position;
    hash?.update(output.subarray(position, end));
    if (end > position) yield output.slice(position, end);
    position = end;
  }
  if (size !== undefined && total !== size) throw new ZstdError(`a frame has ${total} bytes, not ${size}`);
  if (hash !== undefined) checkHash(hash.low(), littleEndian(await input.take(4), 0, 4));
}

/** RFC 8878, 3.1.1: the low 4 bytes of the XXH64 of what the frame holds. */
function checkHash(found: number, written: number): void {
  if (found === written) return;
  const [its, ours] = [written, found].map((hash) => hash.toString(16).padStart(8, '0'));
  throw new ZstdError(`a frame has the checksum ${its}, and its content ${ours}`);
}

/** RFC 8878, 3.1.1.1 */
async function readHeader(input: Input): Promise<{ window: number; size: number | undefined; checksum: boolean }> {
  const [flags = 0] = await input.take(1);
  const single = (flags & 32) !== 0;
  if ((flags & 8) !== 0) throw new ZstdError('a frame header is not possible');
  let window = 0;
  if (!single) {
    const [exponent = 0] = await input.take(1);
    window = 2 ** (10 + (exponent >> 3)) * (1 + (exponent & 7) / 8);
  }
  const dictionary = await input.take([0, 1, 2, 4][flags & 3] as number);
  if (dictionary.some((byte) => byte !== 0)) throw new ZstdError('it needs a dictionary');
  const bytes = flags >> 6 === 0 ? (single ? 1 : 0) : 2 ** (flags >> 6);
  const field = await input.take(bytes);
  if (bytes === 8 && littleEndian(field, 6, 2) > 0) throw new ZstdError('a frame header is not possible');
  const size = bytes === 0 ? undefined : littleEndian(field, 0, Math.min(bytes, 6)) + (bytes === 2 ? 256 : 0);
  if (single) window = size as number;
  if (window > MAX_WINDOW) throw new ZstdError(`it looks back ${window} bytes, and at most ${MAX_WINDOW} are allowed`);
  return { window, size, checksum: (flags & 4) !== 0 };
}

/** Bytes in the amounts that are asked for. */
class Input {
  private readonly pieces: AsyncIterator<Uint8Array>;
  private piece: Uint8Array = new Uint8Array(0);
  private used = 0;

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.pieces = pieces[Symbol.asyncIterator]();
  }

  async atEnd(): Promise<boolean> {
    while (this.used === this.piece.length) {
      const { done, value } = await this.pieces.next();
      if (done === true) return true;
      this.piece = value;
      this.used = 0;
    }
    return false;
  }

  async take(count: number): Promise<Uint8Array> {
    if (count <= this.piece.length - this.used) {
      this.used += count;
      return this.piece.subarray(this.used - count, this.used);
    }
    const taken = new Uint8Array(count);
    for (let filled = 0; filled < count; ) filled += await this.next(count - filled, (part) => taken.set(part, filled));
    return taken;
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; ) left -= await this.next(left, () => {});
  }

  async close(): Promise<void> {
    await this.pieces.return?.();
  }

  private async next(most: number, use: (part: Uint8Array) => void): Promise<number> {
    if (await this.atEnd()) throw new ZstdError('unexpected end of file');
    const part = this.piece.subarray(this.used, this.used + most);
    this.used += part.length;
    use(part);
    return part.length;
  }
}
