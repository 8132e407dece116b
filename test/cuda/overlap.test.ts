// The next batch is copied to the device while this one computes. Seen in the order of the driver's calls, which the
// simulator writes down; the losses are those of a run without.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Batch } from '../../dist/data/types.js';
import { GPT2 } from '../../dist/model/gpt2.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, VOCABULARY } from '../model/tiny.js';
import { isReal } from './build.js';
import { noKernels, useDevice } from './device.js';
import { type Call, clearTrace, readTrace } from './trace.js';

const TRACE = join(t.testdir(), 'calls.txt');
// Both are read when the driver starts.
process.env.KOTODAMA_SIM_TRACE = TRACE;
process.env.KOTODAMA_SIM_CHECKS ??= 'none';

/** Bytes of the ids of a batch of TinyLoader, and of its labels; of the key of dropout; of a loss and its count. */
const [BATCH, KEY, LOSS] = [4 * 2 * 8, 16, 16];
const rates = { learningRate: 1e-2 };

/** A replayed micro-step: what was called since the last one's loss was read, and from its launch until its own is. */
interface MicroStep {
  before: Call[];
  during: Call[];
  compute: string | undefined;
  /** Events that were waited for after the launch although they happen after it. */
  waits: number;
}

function microSteps(calls: Call[]): MicroStep[] {
  const found: MicroStep[] = [];
  let begin = 0;
  calls.forEach(({ name, bytes }, read) => {
    if (!name.startsWith('cuMemcpyDtoH') || bytes !== LOSS) return;
    const launch = calls.findLastIndex((call, index) => index > begin && index < read && call.name === 'cuGraphLaunch');
    if (launch > 0) {
      const during = calls.slice(launch + 1, read);
      const recorded = new Set<string | undefined>();
      let waits = 0;
      for (const call of during) {
        if (call.name === 'cuEventRecord') recorded.add(call.event);
        if (call.name === 'cuStreamSynchronize' || (call.name === 'cuEventSynchronize' && recorded.has(call.event)))
          waits++;
      }
      found.push({ before: calls.slice(begin, launch), during, compute: calls[launch]!.stream, waits });
    }
    begin = read + 1;
  });
  return found;
}

/** Whether a batch was sent ahead under this step; an evaluation is no step. */
const announces = ({ during }: MicroStep) => uploads(during).some(({ bytes }) => bytes === KEY);

const uploads = (calls: Call[]) => calls.filter(({ name }) => name.startsWith('cuMemcpyHtoD'));

/**
 * Copies that nothing keeps in order with what writes and reads their buffers. The simulator carries each call out at once,
 * so that it cannot show in the numbers: a real device would read too early, now and then.
 */
function unordered(calls: Call[]): string[] {
  const wrong: string[] = [];
  const sent = new Map<string | undefined, Call>(); // by the event of their arrival
  const free = new Map<string | undefined, string | undefined>(); // by the same, the event after which a buffer is
  calls.forEach((call, index) => {
    const [before, after, later] = [calls[index - 1], calls[index + 1], calls[index + 2]];
    const isTold = after?.name === 'cuEventRecord' && after.stream === call.stream;
    const check = (holds: boolean, what: string) => {
      if (!holds) wrong.push(`call ${index}, ${call.name} of ${call.bytes} bytes: ${what}`);
    };
    if (call.name.startsWith('cuMemcpyHtoD')) {
      const isFree = [undefined, before?.event].includes(free.get(after?.event));
      check(before?.name === 'cuEventSynchronize' && isFree, 'its pinned buffer may be in use');
      check(isTold, 'nobody is told that it arrived');
      sent.set(after?.event, call);
      free.set(after?.event, after?.event);
    } else if (call.name.startsWith('cuMemcpyDtoD')) {
      const isWaitedFor = before?.name === 'cuStreamWaitEvent' && before.stream === call.stream;
      check(isWaitedFor && sent.get(before.event)?.bytes === call.bytes, 'what it copies may not be there yet');
      check(isTold, 'nobody is told that it is done');
      free.set(before?.event, after?.event);
    } else if (call.name.startsWith('cuMemcpyDtoH')) {
      const isWaitedFor = later?.name === 'cuEventSynchronize' && later.event === after?.event;
      check(isTold && isWaitedFor, 'what it brings is read at once');
    }
  });
  return wrong;
}

