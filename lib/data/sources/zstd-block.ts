import {
  BackwardBits,
  constantTable,
  type HuffmanTable,
  readHuffman,
  readHuffmanTable,
  readStateTable,
  type StateTable,
  stateTable,
  ZstdError,
} from './zstd-tables.js';

/** The most that a block holds (RFC 8878, 3.1.1.2.4). */
export const MAX_BLOCK = 128 * 1024;

/** One of the three numbers of a sequence: its codes' extra bits, the values they begin at, and how codes are packed. */
interface CodeKind {
  extra: readonly number[];
  bases: readonly number[];
  maxLog: number;
  standard: StateTable;
}

const LITERAL_LENGTHS = codeKind(
  [...zeros(16), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  0,
  9,
  stateTable([4, 3, ...repeat(2, 11), 1, 1, 1, ...repeat(2, 9), 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1], 6),
);

const MATCH_LENGTHS = codeKind(
  [...zeros(32), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
  3,
  9,
  stateTable([1, 4, 3, ...repeat(2, 6), ...repeat(1, 37), ...repeat(-1, 7)], 6),
);

const OFFSETS: CodeKind = {
  extra: Array.from({ length: 32 }, (_, code) => code),
  bases: Array.from({ length: 32 }, (_, code) => 2 ** code),
  maxLog: 8,
  standard: stateTable([...repeat(1, 6), 2, 2, 2, ...repeat(1, 15), ...repeat(-1, 5)], 5),
};

function codeKind(extra: readonly number[], first: number, maxLog: number, standard: StateTable): CodeKind {
  let base = first;
  const bases = extra.map((bits) => {
    const its = base;
    base += 2 ** bits;
    return its;
  });
  return { extra, bases, maxLog, standard };
}

function zeros(count: number): number[] {
  return repeat(0, count);
}

function repeat(value: number, count: number): number[] {
  return new Array<number>(count).fill(value);
}

/** Unpacks the compressed blocks of one frame (RFC 8878, 3.1.1.3), which build on each other. */
export class BlockDecoder {
  private huffman: HuffmanTable | undefined;
  private tables: [StateTable?, StateTable?, StateTable?] = [];
  private offsets: [number, number, number] = [1, 4, 8];

  /**
   * @param output what the frame has given so far, up to `position`; the block is written behind it
   * @param limit end of the longest block that is allowed; at most the end of the output
   * @returns the position behind the block
   */
  decode(block: Uint8Array, output: Uint8Array, position: number, limit: number): number {
    const { literals, end } = this.readLiterals(block, limit - position);
    return this.runSequences(block, end, literals, output, position, limit);
  }

  private readLiterals(block: Uint8Array, most: number): { literals: Uint8Array; end: number } {
    const first = byteAt(block, 0);
    const [kind, format] = [first & 3, (first >> 2) & 3];
    if (kind < 2) {
      const start = format === 1 ? 2 : format === 3 ? 3 : 1;
      const size = format === 1 || format === 3 ? littleEndian(block, 0, start) >> 4 : first >> 3;
      if (size > most) throw new ZstdError('a block has too many literals');
      if (kind === 1) return { literals: new Uint8Array(size).fill(byteAt(block, start)), end: start + 1 };
      if (start + size > block.length) throw new ZstdError('literals are cut off');
      return { literals: block.subarray(start, start + size), end: start + size };
    }
    const width = format < 2 ? 10 : format === 2 ? 14 : 18;
    const start = format < 2 ? 3 : format + 2;
    const sizes = Math.floor(littleEndian(block, 0, start) / 16);
    const size = sizes % 2 ** width;
    const end = start + Math.floor(sizes / 2 ** width);
    if (size > most || end > block.length) throw new ZstdError('literals do not fit into their block');
    let at = start;
    if (kind === 2) ({ table: this.huffman, end: at } = readHuffmanTable(block.subarray(0, end), start));
    if (this.huffman === undefined) throw new ZstdError('a Huffman table is missing');
    const literals = new Uint8Array(size);
    const streams = block.subarray(at, end);
    if (format === 0) readHuffman(streams, this.huffman, literals);
    else readFourStreams(streams, this.huffman, literals);
    return { literals, end };
  }

  private runSequences(
    block: Uint8Array,
    start: number,
    literals: Uint8Array,
    output: Uint8Array,
    from: number,
    limit: number,
  ): number {
    let at = start;
    let count = byteAt(block, at++);
    if (count === 255) {
      count = littleEndian(block, at, 2) + 0x7f00;
      at += 2;
    } else if (count > 127) count = ((count - 128) << 8) + byteAt(block, at++);
    let position = from;
    let literal = 0;
    if (count > 0) {
      const modes = byteAt(block, at++);
      at = this.readTable(block, at, 0, modes >> 6, LITERAL_LENGTHS);
      at = this.readTable(block, at, 1, (modes >> 4) & 3, OFFSETS);
      at = this.readTable(block, at, 2, (modes >> 2) & 3, MATCH_LENGTHS);
      const [lengths, offsets, matches] = this.tables as [StateTable, StateTable, StateTable];
      const bits = new BackwardBits(block.subarray(at));
      let lengthState = bits.read(lengths.log);
      let offsetState = bits.read(offsets.log);
      let matchState = bits.read(matches.log);
      for (let left = count; left > 0; left--) {
        const offsetValue = readValue(bits, OFFSETS, offsets.symbols[offsetState] as number);
        const matchLength = readValue(bits, MATCH_LENGTHS, matches.symbols[matchState] as number);
        const literalLength = readValue(bits, LITERAL_LENGTHS, lengths.symbols[lengthState] as number);
        if (left > 1) {
          lengthState = nextState(bits, lengths, lengthState);
          matchState = nextState(bits, matches, matchState);
          offsetState = nextState(bits, offsets, offsetState);
        }
        if (bits.left < 0) throw new ZstdError('sequences are cut off');
        const offset = this.offsetOf(offsetValue, literalLength);
        if (literal + literalLength > literals.length || position + literalLength + matchLength > limit) {
          throw new ZstdError('a sequence does not fit into its block');
        }
        for (let i = 0; i < literalLength; i++) output[position++] = literals[literal++] as number;
        if (offset > position) throw new ZstdError('a sequence reaches too far back');
        // Byte by byte: a match may overlap with what it makes.
        for (let i = 0; i < matchLength; i++, position++) output[position] = output[position - offset] as number;
      }
      if (bits.left !== 0) throw new ZstdError('sequences have the wrong length');
    } else if (at !== block.length) throw new ZstdError('a block goes on after its end');
    const rest = literals.subarray(literal);
    if (position + rest.length > limit) throw new ZstdError('a block is too long');
    output.set(rest, position);
    return position + rest.length;
  }

  /** Reads one of the three tables, or takes a known one; gives the offset of what follows. */
  private readTable(block: Uint8Array, at: number, which: 0 | 1 | 2, mode: number, kind: CodeKind): number {
    if (mode === 0) this.tables[which] = kind.standard;
    else if (mode === 1) {
      const symbol = byteAt(block, at);
      if (symbol >= kind.extra.length) throw new ZstdError('a code is unknown');
      this.tables[which] = constantTable(symbol);
      return at + 1;
    } else if (mode === 2) {
      const { table, end } = readStateTable(block, at, kind.maxLog, kind.extra.length - 1);
      this.tables[which] = table;
      return end;
    } else if (this.tables[which] === undefined) throw new ZstdError('there is no table to repeat');
    return at;
  }

  /** RFC 8878, 3.1.1.5: values up to 3 name one of the last offsets. */
  private offsetOf(value: number, literalLength: number): number {
    const [first, second, third] = this.offsets;
    if (value > 3) {
      this.offsets = [value - 3, first, second];
      return value - 3;
    }
    const index = value - (literalLength === 0 ? 0 : 1);
    if (index === 0) return first;
    const offset = index === 1 ? second : index === 2 ? third : first - 1;
    if (offset === 0) throw new ZstdError('an offset is 0');
    this.offsets = [offset, first, index === 1 ? third : second];
    return offset;
  }
}

function readFourStreams(bytes: Uint8Array, table: HuffmanTable, target: Uint8Array): void {
  const quarter = (target.length + 3) >> 2;
  let at = 6;
  for (let stream = 0; stream < 4; stream++) {
    const end = stream === 3 ? bytes.length : at + littleEndian(bytes, stream * 2, 2);
    if (end > bytes.length || quarter * 3 > target.length) throw new ZstdError('a Huffman stream is cut off');
    const part = target.subarray(stream * quarter, stream === 3 ? target.length : (stream + 1) * quarter);
    readHuffman(bytes.subarray(at, end), table, part);
    at = end;
  }
}

function readValue(bits: BackwardBits, { bases, extra }: CodeKind, code: number): number {
  const count = extra[code] as number;
  const low = Math.min(count, 16);
  const high = count > low ? bits.read(count - low) * 2 ** low : 0;
  return (bases[code] as number) + high + bits.read(low);
}

function nextState(bits: BackwardBits, { bases, bits: counts }: StateTable, state: number): number {
  return (bases[state] as number) + bits.read(counts[state] as number);
}

function byteAt(bytes: Uint8Array, index: number): number {
  const byte = bytes[index];
  if (byte === undefined) throw new ZstdError('a block is cut off');
  return byte;
}

/** A number of up to 6 bytes. */
export function littleEndian(bytes: Uint8Array, start: number, count: number): number {
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + byteAt(bytes, start + i);
  return value;
}
