/** The primes of the specification, as pairs of [high, low] 32 bits. */
const PRIME_1 = [0x9e3779b1, 0x85ebca87] as const;
const PRIME_2 = [0xc2b2ae3d, 0x27d4eb4f] as const;
const PRIME_3 = [0x165667b1, 0x9e3779f9] as const;
const PRIME_4 = [0x85ebca77, 0xc2b2ae63] as const;
const PRIME_5 = [0x27d4eb2f, 0x165667c5] as const;

/** Bytes that the four lanes take at a time. */
const STRIPE = 32;

/**
 * XXH64 with the seed 0 of bytes that come in pieces, which Zstandard has as its checksum
 * (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, "XXH64 Algorithm Description").
 *
 * JavaScript has no quick 64-bit integers, so that each is two of 32 bits.
 */
export class XxHash64 {
  /** The four lanes: of lane i, the high bits at 2i and the low ones at 2i + 1. */
  private readonly lanes = new Int32Array(8);
  /** What does not fill a stripe yet. */
  private readonly rest = new Uint8Array(STRIPE);
  private restLength = 0;
  private total = 0;

  constructor() {
    for (const [lane, start] of [sum(PRIME_1, PRIME_2), PRIME_2, [0, 0], negative(PRIME_1)].entries()) {
      this.lanes.set(start, 2 * lane);
    }
  }

  /** Takes the next bytes. */
  update(bytes: Uint8Array): void {
    this.total += bytes.length;
    let at = 0;
    if (this.restLength > 0) {
      at = Math.min(STRIPE - this.restLength, bytes.length);
      this.rest.set(bytes.subarray(0, at), this.restLength);
      this.restLength += at;
      if (this.restLength < STRIPE) return;
      this.readStripes(this.rest, 0);
    }
    at = this.readStripes(bytes, at);
    this.rest.set(bytes.subarray(at));
    this.restLength = bytes.length - at;
  }

  /** The low 32 bits of the hash of all bytes so far, which is what Zstandard keeps. */
  low(): number {
    const { rest, restLength } = this;
    const hash = new Word(...(this.total < STRIPE ? PRIME_5 : this.joined()));
    hash.add(Math.floor(this.total / 2 ** 32), this.total | 0);
    const view = new DataView(rest.buffer);
    let at = 0;
    for (; at + 8 <= restLength; at += 8) {
      const part = new Word(view.getInt32(at + 4, true), view.getInt32(at, true));
      part.multiply(PRIME_2).rotate(31).multiply(PRIME_1);
      hash
        .xor(part.high, part.low)
        .rotate(27)
        .multiply(PRIME_1)
        .add(...PRIME_4);
    }
    for (; at + 4 <= restLength; at += 4) {
      const part = new Word(0, view.getInt32(at, true)).multiply(PRIME_1);
      hash
        .xor(part.high, part.low)
        .rotate(23)
        .multiply(PRIME_2)
        .add(...PRIME_3);
    }
    for (; at < restLength; at++) {
      const part = new Word(0, rest[at]!).multiply(PRIME_5);
      hash.xor(part.high, part.low).rotate(11).multiply(PRIME_1);
    }
    hash.xorShifted(33).multiply(PRIME_2).xorShifted(29).multiply(PRIME_3).xorShifted(32);
    return hash.low >>> 0;
  }

  /** Takes the whole stripes from a place on; gives the place behind them. */
  private readStripes(bytes: Uint8Array, start: number): number {
    const end = bytes.length - ((bytes.length - start) % STRIPE);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // Lane by lane, so that its halves stay in registers.
    for (let lane = 0; lane < 4; lane++) mixIn(this.lanes, 2 * lane, view, start + 8 * lane, end);
    return end;
  }

