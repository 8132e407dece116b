import fc from 'fast-check';
import t, { type Test } from 'tap';
import { learningRateAt, needsTotalSteps, SCHEDULES, type Schedule } from '../../dist/train/schedule.js';
import { printedSeed } from './helpers/seed.js';

const base: Schedule = { name: 'cosine', lr: 6e-4, minLr: 6e-5, warmupSteps: 0, totalSteps: 10 };

function rates(schedule: Schedule, steps: number): number[] {
  return Array.from({ length: steps }, (_, step) => learningRateAt(schedule, step));
}

/** Equal but for the rounding of doubles. */
function close(t: Test, found: number[], wanted: number[]): void {
  t.equal(found.length, wanted.length);
  for (const [step, rate] of found.entries()) {
    t.ok(Math.abs(rate - wanted[step]) < 1e-15, `step ${step}: ${rate} is ${wanted[step]}`);
  }
}

t.test('cosine equals PyTorch CosineAnnealingLR(T_max=10, eta_min=6e-5)', async (t) => {
  close(
    t,
    rates(base, 10),
    [
      0.0006, 0.0005867852593996914, 0.0005484345884812357, 0.0004887020181189676, 0.0004134345884812357,
      0.00032999999999999994, 0.0002465654115187642, 0.00017129798188103226, 0.00011156541151876421,
      7.321474060030854e-5,
    ],
  );
});

t.test('linear equals PyTorch LinearLR(1 to 0.1, total_iters=10)', async (t) => {
  close(
    t,
    rates({ ...base, name: 'linear' }, 10),
    [
      0.0006, 0.0005459999999999999, 0.0004919999999999999, 0.0004379999999999999, 0.0003839999999999999,
      0.0003299999999999999, 0.00027599999999999993, 0.00022199999999999995, 0.00016799999999999996,
      0.00011399999999999998,
    ],
  );
});

t.test('warmup and cosine equal PyTorch SequentialLR(LinearLR(1/5 to 1, 4), CosineAnnealingLR(8))', async (t) => {
  close(
    t,
    rates({ ...base, minLr: 0, warmupSteps: 4, totalSteps: 12 }, 12),
    [
      0.00011999999999999999, 0.00023999999999999998, 0.00035999999999999997, 0.00047999999999999996, 0.0006,
      0.000577163859753386, 0.0005121320343559642, 0.00041480502970952696, 0.0003, 0.00018519497029047307,
      8.786796564403575e-5, 2.2836140246613977e-5,
    ],
  );
});

t.test('constant keeps the peak after the warmup, however long the run', async (t) => {
  close(t, rates({ ...base, name: 'constant', warmupSteps: 1, totalSteps: null }, 4), [3e-4, 6e-4, 6e-4, 6e-4]);
});

t.test('wsd by hand: warmup 1, stable, the last two of ten steps decay', async (t) => {
  const schedule: Schedule = { name: 'wsd', lr: 1, minLr: 0.2, warmupSteps: 1, totalSteps: 10 };
  close(t, rates(schedule, 10), [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.6]);
  close(t, [learningRateAt(schedule, 10)], [0.2]);
});

t.test(
  'inverse-sqrt by hand: half the peak after three more warmups, a quarter after fifteen, and a floor',
  async (t) => {
    const schedule: Schedule = { name: 'inverse-sqrt', lr: 1, minLr: 0.2, warmupSteps: 4, totalSteps: null };
    close(t, rates(schedule, 6), [0.2, 0.4, 0.6, 0.8, 1, Math.sqrt(4 / 5)]);
    close(
      t,
      [4, 16, 64, 100, 104, 1000].map((step) => learningRateAt(schedule, step)),
      [1, 0.5, 0.25, 0.2, 0.2, 0.2],
    );
    const bare: Schedule = { ...schedule, minLr: 0, warmupSteps: 0 };
    close(
      t,
      [0, 30_000].map((step) => learningRateAt(bare, step)),
      [1, 0.5],
    );
  },
);

t.test('two do without the number of steps', async (t) => {
  t.same(
    SCHEDULES.filter((name) => !needsTotalSteps(name)),
    ['constant', 'inverse-sqrt'],
  );
});

t.test('any schedule rises through its warmup, never leaves (0, lr], and never rises again', async (t) => {
  const seed = printedSeed(t);
  fc.assert(
    fc.property(
      fc.constantFrom(...SCHEDULES),
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 0, max: 300 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (name, totalSteps, warmup, share) => {
        const warmupSteps = Math.min(warmup, totalSteps);
        const schedule: Schedule = { name, lr: 1e-3, minLr: 1e-3 * share, warmupSteps, totalSteps };
        const found = rates(schedule, totalSteps);
        return found.every((rate, step) => {
          const before = step === 0 ? 0 : found[step - 1];
          const monotone = step <= warmupSteps ? rate > before : rate <= before + 1e-18;
          const floor = step < warmupSteps ? 0 : schedule.minLr;
          return monotone && rate <= 1e-3 && rate > 0 && rate >= floor - 1e-18;
        });
      },
    ),
    { seed },
  );
});