if (useDevice() === undefined) {
  t.plan(0, noKernels);
} else {
  const create = (dropout = 0) =>
    GPT2.create(
      {
        ...{ vocabSize: VOCABULARY, nPositions: 8, nEmbd: 16, nLayer: 1, nHead: 2 },
        ...{ embdPdrop: dropout, attnPdrop: dropout, residPdrop: dropout },
      },
      { device: 'cuda', seed: 1 },
    );

  const batches: Batch[] = [];
  for await (const batch of new TinyLoader(7)) batches.push(batch);

  /** Losses of training on all batches, each of which may announce another. */
  async function losses(next: (index: number) => Batch | undefined, between?: (model: GPT2) => Promise<unknown>) {
    await using model = await create(0.1);
    const found: number[] = [];
    clearTrace(TRACE);
    for (const [index, batch] of batches.entries()) {
      found.push((await model.forwardBackward(batch, { next: next(index) })).loss);
      await model.step(rates);
      await between?.(model);
    }
    return found;
  }

  const checkOverlap = (t: Test, steps: MicroStep[]) => {
    for (const { before, during, compute, waits } of steps) {
      t.same(
        uploads(before).filter(({ bytes }) => bytes === BATCH || bytes === KEY),
        [],
        'the batch is there before its step',
      );
      const copies = uploads(during);
      t.same(
        copies.map(({ bytes }) => bytes),
        [BATCH, BATCH, KEY],
        'the next one is sent under the step',
      );
      t.ok(
        copies.every(({ stream }) => stream !== compute),
        'beside the kernels',
      );
      t.equal(waits, 0, 'and nothing waits for the step until its loss is read');
    }
  };

  const expected = await losses(() => undefined);

  t.test('announced, the next batch is copied under the step; the losses are the same', async (t) => {
    t.same(await losses((index) => batches[index + 1]), expected);
    if (isReal) return;
    // The first step runs without a recording, and nothing follows the last one.
    t.same(unordered(readTrace(TRACE)), []);
    const steps = microSteps(readTrace(TRACE)).slice(0, -1);
    t.equal(steps.length, batches.length - 2);
    checkOverlap(t, steps);
  });

  t.test('what happens between two steps loses nothing', async (t) => {
    const small = { inputIds: [[1, 2, 3]], labels: [[2, 3, 4]] };
    const look = async (model: GPT2) => {
      await model.evaluate(small);
      for (const { name } of model.tensors) await model.readTensor(name);
      for await (const _ of model.generateIds([1, 2], { maxNewTokens: 3, temperature: 0 }));
    };
    t.same(await losses((index) => batches[index + 1], look), expected);
    if (isReal) return;
    t.same(unordered(readTrace(TRACE)), []);
    const steps = microSteps(readTrace(TRACE)).filter(announces);
    t.ok(steps.length >= 3);
    for (const { before } of steps) t.equal(uploads(before).filter(({ bytes }) => bytes === BATCH).length, 0);
  });

  t.test('another batch than the one announced, and what is none', async (t) => {
    const [inputIds, labels] = [batches[1]!.inputIds, batches[1]!.labels];
    const almost = { inputIds, labels: { ...labels, data: labels.data.map((id, at) => (at === 15 ? 3 : id)) } };
    const unknown = { data: Int32Array.of(1, 2, VOCABULARY + 5), shape: [1, 3] };
    const wrong = [almost, null, 'a batch', { inputIds: unknown }, { inputIds: unknown, labels }, batches[2], {}];
    t.same(await losses((index) => wrong[index] as Batch), expected);
    if (!isReal) t.same(unordered(readTrace(TRACE)), []);
  });

  const train = async (options: Partial<TrainerOptions> & { out: string }, stop = Number.POSITIVE_INFINITY) => {
    await using model = await create(0.1);
    const trainer = new Trainer({
      ...{ model, tokenizer: letters(), train: new TinyLoader(5), maxSteps: 7, gradAccum: 2, lr: 1e-2 },
      ...{ saveEvery: 2, valid: new TinyLoader(1), evalEvery: 3, sampleEvery: 0, ...options },
    });
    const abort = new AbortController();
    const found: number[] = [];
    for await (const event of trainer.run({ signal: abort.signal })) {
      if (event.type !== 'step') continue;
      found.push(event.loss);
      if (event.step === stop) abort.abort();
    }
    return found;
  };

  class Late extends TinyLoader {
    override async *[Symbol.asyncIterator]() {
      for await (const batch of { [Symbol.asyncIterator]: () => super[Symbol.asyncIterator]() }) {
        await sleep(2);
        yield batch;
      }
    }
  }

  let whole: number[] = [];

  t.test(
    'the trainer announces: epochs end, evaluations and saves come between; late data changes nothing',
    async (t) => {
      whole = await train({ out: join(t.testdir(), 'late'), train: new Late(5) });
      clearTrace(TRACE);
      t.same(await train({ out: join(t.testdir(), 'ready') }), whole);
      t.equal(whole.length, 7);
      if (isReal) return;
      // 14 micro-steps; the first of each of the two kinds runs without a recording.
      t.same(unordered(readTrace(TRACE)), []);
      const steps = microSteps(readTrace(TRACE)).filter(announces);
      t.equal(steps.length, 12);
      checkOverlap(t, steps);
    },
  );

  t.test('stopped after a step and resumed: the same losses, bit for bit', async (t) => {
    for (const stop of [1, 4]) {
      const out = join(t.testdir(), `stopped-${stop}`);
      const first = await train({ out }, stop);
      t.equal(first.length, stop);
      t.same([...first, ...(await train({ out, resume: true }))], whole, `after step ${stop}`);
    }
  });
}
