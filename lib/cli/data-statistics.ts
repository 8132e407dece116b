import { type BlockDataset, tooShort } from '../data/block-dataset.js';
import { BufferedShuffleDataset } from '../data/buffered-shuffle.js';
import type { Block, BlockSource } from '../data/types.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import type { Vocabulary } from '../tokenizer/vocabulary.js';

/** How many texts have a length from `from` to `to` tokens. */
export interface LengthBin {
  from: number;
  to: number;
  texts: number;
}

/** What a tokenizer makes of some texts. */
export interface DataStatistics {
  /** Whether that is all of the texts, not only their beginning. */
  complete: boolean;
  texts: number;
  /** UTF-8 bytes of the texts, without the ends of lines. */
  bytes: number;
  /** Ends of texts among them, where --eos puts them. */
  tokens: number;
  /** null for a tokenizer without an unknown token: it has none, or spells any text. */
  unknownTokens: number | null;
  vocabSize: number;
  /** Ids that occur. */
  usedIds: number;
  /** Mean length of a text in tokens, without its end. */
  meanText: number;
  /** Length of the longest text, without its end. */
  longestText: number;
  /** Bins of powers of two up to the longest text. */
  lengths: LengthBin[];
  /** Blocks of T tokens whose labels are all there, of the texts measured. */
  blocks: number;
  /** Tokens at the end of the texts that are no block's input; null unless `complete`. */
  leftoverTokens: number | null;
  /** The first blocks, decoded. */
  firstBlocks: string[];
}

/**
 * Counts the ids that the training would cut into blocks, and what passes the tokenizer. Memory does not grow with the text.
 *
 * @param open texts that are encoded with this tokenizer
 * @param options.limit bytes of text after which to stop; 0 reads everything
 * @param options.shown number of blocks to decode
 * @param options.onPiece hears now and then how many bytes of text are measured
 * @throws KotodamaError as the training would about files and their content, and `ERR_DATA` for less than two tokens
 */
export async function measureTexts(
  open: (tokenizer: TokenizerModel) => BlockDataset,
  tokenizer: TokenizerModel,
  { limit, shown, onPiece }: { limit: number; shown: number; onPiece?: (bytes: number) => void },
): Promise<DataStatistics> {
  const counter = new TextCounter(tokenizer);
  const dataset = open(counter);
  // What it encodes to learn about the tokenizer is no text.
  counter.begun = true;
  const { blockSize } = dataset;
  const { vocabSize } = tokenizer;
  const unkTokenId = unknownId(tokenizer);
  const used = new Uint8Array(vocabSize);
  /** Ids of the first blocks. */
  const first: number[] = [];
  let complete = true;
  let tokens = 0;
  let unknown = 0;
  for await (const { ids } of dataset.tokens()) {
    tokens += ids.length;
    for (const id of ids) {
      used[id] = 1;
      if (id === unkTokenId) unknown++;
      if (first.length < shown * blockSize) first.push(id);
    }
    onPiece?.(dataset.textBytes);
    if (limit > 0 && dataset.textBytes >= limit) {
      complete = false;
      break;
    }
  }
  if (tokens < 2) throw tooShort(tokens, blockSize, false);
  // The last token has no successor, so at least that one is always left over.
  const blocks = Math.floor((tokens - 1) / blockSize);
  const firstBlocks = Array.from({ length: Math.min(shown, blocks) }, (_, index) =>
    tokenizer.decode(first.slice(index * blockSize, (index + 1) * blockSize)),
  );
  const { texts, meanText, longestText } = counter;
  return {
    ...{ complete, texts, bytes: dataset.textBytes, tokens },
    ...{ unknownTokens: unkTokenId === undefined ? null : unknown, vocabSize },
    usedIds: used.reduce((sum, bit) => sum + bit, 0),
    ...{ meanText, longestText, lengths: counter.lengths(), blocks, firstBlocks },
    leftoverTokens: complete ? tokens - blocks * blockSize : null,
  };
}

/**
 * The id that stands for text alone that no token spells. A byte-level BPE spells any text, and names the end of a text its
 * unknown token, as GPT-2's does.
 */
