const ROOT = 1;

// Factors of the hash of an edge: odd numbers with well-spread bits.
const NODE_FACTOR = 0x9e3779b1;
const UNIT_FACTOR = 0x85ebca6b;

/**
 * A trie of texts over UTF-16 units, each text with an id.
 *
 * Node 0 is "no node" and node 1 the root. The children of the root lie in a table by unit; all other edges lie in an
 * open-addressing hash table with linear probing, at most half full. So memory is linear in the length of the texts
 * whatever they are, and a step costs constant time however many children a node has.
 */
export class PieceTrie {
  /** Id of the text that ends at a node; -1 if none does. */
  readonly ids: Int32Array;
  /** Children of the root by unit; 0 if there is none. */
  readonly first = new Int32Array(65536);
  /** Parent of each node but the root; it has a smaller number. */
  readonly parents: Int32Array;
  /** Unit that leads to each node from its parent. */
  readonly units: Uint16Array;
  private readonly slots: Int32Array;
  private readonly shift: number;
  private nodes = 2;

  /** @param entries texts that differ, none empty, with their ids */
  constructor(entries: Iterable<readonly [text: string, id: number]>) {
    const list = [...entries];
    let capacity = 2;
    for (const [text] of list) capacity += text.length;
    const bits = Math.ceil(Math.log2(2 * capacity));
    const slots = new Int32Array(2 ** bits);
    this.shift = 32 - bits;
    this.slots = slots;
    this.ids = new Int32Array(capacity).fill(-1);
    this.parents = new Int32Array(capacity);
    this.units = new Uint16Array(capacity);
    for (const [text, id] of list) this.ids[this.insert(text)] = id;
    this.ids = this.ids.slice(0, this.nodes);
    this.parents = this.parents.slice(0, this.nodes);
    this.units = this.units.slice(0, this.nodes);
  }

  /** The node that every text starts from. */
  get root(): number {
    return ROOT;
  }

  /** Child of any node by `unit`; 0 if there is none. */
  step(node: number, unit: number): number {
    return node === ROOT ? this.first[unit]! : this.child(node, unit);
  }

  /** Child of `node` (not the root) by `unit`; 0 if there is none. */
  child(node: number, unit: number): number {
    let slot = (Math.imul(node, NODE_FACTOR) + Math.imul(unit, UNIT_FACTOR)) >>> this.shift;
    for (;;) {
      const child = this.slots[slot]!;
      if (child === 0 || (this.parents[child] === node && this.units[child] === unit)) return child;
      slot = (slot + 1) & (this.slots.length - 1);
    }
  }

  /** Node that `units[start..end)` leads to from `node`; 0 if there is none. */
  walk(node: number, units: Uint16Array, start: number, end: number): number {
    for (let i = start; i < end && node !== 0; i++) node = this.child(node, units[i]!);
    return node;
  }

  /** End of the longest text that is a prefix of `units[start..end)`; `start` if there is none. */
  longestPrefix(units: Uint16Array, start: number, end: number): number {
    let longest = start;
    let node = this.first[units[start]!]!;
    for (let i = start + 1; node !== 0; i++) {
      if (this.ids[node]! >= 0) longest = i;
      if (i >= end) break;
      node = this.child(node, units[i]!);
    }
    return longest;
  }

  private insert(text: string): number {
    const unit = text.charCodeAt(0);
    let node = this.first[unit]!;
    if (node === 0) {
      node = this.addNode(ROOT, unit);
      this.first[unit] = node;
    }
    for (let i = 1; i < text.length; i++) node = this.childOrNew(node, text.charCodeAt(i));
    return node;
  }

  private childOrNew(node: number, unit: number): number {
    const found = this.child(node, unit);
    if (found !== 0) return found;
    let slot = (Math.imul(node, NODE_FACTOR) + Math.imul(unit, UNIT_FACTOR)) >>> this.shift;
    while (this.slots[slot] !== 0) slot = (slot + 1) & (this.slots.length - 1);
    const child = this.addNode(node, unit);
    this.slots[slot] = child;
    return child;
  }

  private addNode(parent: number, unit: number): number {
    const node = this.nodes++;
    this.parents[node] = parent;
    this.units[node] = unit;
    return node;
  }
}
