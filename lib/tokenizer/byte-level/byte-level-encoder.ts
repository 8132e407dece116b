import type { IdBuffer } from '../id-buffer.js';
import { type AddedText, AddedTokens } from './added-tokens.js';
import { BYTES_BY_CHARACTER, CHARACTER_OF_BYTE } from './byte-alphabet.js';
import { type Merge, MergeTable } from './merge-table.js';
import { Merger } from './merger.js';
import { PreTokenMemory } from './pre-token-memory.js';
import { PreTokenScanner } from './pre-token-scanner.js';

/** What a byte-level BPE vocabulary consists of. */
export interface ByteLevelVocabulary {
  /** Id of a token, written in the alphabet of bytes. */
  idOf: (token: string) => number | undefined;
  /** The tokens that are joined, in the order of merging. */
  merges: readonly (readonly [left: string, right: string])[];
  /** Texts that become one id: those of the first list are looked for in all of a text, those of the next in what is left. */
  added: readonly (readonly AddedText[])[];
}

/**
 * Encodes text as GPT-2 does (Radford et al. 2019): cut by its pattern, then byte-pair encoding of each piece. A line of any
 * length takes time in proportion to it.
 */
export class ByteLevelEncoder {
  private readonly added: readonly AddedTokens[];
  private readonly merger: Merger;
  private readonly scanner = new PreTokenScanner();
  private readonly memory = new PreTokenMemory();

  private constructor(byteIds: Int32Array, merges: readonly Merge[], added: readonly AddedTokens[]) {
    this.added = added;
    this.merger = new Merger(new MergeTable(merges), byteIds);
  }

  /** Undefined when some byte has no token, or the vocabulary lacks a token of some merge. */
  static of({ idOf, merges, added }: ByteLevelVocabulary): ByteLevelEncoder | undefined {
    const byteIds = new Int32Array(256);
    for (const byte of BYTES_BY_CHARACTER) {
      const id = idOf(CHARACTER_OF_BYTE[byte]!);
      if (id === undefined) return undefined;
      byteIds[byte] = id;
    }
    const pairs: Merge[] = [];
    for (const [leftToken, rightToken] of merges) {
      const [left, right, result] = [idOf(leftToken), idOf(rightToken), idOf(leftToken + rightToken)];
      if (left === undefined || right === undefined || result === undefined) return undefined;
      pairs.push({ left, right, result });
    }
    const lists = added.map((list) => list.filter(({ text }) => text !== '')).filter((list) => list.length > 0);
    const tokens = lists.map((list) => new AddedTokens(list));
    return new ByteLevelEncoder(byteIds, pairs, tokens);
  }

  /** Adds the ids of `text[start..end)`, which must be well-formed UTF-8. */
  encode(text: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    this.encodeAround(0, text, start, end, ids);
  }

  /** Cuts a section at the added tokens from list number `list` on. */
  private encodeAround(list: number, text: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    const added = this.added[list];
    if (added === undefined) {
      this.encodeSection(text, start, end, ids);
      return;
    }
    let from = start;
    for (let at = added.find(text, from, end); at < end; at = added.find(text, from, end, start)) {
      this.encodeAround(list + 1, text, from, at, ids);
      ids.add(added.id);
      from = at + added.length;
    }
    this.encodeAround(list + 1, text, from, end, ids);
  }

  private encodeSection(text: Uint8Array, start: number, end: number, ids: IdBuffer): void {
    for (let from = start; from < end; ) {
      const to = this.scanner.endOf(text, from, end);
      if (!this.memory.recall(text, from, to, ids)) {
        const first = ids.count;
        this.merger.merge(text, from, to, ids);
        this.memory.remember(text, from, to, ids, first);
      }
      from = to;
    }
  }
}
