/** The entropy tables of Zstandard (RFC 8878, section 4): finite states and Huffman codes, and reading bits for them. */

/** Why data cannot be unpacked. */
export class ZstdError extends Error {}

/** Bits from the end of some bytes towards their beginning, highest first (RFC 8878, 4.1). */
export class BackwardBits {
  private readonly bytes: Uint8Array;
  /** Bits not read yet; below 0 once more were read than there are, which are zeros. */
  left: number;

  constructor(bytes: Uint8Array) {
    const last = bytes.at(-1) ?? 0;
    if (last === 0) throw new ZstdError('a bit stream has no end mark');
    this.bytes = bytes;
    this.left = bytes.length * 8 - (Math.clz32(last) - 24) - 1;
  }

  /** @param count at most 25 */
  peek(count: number): number {
    const start = this.left - count;
    const { bytes } = this;
    if (start < 0) return this.left <= 0 ? 0 : (this.at(0) & ((1 << this.left) - 1)) << -start;
    const byte = start >> 3;
    const four =
      (bytes[byte] as number) |
      ((bytes[byte + 1] as number) << 8) |
      ((bytes[byte + 2] as number) << 16) |
      ((bytes[byte + 3] as number) << 24);
    return (four >>> (start & 7)) & ((1 << count) - 1);
  }

  /** @param count at most 25 */
  read(count: number): number {
    const value = this.peek(count);
    this.left -= count;
    return value;
  }

  private at(byte: number): number {
    const { bytes } = this;
    return (
      ((bytes[byte] ?? 0) |
        ((bytes[byte + 1] ?? 0) << 8) |
        ((bytes[byte + 2] ?? 0) << 16) |
        ((bytes[byte + 3] ?? 0) << 24)) >>>
      0
    );
  }
}

/** A finite state machine: in state s it gives `symbols[s]` and goes to `bases[s]` plus the next `bits[s]` bits. */
export interface StateTable {
  /** The number of states is 2 to the power of this. */
  log: number;
  symbols: Uint8Array;
  bits: Uint8Array;
  bases: Uint16Array;
}

/** RFC 8878, 4.1.1: how symbols of given counts (-1: less than one) are spread over 2^log states. */
export function stateTable(counts: ArrayLike<number>, log: number): StateTable {
  const size = 2 ** log;
  const table = { log, symbols: new Uint8Array(size), bits: new Uint8Array(size), bases: new Uint16Array(size) };
  const next = Int32Array.from(counts, (count) => Math.abs(count));
  let high = size - 1;
  for (let symbol = 0; symbol < counts.length; symbol++) if (counts[symbol] === -1) table.symbols[high--] = symbol;
  let position = 0;
  for (let symbol = 0; symbol < counts.length; symbol++) {
    for (let i = 0; i < (counts[symbol] as number); i++) {
      table.symbols[position] = symbol;
      do position = (position + (size >> 1) + (size >> 3) + 3) & (size - 1);
      while (position > high);
    }
  }
  for (let state = 0; state < size; state++) {
    const symbol = table.symbols[state] as number;
    const nth = next[symbol] as number;
    next[symbol] = nth + 1;
    const bits = log - (31 - Math.clz32(nth));
    table.bits[state] = bits;
    table.bases[state] = (nth << bits) - size;
  }
  return table;
}

/** A table of one state that gives one symbol for ever. */
export function constantTable(symbol: number): StateTable {
  return { log: 0, symbols: Uint8Array.of(symbol), bits: new Uint8Array(1), bases: new Uint16Array(1) };
}

/** Reads the description of a state table (RFC 8878, 4.1.1); `end` is the offset of what follows. */
export function readStateTable(
  bytes: Uint8Array,
  start: number,
  maxLog: number,
  maxSymbol: number,
): { table: StateTable; end: number } {
  let bit = start * 8;
  const take = (count: number) => {
    const byte = bit >> 3;
    if (bit + count > bytes.length * 8 + 7) throw new ZstdError('a table is cut off');
    const value = (bytes[byte] ?? 0) | ((bytes[byte + 1] ?? 0) << 8) | ((bytes[byte + 2] ?? 0) << 16);
    return (value >> (bit & 7)) & ((1 << count) - 1);
  };
  const log = take(4) + 5;
  bit += 4;
  if (log > maxLog) throw new ZstdError('a table is too large');
  const counts: number[] = [];
  let left = 2 ** log;
  while (left > 0) {
    if (counts.length > maxSymbol) throw new ZstdError('a table has too many symbols');
    // A value of 0 to left + 1; small ones take one bit less.
    const width = 32 - Math.clz32(left + 1);
    const short = take(width - 1);
    const spared = 2 ** width - 1 - (left + 1);
    let value = short;
    if (short < spared) bit += width - 1;
    else {
      value = take(width);
      bit += width;
      if (value >= 2 ** (width - 1)) value -= spared;
    }
    const count = value - 1;
    left -= Math.abs(count);
    counts.push(count);
    if (count !== 0) continue;
    for (let repeat = 3; repeat === 3; ) {
      repeat = take(2);
      bit += 2;
      for (let i = 0; i < repeat; i++) counts.push(0);
      if (counts.length > maxSymbol + 1) throw new ZstdError('a table has too many symbols');
    }
  }
  const end = (bit + 7) >> 3;
  if (left !== 0 || end > bytes.length) throw new ZstdError('a table does not add up');
  return { table: stateTable(counts, log), end };
}

