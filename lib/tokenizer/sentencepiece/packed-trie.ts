import { KotodamaError } from '../../errors.js';
import { numbers, sortBy } from './counting-sort.js';
import type { PieceTrie } from './piece-trie.js';

/** After so many places in vain for the children of one node, those up to there are left to nodes with fewer children. */
const TRIES = 32;

/** So many times the places that are needed may be taken up, and no more. */
const SPARSEST = 8;

/** Nodes with fewer children than this fit into the gaps that the others have left. */
const FEW_CHILDREN = 4;

/**
 * A {@link PieceTrie} packed for speed: a double array, where one look at one place tells whether a node has a child.
 *
 * Units have codes, those of most edges the smallest. The child of the root by a unit, if there is one, lies at the unit's
 * code; the child of any other node at the node's base plus the code, if that place names the node as its parent.
 *
 *     const child = (edges[2 * node]! >> 1) + codes[unit]!; // never beyond the array
 *     const exists = edges[2 * child + 1] === node;
 *     const endsText = (edges[2 * child]! & 1) === 1;
 */
export class PackedTrie {
  /** Code of each unit, from 1 on; 0 for those that occur in no text. */
  readonly codes: Uint16Array;
  /**
   * For each place twice its base, and one more where a text ends; then its parent, -1 for children of the root and where
   * there is no node. Node 0 does not exist: no text ends there, and nothing follows.
   */
  readonly edges: Int32Array;
  /** Id of the text that ends at a node; -1 if none does. */
  readonly ids: Int32Array;
  /** Place of each node of the {@link PieceTrie} but its root. */
  readonly places: Int32Array;

  /** @throws KotodamaError ERR_TOKENIZER for texts made to leave most places empty; those of languages fill nearly all */
  constructor(trie: PieceTrie) {
    const children = new Children(trie);
    const { places, bases, end } = placeChildren(children, trie.root);
    const size = end + children.codeCount + 1;
    this.codes = children.codes;
    this.places = places;
    this.edges = new Int32Array(2 * size);
    this.ids = new Int32Array(size).fill(-1);
    for (let place = 0; place < size; place++) this.edges[2 * place + 1] = -1;
    for (const node of children.nodes) {
      const place = places[node]!;
      const id = trie.ids[node]!;
      const parent = trie.parents[node]!;
      this.ids[place] = id;
      this.edges[2 * place] = 2 * bases[node]! + (id >= 0 ? 1 : 0);
      if (parent !== trie.root) this.edges[2 * place + 1] = places[parent]!;
    }
  }
}

/** The children of each node of a trie. */
class Children {
  /** Code of each unit; see {@link PackedTrie}. */
  readonly codes = new Uint16Array(65536);
  /** The largest code. */
  readonly codeCount: number;
  /** Code of the unit that leads to each node. */
  readonly codeOf: Int32Array;
  /** All nodes but the root: those of one parent side by side, in the order of their codes. */
  readonly nodes: Int32Array;
  /** Where the children of each node begin in {@link nodes}, and where the last ones end. */
  readonly starts: Int32Array;

  constructor({ parents, units, root, ids }: PieceTrie) {
    const edges = new Uint32Array(65536);
    for (let node = root + 1; node < ids.length; node++) edges[units[node]!]!++;
    const known = [...edges.keys()].filter((unit) => edges[unit]! > 0).sort((a, b) => edges[b]! - edges[a]!);
    for (const [index, unit] of known.entries()) this.codes[unit] = index + 1;
    this.codeCount = known.length;
    this.codeOf = new Int32Array(ids.length);
    for (let node = root + 1; node < ids.length; node++) this.codeOf[node] = this.codes[units[node]!]!;
    const byCode = sortBy(numbers(root + 1, ids.length), this.codeOf, known.length + 1).sorted;
    const byParent = sortBy(byCode, parents, ids.length);
    this.nodes = byParent.sorted;
    this.starts = byParent.starts;
  }

  /** How many each node has. */
  counts(): Int32Array {
    const counts = new Int32Array(this.starts.length - 1);
    for (let node = 0; node < counts.length; node++) counts[node] = this.starts[node + 1]! - this.starts[node]!;
    return counts;
  }
}

/** Finds a base for each node that puts its children where nothing else is, the nodes with the most children first. */
function placeChildren(children: Children, root: number): { places: Int32Array; bases: Int32Array; end: number } {
  const { nodes, starts, codeCount, codeOf } = children;
  const nodeCount = starts.length - 1;
  const places = new Int32Array(nodeCount);
  const bases = new Int32Array(nodeCount);
  const free = new FreePlaces(SPARSEST * (nodes.length + codeCount));
  let end = codeCount;
  const put = (node: number, base: number) => {
    bases[node] = base;
    for (let i = starts[node]!; i < starts[node + 1]!; i++) {
      const child = nodes[i]!;
      const place = base + codeOf[child]!;
      places[child] = place;
      free.take(place);
      end = Math.max(end, place);
    }
  };
  const fits = (node: number, base: number) => {
    for (let i = starts[node]!; i < starts[node + 1]!; i++) {
      if (!free.has(base + codeOf[nodes[i]!]!)) return false;
    }
    return true;
  };

  put(root, 0);
  // A code whose unit begins no text has an empty place, too.
  for (let code = 1; code <= codeCount; code++) free.take(code);
  const counts = children.counts();
  const fullestFirst = sortBy(numbers(0, nodeCount), counts, codeCount + 1).sorted.reverse();
  let from = codeCount + 1;
  let fewest = codeCount + 1;
  for (const node of fullestFirst) {
    const count = counts[node]!;
    if (count === 0) break;
    if (node === root) continue;
    if (count < fewest && count < FEW_CHILDREN) from = codeCount + 1;
    fewest = count;
    const code = codeOf[nodes[starts[node]!]!]!;
    let place = free.next(Math.max(from, code));
    for (let tries = 1; !fits(node, place - code); tries++) {
      place = free.next(place + 1);
      if (tries % TRIES === 0) from = place;
    }
    put(node, place - code);
  }
  return { places, bases, end };
}

/** Numbers from 1 to `most` that are not taken yet. */
class FreePlaces {
  /** A free number if it names itself, otherwise one on the way to the next free one. Numbers beyond the end are free. */
  private towards = new Int32Array(0);

  constructor(private readonly most: number) {
    this.reserve(Math.ceil(most / SPARSEST));
  }

  take(place: number): void {
    if (place + 1 >= this.towards.length) this.reserve(2 * place);
    this.towards[place] = place + 1;
  }

  has(place: number): boolean {
    if (place > this.most) throw scattered();
    return place >= this.towards.length || this.towards[place] === place;
  }

  /** The first one that is at least `place`. */
  next(place: number): number {
    const { towards } = this;
    let at = place;
    while (at < towards.length && towards[at] !== at) {
      const next = towards[at]!;
      // Each step also shortens the way for those who come later.
      if (next < towards.length) towards[at] = towards[next]!;
      at = next;
    }
    if (at > this.most) throw scattered();
    return at;
  }

  private reserve(count: number): void {
    const { length } = this.towards;
    const grown = new Int32Array(count + 2);
    grown.set(this.towards);
    for (let place = length; place < grown.length; place++) grown[place] = place;
    this.towards = grown;
  }
}

function scattered(): KotodamaError {
  return new KotodamaError('ERR_TOKENIZER', 'SentencePiece model: its pieces begin alike in too many different ways', {
    hint: 'the file is damaged, or was made to take up memory',
  });
}