function unknownId(tokenizer: TokenizerModel & { vocabulary?: Vocabulary }): number | undefined {
  const { unkTokenId, eosTokenId } = tokenizer;
  const isAnother = unkTokenId === eosTokenId || tokenizer.vocabulary?.method?.kind === 'byte-level-bpe';
  return isAnother ? undefined : unkTokenId;
}

/** A tokenizer that measures the texts that it encodes. */
class TextCounter implements TokenizerModel {
  begun = false;
  texts = 0;
  longestText = 0;
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly padTokenId: number | undefined;
  readonly unkTokenId: number | undefined;
  private tokens = 0;
  /** Bin k counts texts of 2^(k-1) to 2^k - 1 tokens; bin 0 empty ones. */
  private readonly bins = new Array<number>(54).fill(0);

  constructor(private readonly tokenizer: TokenizerModel) {
    this.vocabSize = tokenizer.vocabSize;
    this.bosTokenId = tokenizer.bosTokenId;
    this.eosTokenId = tokenizer.eosTokenId;
    this.padTokenId = tokenizer.padTokenId;
    this.unkTokenId = tokenizer.unkTokenId;
  }

  get meanText(): number {
    return this.tokens / Math.max(1, this.texts);
  }

  encode(text: string): number[] {
    const ids = this.tokenizer.encode(text);
    if (!this.begun) return ids;
    this.texts++;
    this.tokens += ids.length;
    this.longestText = Math.max(this.longestText, ids.length);
    this.bins[binOf(ids.length)]! += 1;
    return ids;
  }

  decode(ids: ArrayLike<number>): string {
    return this.tokenizer.decode(ids);
  }

  lengths(): LengthBin[] {
    return this.bins
      .slice(0, binOf(this.longestText) + 1)
      .map((texts, bin) => ({ from: bin === 0 ? 0 : 2 ** (bin - 1), to: 2 ** bin - 1, texts }));
  }
}

function binOf(length: number): number {
  return length === 0 ? 0 : Math.floor(Math.log2(length)) + 1;
}

/** What shuffling with a buffer does to the order of blocks. */
export interface ShuffleStatistics {
  bufferSize: number;
  /** Blocks that were shuffled to find out. */
  blocks: number;
  /** Places between where a block was and where it comes out, on average. */
  meanDistance: number;
  /** Most places that a block comes too early, and too late. */
  mostEarly: number;
  mostLate: number;
  /** Blocks by where they come out (row) and where they were (column), each axis cut into equal parts. */
  grid: number[][];
}

/** More blocks than that tell nothing new, and take time. */
const SHUFFLED_BLOCKS = 100_000;

/** Shuffles numbered blocks as the training would shuffle the real ones in its first epoch. */
export async function measureShuffle(
  options: { blocks: number; bufferSize: number; seed: number },
  size: { rows: number; columns: number },
): Promise<ShuffleStatistics> {
  const { bufferSize, seed } = options;
  const blocks = Math.min(options.blocks, SHUFFLED_BLOCKS);
  const rows = Math.min(size.rows, blocks);
  const columns = Math.min(size.columns, blocks);
  const grid = Array.from({ length: rows }, () => new Array<number>(columns).fill(0));
  const numbered = new NumberedBlocks(blocks);
  const shuffled = bufferSize > 0 ? new BufferedShuffleDataset(numbered, { bufferSize, seed }) : numbered;
  let place = 0;
  let distances = 0;
  let mostEarly = 0;
  let mostLate = 0;
  for await (const { inputIds } of shuffled) {
    const number = inputIds[0] as number;
    grid[Math.floor((place * rows) / blocks)]![Math.floor((number * columns) / blocks)]! += 1;
    distances += Math.abs(place - number);
    mostEarly = Math.max(mostEarly, number - place);
    mostLate = Math.max(mostLate, place - number);
    place++;
  }
  return { bufferSize, blocks, meanDistance: distances / Math.max(1, blocks), mostEarly, mostLate, grid };
}

/** Blocks of one id: their number. */
class NumberedBlocks implements BlockSource {
  readonly blockSize = 1;

  constructor(private readonly count: number) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Block, void> {
    for (let number = 0; number < this.count; number++) {
      yield { inputIds: Int32Array.of(number), labels: Int32Array.of(number) };
    }
  }

  state(): null {
    return null;
  }

  restore(): void {}
}
