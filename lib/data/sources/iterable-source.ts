import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KotodamaError } from '../../errors.js';
import { describe } from '../../validate.js';
import type { BlockOrigin, Json } from '../types.js';
import { type OnBadRecord, reject } from './bad-records.js';
import { inChunks, type PlacedText, type TextChunk, type TextPosition, type TextSource } from './text-source.js';

/** Texts in order, all at once or as they come. */
export type Texts = Iterable<string> | AsyncIterable<string>;

/** Texts from memory, or from anything that can be iterated. Each is a document. */
export class IterableSource implements TextSource {
  readonly kind = 'texts';
  private readonly texts: Texts | (() => Texts);
  private readonly onBad: OnBadRecord;
  private readBefore = false;
  /** Whether an earlier pass over the same object gave a text. */
  private gaveTexts = false;

  /**
   * @param texts the texts, or a function that gives them anew for each pass
   * @param onBad hears of what is not a string, which is then left out
   */
  constructor(texts: Texts | (() => Texts), onBad?: OnBadRecord) {
    if (typeof texts !== 'function' && !isIterable(texts)) {
      throw new KotodamaError('ERR_OPTIONS', 'Texts cannot be read from this', {
        expected: 'an iterable or async iterable of strings, or a function that returns one',
        received: describe(texts),
      });
    }
    this.texts = texts;
    this.onBad = onBad;
  }

  async *read(from: TextPosition): AsyncGenerator<TextChunk, void> {
    yield* inChunks(0, this.readTexts(from.offset), nameOfText);
  }

  mark(): string {
    return 'texts';
  }

  async locate([, offset, , lastOffset]: BlockOrigin): Promise<string> {
    return offset === lastOffset ? `text ${offset}` : `texts ${offset} to ${lastOffset}`;
  }

  async identity(): Promise<{ [key: string]: Json }> {
    return { source: this.kind, ...(Array.isArray(this.texts) && (await markTexts(this.texts))) };
  }

  private async *readTexts(from: number): AsyncGenerator<PlacedText[], void> {
    let index = 0;
    const same = typeof this.texts !== 'function';
    for await (const text of this.open()) {
      this.gaveTexts = true;
      if (typeof text !== 'string') {
        reject(
          nameOfText(index),
          { what: 'is not a string', expected: 'a string', received: describe(text) },
          this.onBad,
        );
      } else if (index >= from) yield [{ text, offset: index, end: index + 1 }];
      index++;
    }
    // Streams and readline say only so that what they gave is gone.
    if (same && index === 0 && this.gaveTexts) throw onlyOnce();
    if (index < from) {
      throw new KotodamaError('ERR_CHECKPOINT', 'There are fewer texts than the saved state has read', {
        expected: `at least ${from} texts`,
        received: String(index),
        hint: 'give the same texts as before, in the same order',
      });
    }
  }

  private open(): Texts {
    const texts: unknown = typeof this.texts === 'function' ? this.texts() : this.texts;
    if (!isIterable(texts)) {
      throw new KotodamaError('ERR_OPTIONS', 'The function that was to give texts gave something else', {
        expected: 'an iterable or async iterable of strings',
        received: describe(texts),
        hint: 'return a list; where the texts have to be waited for, write async function* () { yield text; }',
      });
    }
    if (isOneShot(texts)) {
      if (this.readBefore && texts === this.texts) {
        throw onlyOnce();
      }
      this.readBefore = true;
    }
    return texts;
  }
}

/** UTF-16 units that are hashed at once: some milliseconds in which the event loop waits. */
const HASHED_AT_ONCE = 2 ** 20;

/** How many texts there are, and the SHA-256 of all of them with their lengths. */
async function markTexts(texts: readonly unknown[]): Promise<{ count: number; sha256: string }> {
  const hash = createHash('sha256');
  let units = 0;
  for (const text of texts) {
    // What is no string is left out when it is read, or ends the run.
    if (typeof text === 'string') hash.update(`${text.length} `).update(text);
    else hash.update('none ');
    units += typeof text === 'string' ? text.length + 64 : 64;
    if (units < HASHED_AT_ONCE) continue;
    units = 0;
    await nextTurn();
  }
  return { count: texts.length, sha256: hash.digest('hex') };
}

function nameOfText(index: number): string {
  return `Text ${index}`;
}

function isIterable(value: unknown): value is Texts {
  return typeof value === 'object' && value !== null && (Symbol.iterator in value || Symbol.asyncIterator in value);
}

function onlyOnce(): KotodamaError {
  return new KotodamaError('ERR_DATA', 'These texts can be read only once, and were', {
    hint: 'give a function that returns a new generator for each pass: fromTexts(() => texts(), ...)',
  });
}

/** Generators are their own iterators: what they gave is gone. */
function isOneShot(texts: Texts): boolean {
  return 'next' in texts;
}
