import fc from 'fast-check';
import t from 'tap';
import { distribution, Sampler } from '../../dist/model/sampler.js';

const RULES = { temperature: 1, topK: undefined, topP: 1, seed: 0 };

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

t.test('any rules give a distribution that holds one of the likeliest ids', async (t) => {
  const property = fc.property(
    fc.float32Array({ minLength: 1, maxLength: 40, noNaN: true, noDefaultInfinity: true }),
    fc.record({
      temperature: fc.double({ min: 0, max: 5, noNaN: true }),
      topK: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
      topP: fc.double({ min: 0, max: 1, minExcluded: true, noNaN: true }),
    }),
    (values, rules) => {
      const found = distribution(values, { ...RULES, ...rules });
      const sum = found.reduce((a, b) => a + b, 0);
      // Logits closer than float64 resolves at this temperature are equally likely; the first of them may stand for all.
      const everything = distribution(values, { ...RULES, ...rules, topP: 1 });
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
