import { type Batch, IGNORED_LABEL } from './types.js';

/** The ids that were cut into batches in order, from a BlockDataset with `dropLast: false` (so that none is missing). */
export async function* idsOf(batches: AsyncIterable<Batch>): AsyncGenerator<Int32Array, void> {
  let first = true;
  for await (const { inputIds, labels } of batches) {
    // Every label is the id after its input, so the labels are all ids but the very first.
    if (first) yield inputIds.data.slice(0, 1);
    first = false;
    const end = labels.data.indexOf(IGNORED_LABEL);
    yield end < 0 ? labels.data : labels.data.subarray(0, end);
  }
}
