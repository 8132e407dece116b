import fc from 'fast-check';
import t from 'tap';
import { CounterRandom } from '../../dist/data/random.js';

/** Words as they are: all of them but one are below this limit. */
const ALL = 0xffffffff;

t.test('Philox 2x32-10: the known answers of its authors', async (t) => {
  t.equal(new CounterRandom(0, 0).below(ALL), 0xff1dae59);
  const pi = new CounterRandom(0x13198a2e, 0x85a308d3);
  pi.restore(0x243f6a88);
  t.equal(pi.below(ALL), 0xdd7ce038);
  const ones = new CounterRandom(0xffffffff, 0xffffffff);
  ones.restore(0xffffffff);
  t.equal(ones.below(ALL), 0x2c3f628b);
});

t.test('every number is below the limit, and continues from a saved state', async () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: ALL }), fc.nat(50), (seed, limit, before) => {
      const random = new CounterRandom(seed, 3);
      for (let i = 0; i < before; i++) random.below(limit);
      const state = random.state();
      const numbers = Array.from({ length: 10 }, () => random.below(limit));
      const again = new CounterRandom(seed, 3);
      again.restore(state);
      return numbers.every((n) => n >= 0 && n < limit) && numbers.every((n) => n === again.below(limit));
    }),
  );
});

t.test('all values of a small range are about equally likely', async (t) => {
  for (const seed of [0, 1, 2 ** 40]) {
    const counts = new Array<number>(7).fill(0);
    const random = new CounterRandom(seed, 0);
    for (let i = 0; i < 70_000; i++) counts[random.below(7)]++;
    const chiSquare = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    // 99.99 % of fair generators stay below 27.9 with 6 degrees of freedom; the seeds are fixed, so is the result.
    t.ok(chiSquare < 27.9, `seed ${seed}: chi-square ${chiSquare}`);
  }
});

t.test('seeds and streams differ', async (t) => {
  const words = (seed: number, stream: number) => {
    const random = new CounterRandom(seed, stream);
    return [random.below(ALL), random.below(ALL)].join();
  };
  t.equal(new Set([words(0, 0), words(1, 0), words(0, 1), words(2 ** 32, 0), words(2 ** 45, 0)]).size, 5);
});

t.test('a state of another kind', async (t) => {
  for (const state of ['1', -1, 1.5, null]) t.throws(() => new CounterRandom(0, 0).restore(state));
});
