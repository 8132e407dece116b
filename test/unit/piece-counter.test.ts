import t from 'tap';
import type { LaidWords } from '../../dist/tokenizer/training/unigram/laid-words.js';
import { latticeOf, PieceCounter } from '../../dist/tokenizer/training/unigram/piece-counter.js';

const TEXTS = ['a', 'b', 'c', 'ab', 'bc', 'abc', 'ca'];
const SCORES = Float64Array.of(-2, -2.5, -3, -2.2, -2.7, -3.1, -4);

/** Words of a, b and c, each counted up to five times. */
function someWords(size: number, length: number): LaidWords {
  let state = 7;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const units = new Uint16Array(1 + size * (length + 1));
  const starts = Int32Array.from({ length: size + 1 }, (_, word) => 1 + word * (length + 1));
  for (const start of starts.subarray(0, size)) {
    for (let i = 0; i < length; i++) units[start + i] = 0x61 + random(3);
  }
  return { units, starts, counts: Float64Array.from({ length: size }, () => 1 + random(5)), size };
}

t.test('many words are counted in two threads, and nothing is missed or counted twice', async (t) => {
  const words = someWords(40_000, 30);
  const lattice = latticeOf(TEXTS, 3);
  const counter = new PieceCounter(words, 3);
  t.ok(words.units.length >= 2 ** 20, 'enough for a second thread');
  const best = new Float64Array(TEXTS.length);
  lattice.countBest(words, SCORES, best);
  t.same(await counter.count('best', TEXTS, SCORES, () => lattice), best);
  const expected = new Float64Array(TEXTS.length);
  lattice.expect(words, SCORES.map(Math.exp), expected);
  const counted = await counter.count('expected', TEXTS, SCORES, () => lattice);
  for (const [id, count] of counted.entries()) t.ok(Math.abs(count / (expected[id] as number) - 1) < 1e-12, TEXTS[id]);
  t.same(await counter.count('expected', TEXTS, SCORES, () => lattice), counted, 'the same bits again');
  await counter.close();
});

t.test('when the second thread fails, so does counting', async (t) => {
  const counter = new PieceCounter(someWords(40_000, 30), 3);
  // The thread is sent something that is no text.
  const broken = { join: () => undefined } as unknown as string[];
  await t.rejects(
    counter.count('best', broken, SCORES, () => latticeOf(TEXTS, 3)),
    { name: 'TypeError' },
  );
  await counter.close();
});
