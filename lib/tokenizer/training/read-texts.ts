import type { OnBadRecord } from '../../data/sources/bad-records.js';
import { FileSource } from '../../data/sources/file-source.js';
import { IterableSource } from '../../data/sources/iterable-source.js';
import { publicName } from '../../data/sources/public-name.js';
import { contentOf, reportProblems, type TextVisitor, visitTexts } from '../../data/sources/read-chunk.js';
import { KotodamaError } from '../../errors.js';
import type { TrainTokenizerOptions } from './options.js';
import type { Turns } from './turns.js';
import type { WordCounts } from './word-counts.js';

/** Counts the words of texts, however it makes words of them. */
export interface WordVisitor extends TextVisitor {
  readonly words: WordCounts;
  /** Bytes of the texts so far. */
  readonly bytes: number;
}

/**
 * Streams all texts through a visitor.
 *
 * @throws KotodamaError `ERR_DATA` when there is no word in them; what reading and counting throw
 */
export async function readTexts(
  {
    files = [],
    texts,
    textField,
    encoding,
    keepLinebreaks,
    skipBad = false,
  }: Pick<TrainTokenizerOptions, 'files' | 'texts' | 'textField' | 'encoding' | 'keepLinebreaks' | 'skipBad'>,
  visitor: WordVisitor,
  turns: Turns,
): Promise<void> {
  const paths = typeof files === 'string' ? [files] : files;
  const note = typeof skipBad === 'function' ? skipBad : () => {};
  const onBad: OnBadRecord = skipBad === false ? undefined : note;
  const reading = { textField, encoding, keepLinebreaks, onBad };
  const source = texts === undefined ? new FileSource(paths, reading) : new IterableSource(texts, onBad);
  await turns.next();
  const progress = () => ({ phase: 'count', bytes: visitor.bytes, distinctWords: visitor.words.size }) as const;
  const closing = new AbortController();
  const chunks = source.read({ file: 0, offset: 0 }, closing.signal);
  let waiting = false;
  try {
    for (;;) {
      waiting = true;
      const { done, value } = await turns.wait(chunks.next());
      waiting = false;
      if (done === true) break;
      await reportProblems(value, visitTexts(contentOf(value), visitor, onBad !== undefined), onBad);
      await turns.next(progress);
    }
  } finally {
    closing.abort();
    const closed = chunks.return();
    // A source that still waits for text closes when it comes.
    if (waiting) closed.catch(() => {});
    else await closed;
  }
  await turns.next(progress, true);
  if (visitor.words.size > 0) return;
  throw new KotodamaError('ERR_DATA', 'A tokenizer cannot be trained without text', {
    expected: 'at least one text that is not empty',
    received: paths.length > 0 ? `only empty texts in ${paths.map(publicName).join(', ')}` : 'none',
  });
}
