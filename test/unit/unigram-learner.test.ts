import fc from 'fast-check';
import t from 'tap';
import { PieceTrie } from '../../dist/tokenizer/sentencepiece/piece-trie.js';
import { digamma } from '../../dist/tokenizer/training/unigram/digamma.js';
import { frequentCharacters, type LaidWords, layWords } from '../../dist/tokenizer/training/unigram/laid-words.js';
import { Lattice } from '../../dist/tokenizer/training/unigram/lattice.js';
import { SeedPieces } from '../../dist/tokenizer/training/unigram/seed-pieces.js';
import { learnUnigram } from '../../dist/tokenizer/training/unigram/unigram-learner.js';
import { WordCounts } from '../../dist/tokenizer/training/word-counts.js';

type Counted = readonly (readonly [word: string, count: number])[];

function countsOf(words: Counted): WordCounts {
  const counts = new WordCounts();
  for (const [word, count] of words) {
    const bytes = Buffer.from(word);
    for (let i = 0; i < count; i++) counts.add(bytes, 0, bytes.length);
  }
  return counts;
}

function laid(words: Counted): LaidWords {
  const counts = countsOf(words);
  return layWords(counts, frequentCharacters(counts, 1));
}

/** Different words of few letters, one of which needs two UTF-16 units, with counts. */
const someWords = fc.uniqueArray(
  fc.tuple(
    fc.string({ unit: fc.constantFrom('a', 'b', 'あ', '𠮷'), minLength: 1, maxLength: 7 }),
    fc.integer({ min: 1, max: 5 }),
  ),
  { minLength: 1, maxLength: 6, selector: ([word]) => word },
);

t.test('digamma: values of Abramowitz and Stegun, table 6.1 and formulas 6.3.2 to 6.3.5', async (t) => {
  const gamma = 0.5772156649015329;
  const known: [number, number][] = [
    [1, -gamma],
    [0.5, -gamma - 2 * Math.LN2],
    [2, 1 - gamma],
    [1.5, 2 - gamma - 2 * Math.LN2],
    [10, 2.251752589066721],
  ];
  for (const [x, value] of known) t.ok(Math.abs(digamma(x) - value) < 1e-11, `${x}: ${digamma(x)}`);
  for (const x of [0.01, 0.3, 7.9, 8, 1e4, 1e9]) {
    t.ok(Math.abs(digamma(x + 1) - digamma(x) - 1 / x) < 1e-9 * Math.max(1, 1 / x), `step at ${x}`);
  }
});

t.test('seeds: the repeated texts that nothing always follows, by count times length', async () => {
  fc.assert(
    fc.property(someWords, fc.integer({ min: 2, max: 9 }), (words, longest) => {
      const counts = new Map<string, number>();
      const add = (text: string, count: number) => counts.set(text, (counts.get(text) ?? 0) + count);
      for (const [word, count] of words) {
        const characters = [...word];
        for (let from = 0; from < characters.length; from++) {
          for (let to = from + 1; to <= characters.length; to++) add(characters.slice(from, to).join(''), count);
        }
      }
      const expected = [...counts].filter(([text, count]) => {
        const goesOn = [...counts].some(([other, its]) => {
          return its === count && other.startsWith(text) && [...other].length === [...text].length + 1;
        });
        return [...text].length > 1 && text.length <= longest && count > 1 && !goesOn;
      });
      const found = new SeedPieces(laid(words), longest, 1000).find();
      const falls = found.every(({ text, count }, i) => {
        const before = found[i - 1];
        return before === undefined || before.count * before.text.length >= count * text.length;
      });
      const sorted = (list: [string, number][]) => JSON.stringify(list.sort());
      return falls && sorted(found.map(({ text, count }) => [text, count])) === sorted(expected);
    }),
    { numRuns: 200 },
  );
});

t.test('seeds: only the best are kept, however many there are', async (t) => {
  const words: [string, number][] = Array.from({ length: 3000 }, (_, i) => [`w${i.toString(26)}x`, 1 + (i % 5)]);
  const all = new SeedPieces(laid(words), 16, 1_000_000).find();
  const best = new SeedPieces(laid(words), 16, 50).find();
  t.ok(all.length > 400);
  t.equal(best.length, 50);
  const scores = (seeds: typeof all) => seeds.map(({ text, count }) => text.length * count);
  t.same(scores(best), scores(all).slice(0, 50));
});

/** Every way to write a word as pieces. */
function segmentations(word: string, pieces: readonly string[]): number[][] {
  if (word === '') return [[]];
  return pieces.flatMap((piece, id) => {
    if (!word.startsWith(piece)) return [];
    return segmentations(word.slice(piece.length), pieces).map((rest) => [id, ...rest]);
  });
}

/** Pieces over the letters of `someWords`, all letters among them, and a probability of each. */
const somePieces = fc
  .tuple(
    fc.uniqueArray(fc.string({ unit: fc.constantFrom('a', 'b', 'あ', '𠮷'), minLength: 2, maxLength: 4 }), {
      maxLength: 8,
    }),
    fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 12, maxLength: 12 }),
  )
  .map(([longer, weights]) => {
    const pieces = ['a', 'b', 'あ', '𠮷', ...longer];
    return { pieces, probabilities: Float64Array.from(pieces, (_, id) => weights[id] / 10_000) };
  });

