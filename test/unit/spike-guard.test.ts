import fc from 'fast-check';
import t from 'tap';
import { SpikeGuard } from '../../dist/train/spike-guard.js';
import { printedSeed } from './helpers/seed.js';

/** Values around 2 that never leave [1.8, 2.2]: mean 2, standard deviation 0.2. */
const calm = (index: number) => (index % 2 === 0 ? 1.8 : 2.2);

function filled(size: number, count = size): SpikeGuard {
  const guard = new SpikeGuard(3, size);
  for (let index = 0; index < count; index++) guard.add(calm(index), calm(index));
  return guard;
}

t.test('what is more than so many standard deviations above the mean', async (t) => {
  const guard = filled(10);
  t.equal(guard.judgeLoss(2.59), undefined);
  const spike = guard.judgeLoss(2.8);
  t.match(spike, { what: 'loss', value: 2.8 });
  t.ok(Math.abs((spike?.mean ?? 0) - 2) < 1e-12);
  t.ok(Math.abs((spike?.sigma ?? 0) - 4) < 1e-12);
  t.match(guard.judgeGradNorm(100), { what: 'gradient norm', value: 100 });
  t.equal(guard.judgeLoss(-100), undefined, 'lower is never too low');
});

t.test('nothing before half of the window is there, nor where all values are equal', async (t) => {
  t.equal(filled(10, 4).judgeLoss(1e9), undefined);
  t.ok(filled(10, 5).judgeLoss(1e9));
  const flat = new SpikeGuard(3, 4);
  for (let index = 0; index < 4; index++) flat.add(1, 1);
  t.equal(flat.judgeLoss(2), undefined);
});

t.test('one spike does not hide the next one, and a level that lasts is none for long', async (t) => {
  const guard = filled(16);
  guard.add(1e6, 1e6);
  t.ok(guard.judgeLoss(10));
  let spikes = 0;
  while (guard.judgeLoss(10) !== undefined && spikes < 1000) {
    guard.add(10, 10);
    spikes++;
  }
  t.ok(spikes > 1 && spikes <= 16, `${spikes} steps at the new level`);
});

t.test('a guard goes on from its windows as if it had not stopped, and they never grow', async (t) => {
  const seed = printedSeed(t);
  const value = fc.double({ min: 0, max: 1e6, noNaN: true });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(value, value), { maxLength: 60 }),
      fc.nat(60),
      fc.integer({ min: 2, max: 20 }),
      (values, stop, size) => {
        const whole = new SpikeGuard(2, size);
        let part = new SpikeGuard(2, size);
        for (const [index, [loss, gradNorm]] of values.entries()) {
          if (index === stop) part = new SpikeGuard(2, size, JSON.parse(JSON.stringify(part.windows())));
          const [a, b] = [whole, part].map((guard) => [guard.judgeLoss(loss), guard.judgeGradNorm(gradNorm)]);
          if (JSON.stringify(a) !== JSON.stringify(b)) return false;
          for (const guard of [whole, part]) guard.add(loss, gradNorm);
        }
        const { loss, gradNorm } = part.windows();
        return loss.length <= size && gradNorm.length <= size;
      },
    ),
    { seed },
  );
  t.same(new SpikeGuard(2, 2, { loss: [1, 2, 3], gradNorm: [4] }).windows(), { loss: [2, 3], gradNorm: [4] });
});
