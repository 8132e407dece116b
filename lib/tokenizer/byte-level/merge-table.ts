const LEFT_FACTOR = 0x9e3779b1;
const RIGHT_FACTOR = 0x85ebca6b;

/** Numbers in a cell of the table: left id, right id, rank + 1 (0: the cell is empty), and one that makes it a power of two. */
const CELL = 4;

/** One step of byte-pair encoding: two neighbouring tokens become one. */
export interface Merge {
  left: number;
  right: number;
  result: number;
}

/** The merges of a vocabulary: which pair of ids becomes which id, and in which order. */
export class MergeTable {
  /** Id that each merge makes, by its rank: the place in the order of merging, counted from 0. */
  readonly results: Int32Array;
  /**
   * Whether a merge can only make pairs that come later in the order, so that equal pairs may be merged in any order unless
   * they overlap. It holds for what a trainer learns, unless two merges make the same token.
   */
  readonly isMonotone: boolean;
  private readonly cells: Int32Array;
  private readonly shift: number;

  /** @param merges in their order; of a pair that is there twice the later one counts */
  constructor(merges: readonly Merge[]) {
    const bits = Math.max(4, Math.ceil(Math.log2(2 * merges.length + 1)));
    this.cells = new Int32Array(CELL * 2 ** bits);
    this.shift = 32 - bits;
    this.results = Int32Array.from(merges, ({ result }) => result);
    for (const [rank, { left, right }] of merges.entries()) {
      const cell = this.cellOf(left, right);
      this.cells.set([left, right, rank + 1], cell);
    }
    const ranks = new Map(merges.map(({ result }, rank) => [result, rank]));
    const rankOf = (id: number) => ranks.get(id) ?? -1;
    this.isMonotone =
      ranks.size === merges.length &&
      merges.every(({ left, right }, rank) => rankOf(left) < rank && rankOf(right) < rank);
  }

  /** Rank of the merge of this pair; -1 if there is none. */
  rankOf(left: number, right: number): number {
    return this.cells[this.cellOf(left, right) + 2]! - 1;
  }

  /** The pair's cell, or the empty one where it would be. */
  private cellOf(left: number, right: number): number {
    const { cells } = this;
    let cell = ((Math.imul(left, LEFT_FACTOR) + Math.imul(right, RIGHT_FACTOR)) >>> this.shift) * CELL;
    while (cells[cell + 2] !== 0 && (cells[cell] !== left || cells[cell + 1] !== right)) {
      cell += CELL;
      if (cell === cells.length) cell = 0;
    }
    return cell;
  }
}
