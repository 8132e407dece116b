import t from 'tap';
import { needsCounting, readTrainingOptions, type TrainingOptions, warmupOf } from '../../dist/train/options.js';
import { OptionReader } from '../../dist/validate.js';

function read(values: Partial<TrainingOptions> | object): TrainingOptions {
  const reader = new OptionReader(values);
  const options = readTrainingOptions(reader);
  reader.finish('The training options are not valid');
  return options;
}

t.test('defaults are those of the documentation', async (t) => {
  const expected = {
    ...{ gradAccum: 1, maxSteps: undefined, epochs: 1, lr: 6e-4, minLr: 6e-4 / 10, warmupSteps: undefined },
    ...{ schedule: 'cosine', weightDecay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, gradClip: 1 },
    ...{ evalEvery: 100, evalBatches: 50, sampleEvery: 0, samplePrompt: undefined, sampleTokens: 64 },
    ...{
      histogramEvery: 0,
      freeze: undefined,
      saveEvery: 500,
      keep: 3,
      nonFinite: 'stop',
      spikes: 'log',
      spikeSigma: 6,
      spikeWindow: 128,
      maxSkips: 10,
    },
    ...{ maxTime: undefined, patience: 0 },
  };
  t.same(read({}), expected);
});

t.test('a run that is told its steps has no end of epochs', async (t) => {
  t.equal(read({ maxSteps: 5 }).epochs, undefined);
  t.equal(read({ maxSteps: 5, epochs: 2 }).epochs, 2);
});

t.test('blocks are counted when the learning rate does not know the end of the run', async (t) => {
  t.equal(needsCounting(read({ epochs: 2 })), true);
  t.equal(needsCounting(read({ epochs: 2, schedule: 'constant' })), true, 'the warmup is a tenth of the run');
  t.equal(needsCounting(read({ epochs: 2, schedule: 'constant', warmupSteps: 3 })), false);
  t.equal(needsCounting(read({ maxSteps: 5, schedule: 'constant' })), false);
  t.equal(needsCounting(read({ maxSteps: 5, schedule: 'linear' })), false);
  t.equal(needsCounting(read({ maxSteps: 5, epochs: 2 })), true, 'an epoch may be what ends it');
});

t.test('warmup is a tenth of the run, at most 200 steps, unless given', async (t) => {
  t.equal(warmupOf(read({}), 50), 5);
  t.equal(warmupOf(read({}), 100_000), 200);
  t.equal(warmupOf(read({}), null), 200);
  t.equal(warmupOf(read({ warmupSteps: 0 }), 100_000), 0);
});

t.test('patience needs evaluations', async (t) => {
  const refused = (options: object, message: RegExp) =>
    t.throws(() => read({ patience: 5, ...options }), { code: 'ERR_OPTIONS', message });
  refused({}, /: patience: expected 0 without a validation set \(--valid, API: valid\), received 5/);
  // The reader of a Trainer's options knows more names than the table.
  refused({ valid: [], evalEvery: 0 }, /: patience: expected 0 with --eval-every 0 \(API: evalEvery\), received 5/);
  t.equal(read({ patience: 5, valid: [] }).patience, 5);
  t.equal(read({ patience: 0, evalEvery: 0 }).patience, 0);
});

t.test('times have units, or are seconds', async (t) => {
  const times = { '8h': 28_800, '1h30m': 5400, '45s': 45, '0.5m': 30, '2d1s': 172_801, 90: 90 };
  for (const [text, seconds] of Object.entries(times)) {
    t.equal(read({ maxTime: text === '90' ? 90 : text }).maxTime, seconds, text);
  }
  for (const wrong of ['90', '', 'h', '1x', '30m1h', '-1h', '0s', 0, -5, Number.NaN, Number.POSITIVE_INFINITY, true]) {
    t.throws(
      () => read({ maxTime: wrong }),
      { code: 'ERR_OPTIONS', message: /a time such as 8h, 1h30m or 45s/ },
      `${wrong}`,
    );
  }
});

t.test('numbers out of range are errors, all in one message', async (t) => {
  const bad = { lr: Number.NaN, gradAccum: 0, beta1: 1, schedule: 'cosin', keep: 1.5, warmupSteps: 9, maxSteps: 3 };
  t.throws(() => read(bad), {
    code: 'ERR_OPTIONS',
    message: new RegExp(
      [
        '6 problems',
        'gradAccum: expected an integer of at least 1, received 0',
        'lr: expected a number above 0, received NaN',
        "schedule: .*received 'cosin' \\(did you mean 'cosine'\\?\\)",
        'beta1: expected a number of at least 0 and below 1, received 1',
        'keep: expected an integer of at least 1, received 1.5',
        'warmupSteps: expected at most the 3 steps of the run, received 9',
      ].join('[\\s\\S]*'),
    ),
  });
});

t.test('the smallest learning rate is not above the peak', async (t) => {
  t.throws(() => read({ lr: 1e-4, minLr: 1e-3 }), { code: 'ERR_OPTIONS', message: /minLr: expected at most/ });
});