function latticeOf(pieces: readonly string[]): Lattice {
  return new Lattice(new PieceTrie(pieces.map((piece, id) => [piece, id])), 8);
}

const near = (a: number, b: number) => Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a), Math.abs(b));

t.test('expected counts and likelihood are sums over all segmentations', async () => {
  fc.assert(
    fc.property(someWords, somePieces, (words, { pieces, probabilities }) => {
      const expected = new Float64Array(pieces.length);
      let logLikelihood = 0;
      for (const [word, count] of words) {
        const all = segmentations(word, pieces).map((ids) => ({
          ids,
          probability: ids.reduce((product, id) => product * probabilities[id], 1),
        }));
        const sum = all.reduce((total, { probability }) => total + probability, 0);
        logLikelihood += count * Math.log(sum);
        for (const { ids, probability } of all) for (const id of ids) expected[id] += (count * probability) / sum;
      }
      const found = new Float64Array(pieces.length);
      const result = latticeOf(pieces).expect(laid(words), probabilities, found);
      return near(result.logLikelihood, logLikelihood) && expected.every((value, id) => near(value, found[id]));
    }),
    { numRuns: 100 },
  );
});

t.test('improbable long words: nothing vanishes, nothing overflows', async (t) => {
  // One way only, so all is known; its probability is 1e-12 to the power of 500.
  const counts = new Float64Array(1);
  const word = 'a'.repeat(500);
  const { logLikelihood } = latticeOf(['a']).expect(laid([[word, 3]]), Float64Array.of(1e-12), counts);
  t.ok(near(logLikelihood, 3 * 500 * Math.log(1e-12)), String(logLikelihood));
  t.ok(near(counts[0], 1500), String(counts[0]));
  // Two ways at every place: the expected counts still cover the word.
  const pieces = ['a', 'aa', 'aaa'];
  const two = new Float64Array(3);
  const result = latticeOf(pieces).expect(laid([[word, 2]]), Float64Array.of(1e-11, 1e-9, 1e-10), two);
  t.ok(Number.isFinite(result.logLikelihood));
  t.ok(near(two[0] + 2 * two[1] + 3 * two[2], 1000), [...two].join());
});

t.test('best segmentations', async () => {
  fc.assert(
    fc.property(someWords, somePieces, (words, { pieces, probabilities }) => {
      const scores = probabilities.map(Math.log);
      const scoreOf = (ids: readonly number[]) => ids.reduce((sum, id) => sum + scores[id], 0);
      const lattice = latticeOf(pieces);
      const counts = new Float64Array(pieces.length);
      lattice.countBest(laid(words), scores, counts);
      const best = words.reduce((sum, [word, count]) => {
        return sum + count * Math.max(...segmentations(word, pieces).map(scoreOf));
      }, 0);
      if (
        !near(
          counts.reduce((sum, count, id) => sum + count * scores[id], 0),
          best,
        )
      )
        return false;
      return pieces.slice(4).every((piece) => {
        const units = Uint16Array.from({ length: piece.length }, (_, i) => piece.charCodeAt(i));
        const parts: number[] = [];
        const score = lattice.bestParts(units, piece.length, scores, parts);
        const others = segmentations(piece, pieces).filter((ids) => ids.length > 1);
        const spelled = parts
          .toReversed()
          .map((id) => pieces[id])
          .join('');
        return near(score, Math.max(...others.map(scoreOf))) && spelled === piece && parts.length > 1;
      });
    }),
    { numRuns: 100 },
  );
});

t.test('learning: sizes, characters, order; words that repeat become pieces', async (t) => {
  const words: [string, number][] = [
    ['▁rain', 40],
    ['▁raining', 20],
    ['▁train', 30],
    ['▁training', 25],
    ['▁q', 1],
  ];
  const counts = countsOf(words);
  const characters = frequentCharacters(counts, 1);
  const left: number[] = [];
  const pieces = await learnUnigram(layWords(counts, characters), characters, {
    size: characters.length + 3,
    onProgress: (count) => left.push(count),
  });
  t.equal(pieces.length, characters.length + 3);
  const texts = pieces.map(({ text }) => text);
  for (const { character } of characters) t.ok(texts.includes(character), character);
  t.ok(
    texts.some((text) => text.includes('rain')),
    texts.join(' '),
  );
  t.same(
    pieces.map(({ score }) => score),
    pieces.map(({ score }) => score).sort((a, b) => b - a),
    'the likeliest first',
  );
  t.ok(left.length >= 2 && left.every((count, i) => i === 0 || count <= left[i - 1]));
  const few = await learnUnigram(laid([['ab', 1]]), frequentCharacters(countsOf([['ab', 1]]), 1), { size: 100 });
  t.same(few.map(({ text }) => text).sort(), ['a', 'b'], 'no more than there is');
});

t.test('characters by their share; rare ones cut words', async (t) => {
  const counts = countsOf([
    ['aaxb', 5],
    ['b', 80],
  ]);
  const frequent = frequentCharacters(counts, 0.94);
  t.same(frequent, [
    { character: 'b', count: 85 },
    { character: 'a', count: 10 },
  ]);
  const { units, starts, counts: its, size } = layWords(counts, frequent);
  const texts = Array.from({ length: size }, (_, i) =>
    String.fromCharCode(...units.slice(starts[i], starts[i + 1] - 1)),
  );
  t.same(texts, ['aa', 'b', 'b']);
  t.same([...its], [5, 5, 80]);
});
