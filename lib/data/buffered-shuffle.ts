import { KotodamaError } from '../errors.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { OptionReader } from '../validate.js';
import { mostPackedBlocks, packBlock, unpackBlock } from './block-json.js';
import { beginPass, checkSource, type EncodedSource, type Pass, tokenizerOf, upcomingOf } from './encoded-source.js';
import type { Encoder } from './encoder.js';
import { CounterRandom, type RandomIntegers } from './random.js';
import { badState, readCount, readState, type StateObject } from './state.js';
import type { Block, BlockOrigin, BlockSource, Json } from './types.js';

/** How blocks are shuffled. */
export interface BufferedShuffleOptions {
  /**
   * Blocks held; a block comes out at most `bufferSize` - 1 places early. Default 100. All of them have to fit into one JSON
   * text of a state, which about 90,000 of 1024 ids do: when more are to be held, a pass fails with `ERR_OPTIONS` before its
   * first block.
   */
  bufferSize?: number | undefined;
  /** From 0 to 2^53 - 1. Default 0. */
  seed?: number | undefined;
  /** Another source of random numbers, made anew for each epoch (counted from 0). */
  random?: ((epoch: number) => RandomIntegers) | undefined;
}

/** A pass between two blocks; never changed once made. */
interface PassState {
  epoch: number;
  random: Json;
  buffer: readonly Block[];
  /** Whether the source has ended and the buffer is in its final order. */
  draining: boolean;
  source: () => Json;
}

/**
 * Shuffles blocks with a buffer, as torch 1.8's BufferedShuffleDataset does: the buffer is filled; then a random element
 * is given out and the newcomer takes its place; at the end the buffer is shuffled and emptied from its end.
 *
 * The order depends on the seed and the epoch alone. `state()` holds the buffer.
 */
export class BufferedShuffleDataset implements EncodedSource {
  readonly blockSize: number;
  readonly tokenizer: TokenizerModel | undefined;
  private readonly dataset: BlockSource;
  private readonly bufferSize: number;
  /** Null when the random numbers come from elsewhere. */
  private readonly seed: number | null;
  private readonly randomOf: (epoch: number) => RandomIntegers;
  /** Where the next pass begins; undefined for the beginning of `epoch`. */
  private start: PassState | undefined;
  /** Of the next pass. */
  private epoch = 0;
  /** The pass that was begun last; undefined when `start` is to be the next. */
  private pass: { now: () => PassState } | undefined;

  /** @throws KotodamaError `ERR_OPTIONS` that lists every problem. */
  constructor(dataset: BlockSource, options: BufferedShuffleOptions = {}) {
    const reader = new OptionReader(options);
    reader.onlyKnown(['bufferSize', 'seed', 'random']);
    this.bufferSize = reader.integer('bufferSize', { min: 1 }, 100);
    const seed = reader.integer('seed', { min: 0 }, 0);
    const { random = undefined } = options ?? {};
    if (random !== undefined && typeof random !== 'function') reader.problem('random', 'a function', random);
    checkSource(reader, dataset);
    reader.finish('These options cannot make a BufferedShuffleDataset');
    this.seed = random === undefined ? seed : null;
    this.dataset = dataset;
    this.blockSize = dataset.blockSize;
    this.tokenizer = tokenizerOf(dataset);
    this.randomOf = random ?? ((epoch) => new CounterRandom(seed, epoch));
  }

  /** A pass in the order of its epoch, or from where `restore` said. */
  [Symbol.asyncIterator](): AsyncGenerator<Block, void> {
    return this.begin(undefined).blocks;
  }

  /** For the DataLoader; see EncodedSource. @hidden */
  begin(encoder: Encoder | undefined): Pass {
    const start = this.next();
    const source = start.draining ? undefined : beginPass(this.dataset, encoder);
    const pass = { now: () => start };
    this.start = undefined;
    this.epoch = start.epoch + 1;
    this.pass = pass;
    return {
      blocks: this.mix(start, pass, source),
      snapshot: () => stateOf(pass.now()),
      close: () => source?.close?.(),
    };
  }

  state(): Json {
    return stateOf(this.pass?.now() ?? this.next())();
  }

  /** For the DataLoader; see EncodedSource. @hidden */
  upcoming(): () => Json {
    return stateOf(this.next());
  }

