import { type AddedToken, type CheckedTokenizerJson, isNormalized } from '../check-tokenizer-json.js';
import { AddedSplitter } from './added-splitter.js';
import type { Library } from './library.js';
import { LongPieces } from './long-pieces.js';
import { type Normalizer, normalizerOf } from './normalizers.js';
import { type PreTokenizer, preTokenizerOf } from './pre-tokenizers.js';

/** The way from text to ids that a tokenizer.json describes, as Python's tokenizers go it, around a model of the library. */
export class TextEncoder {
  /** Added tokens that are looked for in all of a text, and those that are looked for in what the normalizer makes of the rest. */
  private readonly first: AddedSplitter;
  private readonly second: AddedSplitter;
  private readonly normalize: Normalizer;
  private readonly preTokenize: PreTokenizer;
  private readonly pieces: LongPieces | undefined;
  private readonly library: Library;
  private readonly unkId: number | undefined;
  private readonly bytes: boolean;
  /** Whether the model leaves characters out that it does not know, as if they were not there. */
  private readonly drops: boolean;
  /** Whether a piece that is a token is not looked into. */
  private readonly takesWhole: boolean;

  /**
   * @param unkId what stands for text that the vocabulary lacks
   * @param library without the added tokens
   * @throws Error for a part that is not known
   */
  constructor(json: CheckedTokenizerJson, added: readonly AddedToken[], unkId: number | undefined, library: Library) {
    const { model } = json;
    if (model.continuing_subword_prefix && Array.isArray(model.merges)) {
      throw new Error('a BPE model with continuing_subword_prefix is not supported');
    }
    this.library = library;
    this.normalize = normalizerOf(json.normalizer);
    this.preTokenize = preTokenizerOf(json.pre_tokenizer);
    this.first = new AddedSplitter(
      added.filter((token) => !isNormalized(token)).map((token) => [token.content, token]),
    );
    this.second = new AddedSplitter(
      added.filter(isNormalized).map((token) => [this.normalize(token.content), token] as const),
    );
    this.unkId = unkId;
    const isUnigram = Array.isArray(model.vocab);
    const isBpe = Array.isArray(model.merges);
    this.bytes = isUnigram && model.byte_fallback === true;
    this.drops = isBpe && (model.unk_token ?? null) === null && !model.byte_fallback && !model.end_of_word_suffix;
    this.takesWhole = model.ignore_merges === true;
    const isJoining = isUnigram || (isBpe && !model.end_of_word_suffix);
    if (isJoining) this.pieces = new LongPieces({ [Symbol.iterator]: () => library.get_vocab().keys() });
  }

  /** Ids of a text; undefined where the vocabulary has no token, not even one for what it lacks. */
  encode(text: string): (number | undefined)[] {
    const ids: (number | undefined)[] = [];
    for (const section of this.first.split(text)) {
      if ('id' in section) ids.push(section.id);
      else this.addNormalized(this.normalize(section.text), section.start === 0, ids);
    }
    return ids;
  }

  private addNormalized(text: string, isFirst: boolean, ids: (number | undefined)[]): void {
    for (const section of this.second.split(text)) {
      if ('id' in section) {
        ids.push(section.id);
        continue;
      }
      for (const piece of this.preTokenize({ text: section.text, isFirst: isFirst && section.start === 0 })) {
        if (piece.text === '') continue;
        const text = this.drops ? this.known(piece.text) : piece.text;
        const parts = this.pieces?.cut(text) ?? [text];
        for (const part of parts) for (const token of this.tokensOf(part)) this.addToken(token, ids);
      }
    }
  }

  /** A piece without the characters that the vocabulary lacks, so that what is beside them merges. */
  private known(piece: string): string {
    const isToken = (text: string) => this.library.token_to_id(text) !== undefined;
    return this.takesWhole && isToken(piece) ? piece : Array.from(piece).filter(isToken).join('');
  }

  private tokensOf(part: string): Iterable<string> {
    const { model } = this.library;
    // Called as a whole, a Unigram model passes all tokens as arguments to one call, of which there are at most some 100,000.
    return model.tokenize === undefined ? model([part]) : this.fused(model.tokenize(part));
  }

  /** Tokens with unknown ones side by side as one, as the library fuses them. */
  private *fused(tokens: readonly string[]): Generator<string, void> {
    const isUnknown = (token: string) => (this.library.token_to_id(token) ?? this.unkId) === this.unkId;
    let unknown: string | undefined;
    for (const token of tokens) {
      if (!isUnknown(token)) {
        if (unknown !== undefined) yield unknown;
        unknown = undefined;
        yield token;
      } else if (unknown === undefined) unknown = token;
      // The unknown token itself takes in what follows.
      else if (this.library.token_to_id(unknown) === undefined) unknown += token;
    }
    if (unknown !== undefined) yield unknown;
  }

  private addToken(token: string, ids: (number | undefined)[]): void {
    const id = this.library.token_to_id(token);
    const bytes = id === undefined && this.bytes ? this.bytesOf(token) : undefined;
    if (bytes === undefined) ids.push(id ?? this.unkId);
    else for (const byte of bytes) ids.push(byte);
  }

  /** Ids of the bytes of a text; undefined if there is none for one of them. */
  private bytesOf(text: string): number[] | undefined {
    const ids: number[] = [];
    for (const byte of Buffer.from(text)) {
      const id = this.library.token_to_id(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
      if (id === undefined) return undefined;
      ids.push(id);
    }
    return ids;
  }
}
