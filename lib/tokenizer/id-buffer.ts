/** Room for more ids than this is given back after use. */
const KEPT_IDS = 2 ** 21;

/** Ids that come one by one, in an array that grows. */
export class IdBuffer {
  /** Number of ids. */
  count = 0;
  private ids = new Int32Array(1024);

  add(id: number): void {
    if (this.count === this.ids.length) this.reserve(1);
    this.ids[this.count++] = id;
  }

  at(index: number): number {
    return this.ids[index]!;
  }

  addAll(ids: ArrayLike<number>): void {
    this.reserve(ids.length);
    this.ids.set(ids, this.count);
    this.count += ids.length;
  }

  /** Adds `source[from..to)`: quicker than a view for the few ids of a short text. */
  addRange(source: Int32Array, from: number, to: number): void {
    this.reserve(to - from);
    const { ids, count } = this;
    for (let i = from; i < to; i++) ids[count + i - from] = source[i]!;
    this.count = count + to - from;
  }

  /** Forgets the ids from `count` on. */
  truncate(count: number): void {
    this.count = count;
  }

  /** Puts ~id, which is negative, in the place of each id from `from` on. */
  complement(from: number): void {
    for (let i = from; i < this.count; i++) this.ids[i] = ~this.ids[i]!;
  }

  /** The ids so far, in memory of their own; the buffer is empty afterwards. */
  take(): Int32Array {
    const result = this.ids.slice(0, this.count);
    this.clear();
    return result;
  }

  /** The same as an array of numbers. */
  takeArray(): number[] {
    const { ids, count } = this;
    const result = new Array<number>(count);
    for (let i = 0; i < count; i++) result[i] = ids[i]!;
    this.clear();
    return result;
  }

  private clear(): void {
    this.count = 0;
    if (this.ids.length > KEPT_IDS) this.ids = new Int32Array(1024);
  }

  private reserve(more: number): void {
    const count = this.count + more;
    if (count <= this.ids.length) return;
    const grown = new Int32Array(Math.max(count, 2 * this.ids.length));
    grown.set(this.ids);
    this.ids = grown;
  }
}
