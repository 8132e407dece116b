// What the engine keeps as CUDA graphs, seen in the order of the driver's calls, which the simulator writes down.
import { join } from 'node:path';
import t from 'tap';
import { GPT2 } from '../../dist/model/gpt2.js';
import { isReal } from './build.js';
import { noKernels, useDevice } from './device.js';
import { clearTrace, readTrace } from './trace.js';

const TRACE = join(t.testdir(), 'calls.txt');
// Both are read when the driver starts.
process.env.KOTODAMA_SIM_TRACE = TRACE;
process.env.KOTODAMA_SIM_CHECKS ??= 'none';

/** Graphs made and graphs given back by `work`. */
async function graphsOf(work: () => Promise<unknown>): Promise<{ made: number; dropped: number }> {
  clearTrace(TRACE);
  await work();
  const names = readTrace(TRACE).map(({ name }) => name);
  const count = (wanted: string) => names.filter((name) => name === wanted).length;
  return { made: count('cuGraphInstantiate'), dropped: count('cuGraphExecDestroy') };
}

if (useDevice() === undefined) {
  t.plan(0, noKernels);
} else if (isReal) {
  t.plan(0, 'a real device writes nothing down');
} else {
  t.test('a graph lives as long as the memory and the tensors that it was made for', async (t) => {
    const config = { vocabSize: 61, nPositions: 16, nEmbd: 16, nLayer: 1, nHead: 2 };
    const model = await GPT2.create(config, { device: 'cuda' });
    const rows = (batchSize: number) => Array.from({ length: batchSize }, (_, row) => [row, 1, 2, 3]);
    const step = async (batchSize: number) => {
      await model.forwardBackward({ inputIds: rows(batchSize), labels: rows(batchSize) });
      await model.step({ learningRate: 1e-3 });
    };
    const evaluate = () => model.evaluate({ inputIds: rows(1), labels: rows(1) });

    t.same(await graphsOf(() => step(2)), { made: 0, dropped: 0 }, 'the first time nothing is recorded');
    t.same(await graphsOf(() => step(2)), { made: 2, dropped: 0 }, 'the micro-step and the update');
    t.same(await graphsOf(() => step(2)), { made: 0, dropped: 0 });
    await evaluate();
    t.same(await graphsOf(evaluate), { made: 1, dropped: 0 }, 'another one beside them');
    t.same(await graphsOf(() => step(1)), { made: 0, dropped: 0 }, 'a smaller batch fits the memory');
    t.same(await graphsOf(() => step(4)), { made: 0, dropped: 2 }, 'a larger one takes other memory; the update stays');
    t.same(await graphsOf(() => step(4)), { made: 1, dropped: 0 });
    t.same(await graphsOf(async () => model.freeze(['wte'])), { made: 0, dropped: 1 }, 'other tensors, another update');
    await step(4);
    t.same(await graphsOf(() => step(4)), { made: 1, dropped: 0 });
    t.same(await graphsOf(() => model.dispose()), { made: 0, dropped: 2 });
  });
}
