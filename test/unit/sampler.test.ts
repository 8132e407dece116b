import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { distribution, Sampler } from '../../dist/model/sampler.js';

const RULES = { temperature: 1, topK: undefined, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0 };

/** Logits whose softmax is proportional to `weights`. */
function logits(...weights: number[]): Float32Array {
  return Float32Array.from(weights, (weight) => Math.log(weight));
}

t.test('distributions worked out by hand', async (t) => {
  const weights = logits(1, 4, 2, 1);
  const cases: [string, Float32Array, object, number[]][] = [
    ['softmax', weights, {}, [1 / 8, 4 / 8, 2 / 8, 1 / 8]],
    ['temperature 0.5 squares', weights, { temperature: 0.5 }, [1 / 22, 16 / 22, 4 / 22, 1 / 22]],
    ['temperature 2 takes the root', logits(1, 4, 9), { temperature: 2 }, [1 / 6, 2 / 6, 3 / 6]],
    ['temperature 0 is greedy', weights, { temperature: 0, topK: 1, topP: 0.1 }, [0, 1, 0, 0]],
    ['greedy takes the first of equals', logits(1, 3, 3), { temperature: 0 }, [0, 1, 0]],
    ['top-k', weights, { topK: 2 }, [0, 4 / 6, 2 / 6, 0]],
    ['top-k keeps equals', weights, { topK: 3 }, [1 / 8, 4 / 8, 2 / 8, 1 / 8]],
    ['top-k beyond the vocabulary', weights, { topK: 100 }, [1 / 8, 4 / 8, 2 / 8, 1 / 8]],
    ['top-p ends when the mass is reached', weights, { topP: 0.6 }, [0, 4 / 6, 2 / 6, 0]],
    ['top-p keeps at least one', weights, { topP: 0.01 }, [0, 1, 0, 0]],
    ['top-p keeps the first of equals', weights, { topP: 0.8 }, [1 / 7, 4 / 7, 2 / 7, 0]],
    ['top-p looks at what top-k left', weights, { topK: 2, topP: 0.6 }, [0, 1, 0, 0]],
    ['top-p looks at what temperature made', weights, { temperature: 0.5, topP: 0.7 }, [0, 1, 0, 0]],
    ['large logits do not overflow', Float32Array.of(3e38, 3e38, -3e38), {}, [0.5, 0.5, 0]],
  ];
  for (const [name, values, rules, expected] of cases) {
    const found = distribution(values, { ...RULES, ...rules });
    const error = Math.max(...expected.map((value, id) => Math.abs(value - found[id])));
    t.ok(error < 1e-6, `${name}: ${found}`);
  }
});

t.test('min-p and the repetition penalty, worked out by hand', async (t) => {
  const weights = logits(1, 4, 2, 1);
  const cases: [string, Float32Array, object, number[], number[]][] = [
    ['min-p', weights, { minP: 0.4 }, [], [0, 4 / 6, 2 / 6, 0]],
    ['min-p keeps what is likely enough', weights, { minP: 0.2 }, [], [1 / 8, 4 / 8, 2 / 8, 1 / 8]],
    ['min-p of 1 leaves the likeliest', weights, { minP: 1 }, [], [0, 1, 0, 0]],
    ['min-p looks at what temperature made', weights, { minP: 0.2, temperature: 0.5 }, [], [0, 16 / 20, 4 / 20, 0]],
    ['a positive logit is divided', logits(1, 16, 4), { repetitionPenalty: 2 }, [1], [1 / 9, 4 / 9, 4 / 9]],
    ['a negative one is multiplied', logits(1, 1 / 2, 1), { repetitionPenalty: 2 }, [1], [4 / 9, 1 / 9, 4 / 9]],
    ['the penalty counts once', logits(1, 16, 4), { repetitionPenalty: 2 }, [1, 1, 1], [1 / 9, 4 / 9, 4 / 9]],
    ['greedy too', logits(1, 16, 8), { repetitionPenalty: 2, temperature: 0 }, [1], [0, 0, 1]],
    ['ids beyond the logits are none of them', logits(1, 1), { repetitionPenalty: 2 }, [7], [1 / 2, 1 / 2]],
  ];
  for (const [name, values, rules, seen, expected] of cases) {
    const before = values.slice();
    const found = distribution(values, { ...RULES, ...rules }, seen);
    const error = Math.max(...expected.map((value, id) => Math.abs(value - found[id])));
    t.ok(error < 1e-6, `${name}: ${found}`);
    t.same(values, before, 'the logits themselves stay');
  }
});

