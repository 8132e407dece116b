import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { PieceTrie } from '../../sentencepiece/piece-trie.js';
import { type LaidWords, SEPARATOR } from './laid-words.js';
import { Lattice } from './lattice.js';

/** What is counted: occurrences in all segmentations, weighted by their probabilities, or in the best ones alone. */
export type Occurrences = 'expected' | 'best';

/** What the second thread works with: its words, and the length of the longest piece. */
export interface CountingWork {
  words: LaidWords;
  longest: number;
}

/** What the second thread is asked; it answers with the counts. */
export interface CountingRequest {
  occurrences: Occurrences;
  /** Joined by {@link SEPARATOR}: one long text travels much faster than many short ones. */
  texts: string;
  scores: Float64Array;
}

/** Words of at least so many units are worth a second thread. It depends on the text alone, as the sums' last bits do. */
const SHARED_UNITS = 2 ** 20;

const BETWEEN = String.fromCharCode(SEPARATOR);

/** Counts the pieces of models in words. Of many words a second thread takes one half. */
export class PieceCounter {
  private readonly words: LaidWords;
  private readonly helper: Worker | undefined;

  constructor(words: LaidWords, longest: number) {
    if (words.units.length < SHARED_UNITS || words.size < 2) {
      this.words = words;
      return;
    }
    const [mine, others] = halves(words);
    this.words = mine;
    this.helper = new Worker(new URL('./counting-worker.js', import.meta.url), {
      workerData: { words: others, longest } satisfies CountingWork,
      execArgv: [],
    });
  }

  /** How often each piece occurs, by id. */
  async count(
    occurrences: Occurrences,
    texts: readonly string[],
    scores: Float64Array,
    lattice: () => Lattice,
  ): Promise<Float64Array> {
    this.helper?.postMessage({ occurrences, texts: texts.join(BETWEEN), scores } satisfies CountingRequest);
    // Rejects if the thread fails.
    const answer = this.helper === undefined ? undefined : once(this.helper, 'message');
    answer?.catch(() => {});
    const counts = countIn(this.words, occurrences, scores, lattice());
    const [others] = ((await answer) ?? []) as [Float64Array?];
    if (others !== undefined) for (let id = 0; id < counts.length; id++) counts[id]! += others[id]!;
    return counts;
  }

  async close(): Promise<void> {
    await this.helper?.terminate();
  }
}

/** Answers a request. */
export function answerCounting({ words, longest }: CountingWork, request: CountingRequest): Float64Array<ArrayBuffer> {
  const { occurrences, texts, scores } = request;
  return countIn(words, occurrences, scores, latticeOf(texts.split(BETWEEN), longest));
}

export function latticeOf(texts: readonly string[], longest: number): Lattice {
  return new Lattice(new PieceTrie(texts.map((text, id) => [text, id])), longest);
}

function countIn(
  words: LaidWords,
  occurrences: Occurrences,
  scores: Float64Array,
  lattice: Lattice,
): Float64Array<ArrayBuffer> {
  const counts = new Float64Array(scores.length);
  if (occurrences === 'expected') lattice.expect(words, scores.map(Math.exp), counts);
  else lattice.countBest(words, scores, counts);
  return counts;
}

/** The first words and, in memory of their own, the others: about as many units each. */
function halves({ units, starts, counts, size }: LaidWords): [LaidWords, LaidWords] {
  let middle = 1;
  while (middle < size - 1 && starts[middle]! < units.length / 2) middle++;
  const from = starts[middle]! - 1;
  return [
    { units, starts: starts.subarray(0, middle + 1), counts: counts.subarray(0, middle), size: middle },
    {
      units: units.slice(from),
      starts: starts.slice(middle).map((start) => start - from),
      counts: counts.slice(middle),
      size: size - middle,
    },
  ];
}
