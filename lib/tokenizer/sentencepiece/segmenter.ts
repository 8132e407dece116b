import type { PieceTrie } from './piece-trie.js';

/** Room for more ids than this is given back after use. */
const KEPT_IDS = 2 ** 21;

/** Splits normalized text into pieces of a vocabulary. */
export interface Segmenter {
  /**
   * Splits `units[0..count)`, a normalized text of at least one unit, into pieces and hands them to `output` in
   * order. Text that is in no piece has the id of the unknown piece.
   */
  segment(units: Uint16Array, count: number, output: IdBuffer): void;
}

/**
 * Collects the ids of a segmentation: adjacent unknown pieces become one id, or their UTF-8 bytes if the model has
 * byte pieces (`PopulateSentencePieceText` of SentencePiece).
 */
export class IdBuffer {
  private ids = new Int32Array(1024);
  private count = 0;
  private afterUnknown = false;

  /**
   * @param unkId id of the unknown piece
   * @param byteIds ids of the 256 byte pieces; undefined if the model has none
   */
  constructor(
    private readonly unkId: number,
    private readonly byteIds: Int32Array | undefined,
  ) {}

  /** Adds the piece `id` that covers `units[start..end)`. */
  push(id: number, units: Uint16Array, start: number, end: number): void {
    if (id !== this.unkId) {
      this.afterUnknown = false;
      this.add(id);
    } else if (this.byteIds !== undefined) {
      for (let i = start; i < end; i++) {
        const unit = units[i]!;
        const isPair = (unit & 0xfc00) === 0xd800 && i + 1 < end;
        this.addBytes(isPair ? 0x10000 + ((unit & 0x3ff) << 10) + (units[++i]! & 0x3ff) : unit, this.byteIds);
      }
    } else if (!this.afterUnknown) {
      this.afterUnknown = true;
      this.add(id);
    }
  }

  /** The ids so far; the buffer is empty afterwards. */
  take(): number[] {
    const result = new Array<number>(this.count);
    for (let i = 0; i < this.count; i++) result[i] = this.ids[i]!;
    this.count = 0;
    this.afterUnknown = false;
    if (this.ids.length > KEPT_IDS) this.ids = new Int32Array(1024);
    return result;
  }

  private addBytes(codePoint: number, byteIds: Int32Array): void {
    if (codePoint < 0x80) {
      this.add(byteIds[codePoint]!);
      return;
    }
    if (codePoint < 0x800) {
      this.add(byteIds[0xc0 | (codePoint >> 6)]!);
    } else {
      if (codePoint < 0x10000) {
        this.add(byteIds[0xe0 | (codePoint >> 12)]!);
      } else {
        this.add(byteIds[0xf0 | (codePoint >> 18)]!);
        this.add(byteIds[0x80 | ((codePoint >> 12) & 0x3f)]!);
      }
      this.add(byteIds[0x80 | ((codePoint >> 6) & 0x3f)]!);
    }
    this.add(byteIds[0x80 | (codePoint & 0x3f)]!);
  }

  private add(id: number): void {
    if (this.count === this.ids.length) {
      const grown = new Int32Array(2 * this.count);
      grown.set(this.ids);
      this.ids = grown;
    }
    this.ids[this.count++] = id;
  }
}

/** End of the character that starts at `units[start]`: one unit, or two for a surrogate pair. */
export function characterEnd(units: Uint16Array, start: number, count: number): number {
  return start + ((units[start]! & 0xfc00) === 0xd800 && start + 1 < count ? 2 : 1);
}

/** End of the user-defined symbol that starts at `units[start]`; `start` if there is none. */
export function symbolEnd(symbols: PieceTrie | undefined, units: Uint16Array, start: number, count: number): number {
  return symbols === undefined ? start : symbols.longestPrefix(units, start, count);
}
