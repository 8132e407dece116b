import { BufferedShuffleDataset } from '../data/buffered-shuffle.js';
import { type Block, type BlockSource, IGNORED_LABEL } from '../data/types.js';
import type { TokenizerModel } from '../tokenizer/types.js';

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
  tokens: number;
  /** null for a tokenizer without an unknown token. */
  unknownTokens: number | null;
  vocabSize: number;
  /** Ids that occur. */
  usedIds: number;
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
 * Cuts texts into blocks as the training does and counts what passes the tokenizer. Memory does not grow with the text.
 *
 * @param open blocks of texts that are encoded with this tokenizer, the last one padded
 * @param options.limit bytes of text after which to stop; 0 reads everything
 * @param options.shown number of blocks to decode
 * @param options.onBlock hears after each block how many bytes of text are measured
 * @throws KotodamaError as the training would about files and their content, and `ERR_DATA` for less than two tokens
 */
export async function measureTexts(
  open: (tokenizer: TokenizerModel) => BlockSource,
  tokenizer: TokenizerModel,
  { limit, shown, onBlock }: { limit: number; shown: number; onBlock?: (bytes: number) => void },
): Promise<DataStatistics> {
  // Counting in the tokenizer measures exactly what the training would learn from, whatever the texts are.
  const counter = new TokenCounter(tokenizer);
  const firstBlocks: string[] = [];
  let complete = true;
  let blocks = 0;
  // The last token has no successor, so at least that one is always left over.
  let leftoverTokens = 1;
  for await (const { inputIds, labels } of open(counter)) {
    const learned = labels.indexOf(IGNORED_LABEL);
    if (learned >= 0) {
      leftoverTokens = learned + 1;
      break;
    }
    blocks++;
    onBlock?.(counter.bytes);
    if (firstBlocks.length < shown) firstBlocks.push(tokenizer.decode(inputIds));
    if (limit > 0 && counter.bytes >= limit) {
      complete = false;
      break;
    }
  }
  const { texts, bytes, tokens, unknownTokens, longestText } = counter;
  return {
    ...{ complete, texts, bytes, tokens, unknownTokens, vocabSize: tokenizer.vocabSize, usedIds: counter.usedIds() },
    ...{ longestText, lengths: counter.lengths(), blocks, firstBlocks },
    leftoverTokens: complete ? leftoverTokens : null,
  };
}

/** A tokenizer that counts what it encodes. */
class TokenCounter implements TokenizerModel {
  texts = 0;
  bytes = 0;
  tokens = 0;
  unknownTokens: number | null;
  longestText = 0;
  readonly vocabSize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly padTokenId: number | undefined;
  readonly unkTokenId: number | undefined;
  private readonly used: Uint8Array;
  /** Bin k counts texts of 2^(k-1) to 2^k - 1 tokens; bin 0 empty ones. */
  private readonly bins = new Array<number>(54).fill(0);

  constructor(private readonly tokenizer: TokenizerModel) {
    this.vocabSize = tokenizer.vocabSize;
    this.bosTokenId = tokenizer.bosTokenId;
    this.eosTokenId = tokenizer.eosTokenId;
    this.padTokenId = tokenizer.padTokenId;
    this.unkTokenId = tokenizer.unkTokenId;
    this.unknownTokens = tokenizer.unkTokenId === undefined ? null : 0;
    this.used = new Uint8Array(tokenizer.vocabSize);
  }

  encode(text: string): number[] {
    const ids = this.tokenizer.encode(text);
    this.texts++;
    this.bytes += Buffer.byteLength(text);
    this.tokens += ids.length;
    this.longestText = Math.max(this.longestText, ids.length);
    this.bins[binOf(ids.length)]! += 1;
    for (const id of ids) {
      this.used[id] = 1;
      if (id === this.unkTokenId) this.unknownTokens! += 1;
    }
    return ids;
  }

  decode(ids: ArrayLike<number>): string {
    return this.tokenizer.decode(ids);
  }

  usedIds(): number {
    return this.used.reduce((sum, bit) => sum + bit, 0);
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
