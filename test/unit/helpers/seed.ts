import type { Test } from 'tap';

/** A new seed, which the test's output names; `KOTODAMA_TEST_SEED` repeats a run. */
export function printedSeed(t: Pick<Test, 'comment'>): number {
  const seed = Number(process.env.KOTODAMA_TEST_SEED ?? Date.now() % 2 ** 31);
  t.comment(`seed ${seed}`);
  return seed;
}