/** A prefix code: the next `log` bits name an entry; its symbol takes the first `bits` of them. */
export interface HuffmanTable {
  log: number;
  symbols: Uint8Array;
  bits: Uint8Array;
}

/** Reads the description of a Huffman code (RFC 8878, 4.2.1); `end` is the offset of what follows. */
export function readHuffmanTable(bytes: Uint8Array, start: number): { table: HuffmanTable; end: number } {
  const header = bytes[start];
  if (header === undefined) throw new ZstdError('a Huffman table is missing');
  const packed = header < 128;
  const end = start + 1 + (packed ? header : (header - 126) >> 1);
  if (end > bytes.length) throw new ZstdError('a Huffman table is cut off');
  const weights = packed ? readWeights(bytes.subarray(start + 1, end)) : [];
  for (let i = 0; !packed && i < header - 127; i++) {
    const byte = bytes[start + 1 + (i >> 1)] as number;
    weights.push(i % 2 === 0 ? byte >> 4 : byte & 15);
  }
  return { table: huffmanTable(weights), end };
}

/** Weights packed with two states that take turns. */
function readWeights(bytes: Uint8Array): number[] {
  const { table, end } = readStateTable(bytes, 0, 6, 255);
  const bits = new BackwardBits(bytes.subarray(end));
  const states = [bits.read(table.log), bits.read(table.log)];
  if (bits.left < 0) throw new ZstdError('Huffman weights are cut off');
  const weights: number[] = [];
  for (let turn = 0; weights.length < 255; turn ^= 1) {
    const state = states[turn] as number;
    weights.push(table.symbols[state] as number);
    const count = table.bits[state] as number;
    if (count > bits.left) {
      weights.push(table.symbols[states[turn ^ 1] as number] as number);
      return weights;
    }
    states[turn] = (table.bases[state] as number) + bits.read(count);
  }
  throw new ZstdError('there are too many Huffman weights');
}

function huffmanTable(weights: number[]): HuffmanTable {
  const sum = weights.reduce((total, weight) => total + (weight === 0 ? 0 : 2 ** (weight - 1)), 0);
  const log = sum === 0 ? 0 : 32 - Math.clz32(sum);
  if (sum === 0 || log > 11) throw new ZstdError('a Huffman code is not possible');
  // The weight of the last symbol is what makes the sum a power of two.
  const rest = 2 ** log - sum;
  if ((rest & (rest - 1)) !== 0) throw new ZstdError('a Huffman code does not add up');
  const all = [...weights, 32 - Math.clz32(rest)];
  const table = { log, symbols: new Uint8Array(2 ** log), bits: new Uint8Array(2 ** log) };
  let position = 0;
  for (let weight = 1; weight <= log; weight++) {
    for (const [symbol, its] of all.entries()) {
      if (its !== weight) continue;
      table.symbols.fill(symbol, position, position + 2 ** (weight - 1));
      table.bits.fill(log + 1 - weight, position, position + 2 ** (weight - 1));
      position += 2 ** (weight - 1);
    }
  }
  return table;
}

/** Decodes one Huffman stream into the whole of `target`. */
export function readHuffman(bytes: Uint8Array, { log, symbols, bits }: HuffmanTable, target: Uint8Array): void {
  const stream = new BackwardBits(bytes);
  for (let i = 0; i < target.length; i++) {
    const entry = stream.peek(log);
    target[i] = symbols[entry] as number;
    stream.left -= bits[entry] as number;
  }
  if (stream.left !== 0) throw new ZstdError('a Huffman stream has the wrong length');
}
