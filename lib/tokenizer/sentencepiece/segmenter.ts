import { IdBuffer } from '../id-buffer.js';
import type { PieceTrie } from './piece-trie.js';

/** Splits normalized text into pieces of a vocabulary. */
export interface Segmenter {
  /**
   * Splits `units[0..count)`, a normalized text of at least one unit, into pieces and hands them to `output` in
   * order. Text that is in no piece has the id of the unknown piece.
   */
  segment(units: Uint16Array, count: number, output: PieceOutput): void;
}

/**
 * Turns the pieces of a segmentation into ids: adjacent unknown pieces become one id, or their UTF-8 bytes if the model
 * has byte pieces (`PopulateSentencePieceText` of SentencePiece).
 */
export class PieceOutput {
  private ids = new IdBuffer();
  private afterUnknown = false;

  /**
   * @param unkId id of the unknown piece
   * @param byteIds ids of the 256 byte pieces; undefined if the model has none
   */
  constructor(
    private readonly unkId: number,
    private readonly byteIds: Int32Array | undefined,
  ) {}

  /** Begins a text, whose ids go to `ids`. */
  begin(ids: IdBuffer): void {
    this.ids = ids;
    this.afterUnknown = false;
  }

  /** Adds a piece that is not the unknown one. */
  pushKnown(id: number): void {
    this.afterUnknown = false;
    this.ids.add(id);
  }

  /** Adds the pieces `ids[from..to)`, none of which is the unknown one. */
  pushAllKnown(ids: Int32Array, from: number, to: number): void {
    this.afterUnknown = false;
    this.ids.addRange(ids, from, to);
  }

  /** Adds the piece `id` that covers `units[start..end)`. */
  push(id: number, units: Uint16Array, start: number, end: number): void {
    if (id !== this.unkId) {
      this.pushKnown(id);
    } else if (this.byteIds !== undefined) {
      for (let i = start; i < end; i++) {
        const unit = units[i]!;
        const isPair = (unit & 0xfc00) === 0xd800 && i + 1 < end;
        this.addBytes(isPair ? 0x10000 + ((unit & 0x3ff) << 10) + (units[++i]! & 0x3ff) : unit, this.byteIds);
      }
    } else if (!this.afterUnknown) {
      this.afterUnknown = true;
      this.ids.add(id);
    }
  }

  private addBytes(codePoint: number, byteIds: Int32Array): void {
    if (codePoint < 0x80) {
      this.ids.add(byteIds[codePoint]!);
      return;
    }
    if (codePoint < 0x800) {
      this.ids.add(byteIds[0xc0 | (codePoint >> 6)]!);
    } else {
      if (codePoint < 0x10000) {
        this.ids.add(byteIds[0xe0 | (codePoint >> 12)]!);
      } else {
        this.ids.add(byteIds[0xf0 | (codePoint >> 18)]!);
        this.ids.add(byteIds[0x80 | ((codePoint >> 12) & 0x3f)]!);
      }
      this.ids.add(byteIds[0x80 | ((codePoint >> 6) & 0x3f)]!);
    }
    this.ids.add(byteIds[0x80 | (codePoint & 0x3f)]!);
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
