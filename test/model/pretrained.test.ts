import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type DownloadProgress, GPT2 } from '../../dist/index.js';
import { onlyHub, type Repository } from '../unit/helpers/hub-server.js';

const fixtures = 'test/unit/fixtures/model-files';
const expected: { inputIds: number[][]; logits: Record<string, number[]> } = JSON.parse(
  await readFile(join(fixtures, 'expected.json'), 'utf8'),
);

for (const folder of ['hf', 'hf-f16', 'hf-bf16']) {
  t.test(`logits of a model that Transformers saved: ${folder}`, async (t) => {
    const model = await GPT2.fromPretrained(join(fixtures, folder), { device: 'cpu' });
    const { logits } = await model.forward({ inputIds: expected.inputIds });
    t.same(logits.shape, [2, 7, 61]);
    const reference = expected.logits[folder];
    const scale = Math.max(...reference.map(Math.abs));
    const error = Math.max(...reference.map((value, index) => Math.abs(value - logits.data[index])));
    t.ok(error <= 1e-5 * scale, `largest difference ${error}, largest logit ${scale}`);
    await model.dispose();
  });
}

t.test('dropout comes from config.json or from the options', async (t) => {
  const model = await GPT2.fromPretrained(join(fixtures, 'hf'), { device: 'cpu' });
  t.match(model.config, { embdPdrop: 0.1, attnPdrop: 0.2, residPdrop: 0.05 });
  await model.dispose();
  const plain = await GPT2.fromPretrained(join(fixtures, 'hf'), { device: 'cpu', dropout: 0 });
  t.match(plain.config, { embdPdrop: 0, attnPdrop: 0, residPdrop: 0 });
  await plain.dispose();
  const wrong = GPT2.fromPretrained(join(fixtures, 'hf'), { device: 'cpu', dropout: 1 });
  await t.rejects(wrong, { code: 'ERR_OPTIONS', message: /Pdrop/ });
});

t.test('a loaded model is the saved one, whatever its seed, and trains like it', async (t) => {
  const folder = t.testdir();
  const config = { vocabSize: 61, nPositions: 8, nEmbd: 12, nLayer: 2, nHead: 3 };
  const batch = { inputIds: [[1, 2, 3, 60]], labels: [[2, 3, 60, 4]] };
  for (const precision of ['fp32', 'bf16'] as const) {
    const engine = { device: 'cpu', threads: 1, precision } as const;
    const saved = await GPT2.create(config, { ...engine, seed: 5 });
    await saved.savePretrained(folder);
    const loaded = await GPT2.fromPretrained(folder, { ...engine, seed: 6 });
    for (const { name } of saved.tensors) t.same(await loaded.readTensor(name), await saved.readTensor(name), name);
    // In bf16 also the copies that are computed with.
    t.same(await loaded.forward(batch), await saved.forward(batch), precision);
    const losses = await Promise.all([saved, loaded].map((model) => model.forwardBackward(batch)));
    const steps = await Promise.all([saved, loaded].map((model) => model.step({ learningRate: 0.1 })));
    t.same(losses[1], losses[0]);
    t.same(steps[1], steps[0]);
    for (const { name } of saved.tensors) t.same(await loaded.readTensor(name), await saved.readTensor(name), name);
    await Promise.all([saved.dispose(), loaded.dispose()]);
  }
});

t.test('a model of the hub by its name', async (t) => {
  const read = async (folder: string, name: string) => [name, await readFile(join(fixtures, folder, name))] as const;
  const repository = async (folder: string, commit: string): Promise<Repository> => ({
    revisions: { main: commit },
    files: Object.fromEntries(
      await Promise.all(['config.json', 'model.safetensors'].map((name) => read(folder, name))),
    ),
    lfs: ['model.safetensors'],
  });
  const open = await repository('hf', 'a'.repeat(40));
  open.files['pytorch_model.bin'] = Buffer.from('pickle');
  const secret = { ...(await repository('hf-f16', 'b'.repeat(40))), token: 'hf_right' };
  const pickled = {
    ...open,
    files: { 'config.json': open.files['config.json'], 'pytorch_model.bin': Buffer.from('') },
  };
  const { hub } = await onlyHub(t, { 'someone/open': open, 'someone/secret': secret, 'someone/pickled': pickled });
  const engine = { device: 'cpu', threads: 1 } as const;

  const events: DownloadProgress[] = [];
  const model = await GPT2.fromPretrained('someone/open', { ...engine, onProgress: (event) => events.push(event) });
  const local = await GPT2.fromPretrained(join(fixtures, 'hf'), engine);
  t.same(model.config, local.config);
  for (const { name } of local.tensors) t.same(await model.readTensor(name), await local.readTensor(name), name);
  t.same([...new Set(events.map(({ file }) => file))].sort(), ['config.json', 'model.safetensors']);
  t.notOk(hub.asked.some(({ path }) => path.endsWith('.bin')));
  await Promise.all([model.dispose(), local.dispose()]);

  const asked = hub.asked.length;
  const again = await GPT2.fromPretrained('someone/open@main', { ...engine, offline: true, dropout: 0 });
  t.equal(again.config.embdPdrop, 0, 'options of the model go to the model');
  t.equal(hub.asked.length, asked, 'the cache is enough');
  await again.dispose();

  const stranger = GPT2.fromPretrained('someone/secret', engine);
  await t.rejects(stranger, { code: 'ERR_HUB', message: /someone\/secret.*HF_TOKEN/s });
  const invited = await GPT2.fromPretrained('someone/secret', { ...engine, token: 'hf_right' });
  t.equal(invited.config.vocabSize, 61);
  await invited.dispose();
  const unsafe = GPT2.fromPretrained('someone/pickled', engine);
  await t.rejects(unsafe, { code: 'ERR_MODEL_FILE', message: /someone\/pickled has only pytorch_model.bin/ });
});