t.test("Transformers' own processors give the same distributions", async (t) => {
  const fixture = new URL('fixtures/sampling/expected.json', import.meta.url);
  const cases: { options: Record<string, number>; logits: number[]; seen: number[]; probabilities: number[] }[] =
    JSON.parse(readFileSync(fixture, 'utf8'));
  for (const { options, logits, seen, probabilities } of cases) {
    const { temperature = 1, top_k: topK, top_p: topP = 1, min_p: minP = 0, repetition_penalty = 1 } = options;
    const rules = { temperature, topK, topP, minP, repetitionPenalty: repetition_penalty, seed: 0 };
    const found = distribution(Float32Array.from(logits), rules, seen);
    const error = Math.max(...probabilities.map((value, id) => Math.abs(value - found[id])));
    t.ok(error < 1e-6, `${JSON.stringify(options)}: ${error}`);
    t.same(
      found.map((p) => Number(p > 0)),
      Float64Array.from(probabilities, (p) => Number(p > 0)),
      'the same ids are left',
    );
  }
});

t.test('top-p of a large vocabulary is what sorting all of it would leave', async (t) => {
  const property = fc.property(
    fc.integer({ min: 0, max: 1e9 }),
    fc.integer({ min: 0, max: 120 }).map((tenths) => tenths / 10),
    fc.integer({ min: 1, max: 999 }).map((thousandths) => thousandths / 1000),
    (seed, spread, topP) => {
      const values = Float32Array.from({ length: 3000 }, (_, i) => spread * Math.sin((i + 1) * (seed + 0.5)));
      const everything = distribution(values, RULES);
      const order = Array.from(everything.keys()).sort((a, b) => everything[b] - everything[a] || a - b);
      let sum = 0;
      const nucleus = new Set<number>();
      for (const id of order) {
        if (sum >= topP) break;
        nucleus.add(id);
        sum += everything[id];
      }
      return distribution(values, { ...RULES, topP }).every((p, id) => p > 0 === nucleus.has(id));
    },
  );
  t.doesNotThrow(() => fc.assert(property, { numRuns: 50 }));
});

t.test('a sampler punishes what the prompt has, and then what it chose', async (t) => {
  const sampler = new Sampler({ ...RULES, temperature: 0, repetitionPenalty: 10 }, [3]);
  const values = logits(2, 3, 4, 5);
  t.same(
    Array.from({ length: 5 }, () => sampler.pick(values)),
    [2, 1, 0, 3, 3],
  );
});

t.test('any rules give a distribution that holds one of the likeliest ids', async (t) => {
  const property = fc.property(
    fc.float32Array({ minLength: 1, maxLength: 40, noNaN: true, noDefaultInfinity: true }),
    fc.record({
      temperature: fc.double({ min: 0, max: 5, noNaN: true }),
      topK: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
      topP: fc.double({ min: 0, max: 1, minExcluded: true, noNaN: true }),
      minP: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    (values, rules) => {
      const found = distribution(values, { ...RULES, ...rules });
      const sum = found.reduce((a, b) => a + b, 0);
      // Logits closer than float64 resolves at this temperature are equally likely; the first of them may stand for all.
      const everything = distribution(values, { ...RULES, ...rules, topP: 1, minP: 0 });
      const likeliest = Math.max(...everything);
      const kept = found.some((p, id) => p > 0 && everything[id] === likeliest);
      return Math.abs(sum - 1) < 1e-9 && kept && found.every((p) => p >= 0);
    },
  );
  t.doesNotThrow(() => fc.assert(property));
});

t.test('picks follow the distribution and the seed', async (t) => {
  const values = logits(1, 4, 2, 1);
  const draws = (seed: number) => {
    const sampler = new Sampler({ ...RULES, topK: 2, seed });
    return Array.from({ length: 6000 }, () => sampler.pick(values));
  };
  const first = draws(1);
  t.same(draws(1), first);
  t.notSame(draws(2), first);
  t.notSame(draws(2 ** 32 + 1), first, 'the upper bits of a seed count');
  // 4000 expected of id 1; six standard deviations are 219.
  const ones = first.filter((id) => id === 1).length;
  t.ok(Math.abs(ones - 4000) < 219, `${ones}`);
  t.equal(ones + first.filter((id) => id === 2).length, 6000);
});

t.test('a logit that is not finite is an error', async (t) => {
  for (const bad of [Number.NaN, Infinity, -Infinity]) {
    t.throws(() => new Sampler(RULES).pick(Float32Array.of(1, bad)), {
      code: 'ERR_NON_FINITE',
      message: /logit of id 1/,
    });
  }
});
