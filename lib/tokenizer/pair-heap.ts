/** Room for more pairs than this is given back by {@link PairHeap.clear}. */
const MOST_KEPT = 2 ** 22;

/** A binary heap of pairs of neighbours: lowest rank first, then leftmost. */
export class PairHeap {
  /** The pair that {@link pop} took out, its rank, and where its right symbol ended when it was put in. */
  rank = 0;
  left = 0;
  right = 0;
  end = 0;
  private size = 0;
  /** rank * 2^32 + left, which is exact in a double. */
  private keys = new Float64Array(1024);
  private rights = new Int32Array(1024);
  private ends = new Int32Array(1024);

  push(rank: number, left: number, right: number, end: number): void {
    if (this.size === this.keys.length) this.grow();
    const { keys, rights, ends } = this;
    const key = rank * 2 ** 32 + left;
    let index = this.size++;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[index] = keys[parent]!;
      rights[index] = rights[parent]!;
      ends[index] = ends[parent]!;
      index = parent;
    }
    keys[index] = key;
    rights[index] = right;
    ends[index] = end;
  }

  /** Takes the first pair out; false if there is none. */
  pop(): boolean {
    if (this.size === 0) return false;
    const { keys, rights, ends } = this;
    this.rank = Math.floor(keys[0]! / 2 ** 32);
    this.left = keys[0]! % 2 ** 32;
    this.right = rights[0]!;
    this.end = ends[0]!;
    const last = --this.size;
    const key = keys[last]!;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= last) break;
      if (child + 1 < last && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= key) break;
      keys[index] = keys[child]!;
      rights[index] = rights[child]!;
      ends[index] = ends[child]!;
      index = child;
    }
    keys[index] = key;
    rights[index] = rights[last]!;
    ends[index] = ends[last]!;
    return true;
  }

  /** Empties the heap and gives unusual amounts of memory back. */
  clear(): void {
    this.size = 0;
    if (this.keys.length <= MOST_KEPT) return;
    this.keys = new Float64Array(1024);
    this.rights = new Int32Array(1024);
    this.ends = new Int32Array(1024);
  }

  private grow(): void {
    const size = 2 * this.size;
    const keys = new Float64Array(size);
    const rights = new Int32Array(size);
    const ends = new Int32Array(size);
    keys.set(this.keys);
    rights.set(this.rights);
    ends.set(this.ends);
    this.keys = keys;
    this.rights = rights;
    this.ends = ends;
  }
}