  /** The four lanes as one number. */
  private joined(): readonly [high: number, low: number] {
    const lanes = [0, 1, 2, 3].map((lane) => [this.lanes[2 * lane]!, this.lanes[2 * lane + 1]!] as const);
    const hash = new Word(0, 0);
    for (const [lane, bits] of [1, 7, 12, 18].entries()) {
      const turned = new Word(...lanes[lane]!).rotate(bits);
      hash.add(turned.high, turned.low);
    }
    for (const lane of lanes) {
      const part = new Word(...lane).multiply(PRIME_2).rotate(31).multiply(PRIME_1);
      hash
        .xor(part.high, part.low)
        .multiply(PRIME_1)
        .add(...PRIME_4);
    }
    return [hash.high, hash.low];
  }
}

/**
 * The rounds of one lane: lane = rotate(lane + input * PRIME_2, 31) * PRIME_1, with every fourth 8 bytes as input. Written
 * out, as all bytes pass here.
 */
function mixIn(lanes: Int32Array, lane: number, view: DataView, start: number, end: number): void {
  const [prime1High, prime1Low] = PRIME_1;
  const [prime2High, prime2Low] = PRIME_2;
  let high = lanes[lane]!;
  let low = lanes[lane + 1]!;
  for (let at = start; at < end; at += STRIPE) {
    const input = view.getInt32(at, true);
    const addLow = Math.imul(input, prime2Low);
    const cross = Math.imul(input, prime2High) + Math.imul(view.getInt32(at + 4, true), prime2Low);
    const sumLow = (low + addLow) | 0;
    const carry = sumLow >>> 0 < addLow >>> 0 ? 1 : 0;
    const sumHigh = (high + highOfProduct(input, prime2Low) + cross + carry) | 0;
    const turnedLow = (sumLow << 31) | (sumHigh >>> 1);
    const turnedHigh = (sumHigh << 31) | (sumLow >>> 1);
    low = Math.imul(turnedLow, prime1Low);
    high =
      (highOfProduct(turnedLow, prime1Low) + Math.imul(turnedLow, prime1High) + Math.imul(turnedHigh, prime1Low)) | 0;
  }
  lanes[lane] = high;
  lanes[lane + 1] = low;
}

/** The upper half of the product of two unsigned 32-bit numbers, from products of their 16-bit halves. */
function highOfProduct(a: number, b: number): number {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = (Math.imul(a1, b0) + (Math.imul(a0, b0) >>> 16)) >>> 0;
  const other = (Math.imul(a0, b1) + (middle & 0xffff)) >>> 0;
  return (Math.imul(a1, b1) + (middle >>> 16) + (other >>> 16)) | 0;
}

type Halves = readonly [high: number, low: number];

function sum([aHigh, aLow]: Halves, [bHigh, bLow]: Halves): Halves {
  const low = (aLow + bLow) | 0;
  return [aHigh + bHigh + (low >>> 0 < bLow >>> 0 ? 1 : 0), low];
}

function negative([high, low]: Halves): Halves {
  return [~high + (low === 0 ? 1 : 0), -low];
}

/** A 64-bit number that changes in place, for the few steps at the end. */
class Word {
  high: number;
  low: number;

  constructor(high: number, low: number) {
    this.high = high | 0;
    this.low = low | 0;
  }

  add(high: number, low: number): this {
    return this.set(...sum([this.high, this.low], [high, low]));
  }

  multiply([high, low]: Halves): this {
    const upper = highOfProduct(this.low, low) + Math.imul(this.low, high) + Math.imul(this.high, low);
    return this.set(upper, Math.imul(this.low, low));
  }

  xor(high: number, low: number): this {
    return this.set(this.high ^ high, this.low ^ low);
  }

  /** Turns the bits left by 1 to 31. */
  rotate(bits: number): this {
    const { high, low } = this;
    return this.set((high << bits) | (low >>> (32 - bits)), (low << bits) | (high >>> (32 - bits)));
  }

  /** Mixes in the number itself, moved right by 1 to 63 bits. */
  xorShifted(bits: number): this {
    const { high, low } = this;
    if (bits >= 32) return this.xor(0, high >>> (bits - 32));
    return this.xor(high >>> bits, (low >>> bits) | (high << (32 - bits)));
  }

  private set(high: number, low: number): this {
    this.high = high | 0;
    this.low = low | 0;
    return this;
  }
}
