import fc from 'fast-check';
import t from 'tap';
import { Permutation } from '../../dist/data/permutation.js';

function whole(size: number, seed = 0, epoch = 0): number[] {
  const permutation = new Permutation(size, seed, epoch);
  return Array.from({ length: size }, (_, index) => permutation.at(index));
}

/** Sum of (observed - expected)^2 / expected, in standard deviations above what chance gives. */
function excess(counts: readonly number[], freedom = counts.length - 1): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  const square = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  return (square - freedom) / Math.sqrt(2 * freedom);
}

t.test('every number once, whatever the size', async (t) => {
  const isPermutation = (order: number[]) => {
    const seen = new Set(order);
    return (
      seen.size === order.length &&
      order.every((number) => Number.isInteger(number) && number >= 0 && number < order.length)
    );
  };
  for (let size = 1; size <= 300; size++) if (!isPermutation(whole(size, size))) t.fail(`size ${size}`);
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5000 }),
      fc.maxSafeNat(),
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      (size, seed, epoch) => isPermutation(whole(size, seed, epoch)),
    ),
    { numRuns: 100 },
  );
});

t.test('sizes near 2^32: in range, without a number twice', async (t) => {
  for (const size of [2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1]) {
    const permutation = new Permutation(size, 1, 0);
    const numbers = Array.from({ length: 20_000 }, (_, i) => permutation.at(size - 1 - i));
    t.ok(numbers.every((number) => Number.isInteger(number) && number >= 0 && number < size));
    t.equal(new Set(numbers).size, numbers.length);
    const quarters = [0, 0, 0, 0];
    for (const number of numbers) quarters[Math.floor((number / size) * 4)]++;
    t.ok(Math.abs(excess(quarters)) < 5, `quarters of ${size}: ${quarters}`);
  }
});

t.test('the same for the same seed and epoch; seeds and epochs have orders of their own', async (t) => {
  const order = whole(1000, 7, 3);
  t.same(whole(1000, 7, 3), order);
  for (const [seed, epoch] of [
    [7, 4],
    [7, 2],
    [8, 3],
    [6, 3],
    [7 + 2 ** 40, 3],
  ]) {
    const same = whole(1000, seed, epoch).filter((number, index) => number === order[index]).length;
    // Two random orders agree in one place on average.
    t.ok(same < 8, `seed ${seed}, epoch ${epoch}: ${same} places agree`);
  }
});

t.test('all orders of a few numbers are equally likely', async (t) => {
  for (const size of [2, 3, 4, 5]) {
    const counts = new Map<string, number>();
    for (let seed = 0; seed < 100; seed++) {
      for (let epoch = 0; epoch < 300; epoch++) {
        const key = whole(size, seed, epoch).join();
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
    const orders = [1, 1, 2, 6, 24, 120][size];
    t.equal(counts.size, orders);
    const above = excess([...counts.values()]);
    t.ok(Math.abs(above) < 5, `${size} numbers: ${above.toFixed(2)} deviations`);
  }
});

t.test('no visible structure: places, steps between neighbours, their order', async (t) => {
  for (const size of [100, 1024, 4095]) {
    const [grid, steps] = [new Array(64).fill(0), new Array(32).fill(0)];
    let [ascents, pairs, correlation] = [0, 0, 0];
    for (let epoch = 0; epoch < 20; epoch++) {
      const order = whole(size, 5, epoch);
      for (const [index, number] of order.entries()) {
        grid[Math.floor((index / size) * 8) * 8 + Math.floor((number / size) * 8)]++;
        const next = order[index + 1];
        if (next === undefined) continue;
        steps[Math.floor((((next - number + size) % size) / size) * 32)]++;
        ascents += next > number ? 1 : 0;
        correlation += (next / size - 0.5) * (number / size - 0.5) * 12;
        pairs++;
      }
    }
    // Sizes that 8 and 32 do not divide have cells of unequal size: a little more room.
    t.ok(excess(grid, 49) < 6, `${size}: places ${excess(grid, 49).toFixed(2)}`);
    t.ok(excess(steps) < 8, `${size}: steps ${excess(steps).toFixed(2)}`);
    t.ok(
      Math.abs(ascents / pairs - 0.5) < 4 / Math.sqrt(12 * pairs) + 1 / size,
      `${size}: ${ascents} of ${pairs} ascend`,
    );
    t.ok(
      Math.abs(correlation / pairs) < 5 / Math.sqrt(pairs) + 1 / size,
      `${size}: correlation ${correlation / pairs}`,
    );
  }
});
