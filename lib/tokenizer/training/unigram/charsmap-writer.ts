import { grown } from '../../arrays.js';

/** The labels of a node spread over so many units. */
const BLOCK = 256;

/** Units at the end where nodes look for room. To look everywhere would take quadratic time, for a few units less. */
const SEARCHED = 16 * BLOCK;

const LEAF_FOLLOWS = 0x100;
const LEAF = 0x80000000;

/** A node of the trie that waits for its place. */
interface Node {
  /** Keys from `from` to below `to` begin with the path to the node, which is `depth` bytes long. */
  from: number;
  to: number;
  depth: number;
  unit: number;
}

/**
 * Compiles rules into `NormalizerSpec.precompiled_charsmap` of SentencePiece; see `Charsmap` for the format. The double
 * array (Aoe 1989) is built breadth first; no two nodes share an offset, since a unit knows its label alone.
 */
export function compileCharsmap(rules: ReadonlyMap<string, string>): Uint8Array {
  const { positions, texts } = layTexts(rules.values());
  const entries = Array.from(rules, ([source, target]) => ({
    key: Buffer.from(source),
    value: positions.get(target) as number,
  }));
  entries.sort((a, b) => Buffer.compare(a.key, b.key));
  const units = new DoubleArray().build(entries);
  const result = new Uint8Array(4 + 4 * units.length + texts.length);
  const view = new DataView(result.buffer);
  view.setUint32(0, 4 * units.length, true);
  for (const [index, unit] of units.entries()) view.setUint32(4 + 4 * index, unit, true);
  result.set(texts, 4 + 4 * units.length);
  return result;
}

/** The replacements, each once and ended by NUL, and where each begins. */
function layTexts(targets: Iterable<string>): { positions: Map<string, number>; texts: Uint8Array } {
  const positions = new Map<string, number>();
  const parts: Buffer[] = [];
  let length = 0;
  for (const target of targets) {
    if (positions.has(target)) continue;
    const bytes = Buffer.from(`${target}\0`);
    positions.set(target, length);
    parts.push(bytes);
    length += bytes.length;
  }
  return { positions, texts: Buffer.concat(parts) };
}

class DoubleArray {
  private units = new Uint32Array(BLOCK);
  /** A free unit at or behind each unit: itself if it is free, otherwise a step on the way to one. */
  private free = Int32Array.from({ length: BLOCK }, (_, unit) => unit);
  private isOffset = new Uint8Array(BLOCK);
  /** End of the last block with a unit in use. */
  private end = BLOCK;

  /** @param entries sorted by key, no key twice */
  build(entries: readonly { key: Uint8Array; value: number }[]): Uint32Array {
    this.free[0] = 1;
    // Readers take an offset of 0 at the root for a damaged array.
    this.isOffset[0] = 1;
    const waiting: Node[] = [{ from: 0, to: entries.length, depth: 0, unit: 0 }];
    // Nodes are added while they are gone through.
    for (const { from, to, depth, unit } of waiting) {
      const isKey = entries[from]?.key.length === depth;
      const children = childrenOf(entries, isKey ? from + 1 : from, to, depth);
      const labels = [...(isKey ? [0] : []), ...children.map(({ label }) => label)];
      const offset = this.place(labels);
      this.units[unit]! |= ((unit ^ offset) << 10) | (isKey ? LEAF_FOLLOWS : 0);
      if (isKey) this.units[offset] = (LEAF | entries[from]!.value) >>> 0;
      for (const { label, start, end } of children) {
        this.units[offset ^ label] = label;
        waiting.push({ from: start, to: end, depth: depth + 1, unit: offset ^ label });
      }
    }
    return this.units.subarray(0, this.end);
  }

  /** Takes units for children with these labels; gives their offset. */
  private place(labels: readonly number[]): number {
    for (let unit = this.nextFree(Math.max(0, this.end - SEARCHED)); ; unit = this.nextFree(unit + 1)) {
      const offset = unit ^ (labels[0] as number);
      const end = (offset | (BLOCK - 1)) + 1;
      if (end > this.units.length) this.reserve(end);
      const isTaken = (label: number) => this.free[offset ^ label] !== (offset ^ label);
      if (this.isOffset[offset] === 1 || labels.some(isTaken)) continue;
      this.isOffset[offset] = 1;
      for (const label of labels) this.free[offset ^ label] = (offset ^ label) + 1;
      this.end = Math.max(this.end, end);
      return offset;
    }
  }

  /** The first free unit from `start` on. */
  private nextFree(start: number): number {
    let unit = start;
    while (unit < this.free.length && this.free[unit] !== unit) {
      // Half of the way is made shorter for whoever comes next.
      const next = this.free[unit] as number;
      if (next < this.free.length) this.free[unit] = this.free[next] as number;
      unit = next;
    }
    return unit;
  }

  private reserve(length: number): void {
    const before = this.units.length;
    const room = Math.max(length, 2 * before);
    this.units = grown(this.units, room);
    this.isOffset = grown(this.isOffset, room);
    this.free = grown(this.free, room);
    for (let unit = before; unit < room; unit++) this.free[unit] = unit;
  }
}

/** The labels that follow at a depth, and the keys of each. */
function childrenOf(
  entries: readonly { key: Uint8Array }[],
  from: number,
  to: number,
  depth: number,
): { label: number; start: number; end: number }[] {
  const children: { label: number; start: number; end: number }[] = [];
  for (let index = from; index < to; index++) {
    const label = entries[index]!.key[depth] as number;
    const last = children.at(-1);
    if (last?.label === label) last.end = index + 1;
    else children.push({ label, start: index, end: index + 1 });
  }
  return children;
}
