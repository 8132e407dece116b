import { isIterable, OptionReader } from '../validate.js';
import { stackBlocks } from './collate.js';
import { type Batch, type Block, IGNORED_LABEL } from './types.js';

/** How a text is cut into overlapping windows. */
export interface SlidingWindowsOptions {
  /** Ids in a window, at most the model's nPositions. */
  windowSize: number;
  /** Ids from one window to the next, at most `windowSize`. */
  stride: number;
  /** Windows in a batch. Default 1. */
  batchSize?: number | undefined;
}

/**
 * Overlapping windows over a text, for the perplexity of a model whose context is shorter than the text: the k-th one
 * holds the ids from k * stride on, and its labels are the ids that no window before it had. So each id but the first is a
 * label once, and sees at least `windowSize - stride` ids before it. The windows are those of Hugging Face's guide
 * "Perplexity of fixed-length models"; a smaller stride measures better and takes longer. With a stride of `windowSize`
 * nothing overlaps, and the first id of each window is not measured.
 *
 * A window of W ids becomes W - 1 inputs and labels, since its last id is nobody's input; the last window may be shorter,
 * and is padded.
 *
 * @param batches the text in order, as a DataLoader of a dataset that is not shuffled gives it
 * @throws KotodamaError `ERR_OPTIONS`
 */
export async function* slidingWindows(
  batches: AsyncIterable<Batch>,
  options: SlidingWindowsOptions,
): AsyncGenerator<Batch, void> {
  const reader = new OptionReader(options);
  reader.onlyKnown(['windowSize', 'stride', 'batchSize']);
  const windowSize = reader.integer('windowSize', { min: 2 });
  const stride = reader.integer('stride', { min: 1, ...(windowSize >= 2 && { max: windowSize }) });
  const batchSize = reader.integer('batchSize', { min: 1 }, 1);
  if (!isIterable(batches)) reader.problem('batches', 'a DataLoader, or an async iterable of batches', batches);
  reader.finish('These options make no sliding windows');

  let gathered: Block[] = [];
  for await (const window of windows(batches, windowSize, stride)) {
    gathered.push(window);
    if (gathered.length < batchSize) continue;
    yield stackBlocks(gathered);
    gathered = [];
  }
  if (gathered.length > 0) yield stackBlocks(gathered);
}

async function* windows(
  batches: AsyncIterable<Batch>,
  windowSize: number,
  stride: number,
): AsyncGenerator<Block, void> {
  /** The ids of the window at hand, and more. */
  let ids: number[] = [];
  /** How many of them were labels before, or are the first id of all. */
  let known = 1;
  for await (const more of idsOf(batches)) {
    // One by one: as many arguments as a batch has ids would overflow the stack.
    for (const id of more) ids.push(id);
    while (ids.length >= windowSize) {
      yield windowOf(ids.slice(0, windowSize), known, windowSize);
      ids = ids.slice(stride);
      known = windowSize - stride;
    }
  }
  if (ids.length > Math.max(1, known)) yield windowOf(ids, known, windowSize);
}

/** The ids of a text, once each: the labels of its blocks, and the first input. */
async function* idsOf(batches: AsyncIterable<Batch>): AsyncGenerator<Int32Array, void> {
  let first = true;
  for await (const { inputIds, labels } of batches) {
    if (first) yield inputIds.data.slice(0, 1);
    first = false;
    yield labels.data.filter((id) => id !== IGNORED_LABEL);
  }
}

function windowOf(ids: readonly number[], known: number, windowSize: number): Block {
  const inputIds = new Int32Array(windowSize - 1);
  const labels = new Int32Array(windowSize - 1).fill(IGNORED_LABEL);
  inputIds.set(ids.slice(0, -1));
  // The first id has nothing before it to be predicted from.
  const begin = Math.max(1, known);
  labels.set(ids.slice(begin), begin - 1);
  return { inputIds, labels };
}
