import { numbers, sortBy } from './counting-sort.js';
import { PackedTrie } from './packed-trie.js';
import type { PieceTrie } from './piece-trie.js';

/**
 * Finds all pieces that end at each unit of a text, in one walk along it: the automaton of Aho and Corasick (1975) on a
 * double array. Plain arrays, so that it survives `structuredClone`.
 *
 * A state is the longest end of the text so far that some piece begins with; 0 is the empty one. States that no piece goes
 * on from are left at once for their longest end that has such a piece, and only those are kept between two units.
 *
 *     let next = codes[unit];
 *     while (state !== 0) {
 *       next = states[4 * state] + codes[unit]; // never beyond the array
 *       if (states[4 * next + 1] === state) break;
 *       state = states[4 * state + 2];
 *       next = codes[unit];
 *     }
 *     const longest = states[4 * next + 3]; // then pieces[4 * longest + 2], and so on until 0
 *     state = states[4 * next] < 0 ? ~states[4 * next] : next;
 */
export interface PieceAutomaton {
  /** Code of each unit; see {@link PackedTrie}. */
  codes: Uint16Array;
  /**
   * Four numbers for each state: its base, or when nothing follows `~s` of the state s that is kept instead; its parent, as
   * in {@link PackedTrie}; the state to try when the next unit does not follow; the longest piece that ends here.
   */
  states: Int32Array;
  /**
   * 16 bytes for each piece, whose number is its id plus 1: the score (float64); the longest shorter piece at its end, 0 for
   * none (int32); its length in units (int32).
   */
  pieces: ArrayBuffer;
}

/**
 * @param trie the pieces, each under its id
 * @param scores by id; ids that are not in the trie do not matter
 * @throws KotodamaError ERR_TOKENIZER as {@link PackedTrie} does
 */
export function buildAutomaton(trie: PieceTrie, scores: Float64Array): PieceAutomaton {
  const { codes, edges, ids, places } = new PackedTrie(trie);
  const states = new Int32Array(4 * ids.length);
  const pieces = new ArrayBuffer(16 * (scores.length + 1));
  const [pieceScores, pieceLinks] = [new Float64Array(pieces), new Int32Array(pieces)];
  for (let state = 0; state < ids.length; state++) {
    states[4 * state] = edges[2 * state]! >> 1;
    states[4 * state + 1] = edges[2 * state + 1]!;
  }
  // Of each state: the longest other state at its end; and the longest at its end, itself included, that something follows.
  const shorter = new Int32Array(ids.length);
  const kept = new Int32Array(ids.length);
  const isFollowed = new Uint8Array(ids.length);
  const depths = depthsOf(trie);
  const nodes = sortBy(numbers(trie.root + 1, trie.ids.length), depths, depths.length).sorted;
  for (const node of nodes) if (depths[node]! > 1) isFollowed[places[trie.parents[node]!]!] = 1;
  // What a state needs of shorter ones is there, since those come first.
  for (const node of nodes) {
    const state = places[node]!;
    const depth = depths[node]!;
    const code = codes[trie.units[node]!]!;
    const suffix = depth > 1 ? longestSuffix(states, shorter, places[trie.parents[node]!]!, code) : 0;
    shorter[state] = suffix;
    kept[state] = isFollowed[state] === 1 ? state : kept[suffix]!;
    states[4 * state + 2] = kept[suffix]!;
    states[4 * state + 3] = states[4 * suffix + 3]!;
    const id = ids[state]!;
    if (id < 0) continue;
    const piece = id + 1;
    pieceScores[2 * piece] = scores[id]!;
    pieceLinks[4 * piece + 2] = states[4 * state + 3]!;
    pieceLinks[4 * piece + 3] = depth;
    states[4 * state + 3] = piece;
  }
  for (let state = 0; state < ids.length; state++) if (isFollowed[state] === 0) states[4 * state] = ~kept[state]!;
  return { codes, states, pieces };
}

/** Units from the root to each node. */
function depthsOf({ root, ids, parents }: PieceTrie): Int32Array {
  const depths = new Int32Array(ids.length);
  for (let node = root + 1; node < ids.length; node++) depths[node] = depths[parents[node]!]! + 1;
  return depths;
}

/** The longest state at the end of the child by `code` of a state, the child itself left out. */
function longestSuffix(states: Int32Array, shorter: Int32Array, parent: number, code: number): number {
  for (let state = shorter[parent]!; state !== 0; state = shorter[state]!) {
    const child = states[4 * state]! + code;
    if (states[4 * child + 1] === state) return child;
  }
  return code;
}