  async locate(origin: BlockOrigin): Promise<string> {
    return (await this.dataset.locate?.(origin)) ?? 'an unknown place';
  }

  async identity(): Promise<Json> {
    const { bufferSize, seed } = this;
    return { bufferSize, seed, of: (await this.dataset.identity?.()) ?? null };
  }

  restore(state: Json): void {
    const saved = readState(state, 'shuffle');
    const { draining, source = null, random = null } = saved;
    if (typeof draining !== 'boolean') throw badState("true or false as 'draining'", String(draining));
    const epoch = readCount(saved, 'epoch');
    const buffer = this.readBuffer(saved);
    checkRandom(this.randomOf(epoch), random);
    this.dataset.restore(source);
    this.start = { epoch, random, buffer, draining, source: () => source };
    this.pass = undefined;
  }

  /**
   * One pass from `start`; `pass.now` always tells how to go on after the last block yielded.
   *
   * @param source the pass that gives what is left; undefined when it has ended
   */
  private async *mix(
    start: PassState,
    pass: { now: () => PassState },
    source: Pass<AsyncIterable<Block>> | undefined,
  ): AsyncGenerator<Block, void> {
    const random = this.randomOf(start.epoch);
    random.restore(start.random);
    const buffer = [...start.buffer];
    const most = mostPackedBlocks(this.blockSize);
    /** Notes what a run that begins again here would need. */
    const note = (draining: boolean) => {
      const { epoch } = start;
      const [state, rest] = [random.state(), source?.snapshot() ?? start.source];
      // The buffer changes only after the block has been taken; a snapshot copies it before that.
      pass.now = () => ({ epoch, random: state, buffer: [...buffer], draining, source: rest });
    };

    if (source !== undefined) {
      for await (const block of source.blocks) {
        if (buffer.length < this.bufferSize) {
          // Here and not once it is saved, hours later; short texts never get here, whatever `bufferSize` is.
          if (buffer.length === most) throw this.tooLarge(most);
          buffer.push(block);
          continue;
        }
        const index = random.below(buffer.length);
        const chosen = buffer[index] as Block;
        buffer[index] = block;
        note(false);
        yield chosen;
      }
      shuffle(buffer, random);
    }
    for (let block = buffer.pop(); block !== undefined; block = buffer.pop()) {
      note(true);
      yield block;
    }
    pass.now = () => this.next();
  }

  /** Where the next pass begins. */
  private next(): PassState {
    if (this.start !== undefined) return this.start;
    const random = this.randomOf(this.epoch).state();
    return { epoch: this.epoch, random, buffer: [], draining: false, source: upcomingOf(this.dataset) };
  }

  private tooLarge(most: number): KotodamaError {
    return new KotodamaError('ERR_OPTIONS', 'The shuffle buffer would be too large to be saved in a checkpoint', {
      expected: `a bufferSize (--shuffle-buffer) of at most ${most} blocks of ${this.blockSize} ids`,
      received: String(this.bufferSize),
      hint: 'choose a smaller one, or use kotodama tokenize first: token files are shuffled as a whole, without a buffer',
    });
  }

  private readBuffer(saved: StateObject): Block[] {
    if (!Array.isArray(saved.buffer)) throw badState("a list as 'buffer'", typeof saved.buffer);
    if (saved.buffer.length > this.bufferSize) {
      throw badState(`a buffer of at most ${this.bufferSize} blocks`, `${saved.buffer.length}`);
    }
    return saved.buffer.map((packed) => unpackBlock(packed, this.blockSize));
  }
}

function stateOf({ epoch, random, buffer, draining, source }: PassState): () => Json {
  return () => ({ kind: 'shuffle', epoch, random, draining, buffer: buffer.map(packBlock), source: source() });
}

/** Fisher and Yates, from the end. */
function shuffle(buffer: Block[], random: RandomIntegers): void {
  for (let i = buffer.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [buffer[i], buffer[j]] = [buffer[j] as Block, buffer[i] as Block];
  }
}

function checkRandom(random: RandomIntegers, state: Json): void {
  try {
    random.restore(state);
  } catch (cause) {
    throw new KotodamaError('ERR_CHECKPOINT', 'The saved state of the random numbers does not fit', { cause });
  }
}
