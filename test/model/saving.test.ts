import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { GPT2 } from '../../dist/model/gpt2.js';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import { listCheckpoints, type TrainerState } from '../../dist/train/checkpoint.js';
import { CheckpointSaver } from '../../dist/train/checkpoint-saver.js';
import type { CheckpointEvent, TrainEvent } from '../../dist/train/events.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

type Teardown = { teardown(work: () => unknown): void };

async function ownModel(t: Teardown): Promise<GPT2> {
  const model = await tinyModel({ dropout: 0.1 });
  t.teardown(() => model.dispose());
  return model;
}

async function trainer(t: Teardown, options: Partial<TrainerOptions> & { out: string }): Promise<Trainer> {
  const model = await ownModel(t);
  return new Trainer({ model, tokenizer: letters(), train: new TinyLoader(5), schedule: 'constant', ...options });
}

async function events(trainer: Trainer, onEvent?: (event: TrainEvent) => unknown): Promise<TrainEvent[]> {
  const seen: TrainEvent[] = [];
  for await (const event of trainer.run()) {
    seen.push(event);
    await onEvent?.(event);
  }
  return seen;
}

const checkpoints = (seen: TrainEvent[]) =>
  seen.filter((event): event is CheckpointEvent => event.type === 'checkpoint');

/** A file that cannot be read before somebody writes it: whoever copies it waits as long as a test wants. */
function slowFile(folder: string): string {
  const path = join(folder, 'vocab.txt');
  t.equal(spawnSync('mkfifo', [path]).status, 0);
  return path;
}

t.test('training goes on while a checkpoint is written, and the checkpoint is that of its step', async (t) => {
  const folder = t.testdir();
  const slow = slowFile(folder);
  const out = join(folder, 'run');
  const tokenizer = { ...letters(), files: [slow] };
  const first = await trainer(t, { out, tokenizer, maxSteps: 6, saveEvery: 3 });
  let writes = 0;
  const seen = await events(first, async (event) => {
    // Steps 4 and 5 are taken while the one of step 3 hangs; that of step 6 waits for it.
    if (event.type !== 'step' || event.step < 5 || writes > 0) return;
    writes++;
    t.same(await listCheckpoints(out), []);
    void writeFile(slow, 'words').then(async () => {
      while ((await listCheckpoints(out)).length === 0) await delay(1);
      await writeFile(slow, 'words');
    });
  });
  t.same(
    checkpoints(seen).map(({ step }) => step),
    [3, 6],
  );
  const [three, six] = checkpoints(seen);
  t.ok(three.pausedSeconds < three.seconds, `${three.pausedSeconds} s of ${three.seconds} s`);
  t.ok(six.pausedSeconds <= six.seconds);
  const last = seen.at(-1);
  t.match(last, { type: 'end', checkpoint: join(out, 'checkpoints', 'step-00000006') });

  const other = join(folder, 'other');
  await events(await trainer(t, { out: other, maxSteps: 3 }));
  for (const name of ['model.safetensors', 'optimizer.safetensors', 'config.json']) {
    const [a, b] = [out, other].map((run) => readFileSync(join(run, 'checkpoints/step-00000003', name)));
    t.ok(a.equals(b), `${name} of step 3`);
  }
  t.equal(readFileSync(join(out, 'checkpoints/step-00000003/vocab.txt'), 'utf8'), 'words');
});

t.test('whoever leaves the loop waits for the save that is under way', async (t) => {
  const folder = t.testdir();
  const slow = slowFile(folder);
  const out = join(folder, 'run');
  const run = (await trainer(t, { out, tokenizer: { ...letters(), files: [slow] }, maxSteps: 9, saveEvery: 3 })).run();
  for await (const event of run) {
    if (event.step < 4) continue;
    void writeFile(slow, 'words');
    break;
  }
  t.same(await listCheckpoints(out), [3]);
  t.same(
    readdirSync(join(out, 'checkpoints')).filter((name) => name.endsWith('.tmp')),
    [],
  );
});

t.test('without memory for the copy the caller waits for the save; the files are the same', async (t) => {
  const folder = t.testdir();
  const model = await ownModel(t);
  const state = (step: number): TrainerState => ({
    ...{ version: 1, step, tokens: 0, counters: { step, microStep: step }, batchesPerEpoch: null, loss: null },
    ...{ position: { epoch: 1, blocks: 0, source: null }, evaluation: null, options: {}, device: 'cpu', identity: {} },
    ...{ best: null, owed: [], skipped: 0, spikes: { loss: [], gradNorm: [] } },
  });
  const saved = async (name: string, free: number) => {
    const out = join(folder, name);
    mkdirSync(out);
    const saver = new CheckpointSaver({ model, tokenizer: letters(), out, keep: 1, availableMemory: () => free });
    await saver.save(state(1));
    const there = await listCheckpoints(out);
    await saver.settle();
    const [outcome] = saver.take();
    if (outcome === undefined || 'error' in outcome) throw new Error('no checkpoint');
    t.same(saver.take(), []);
    return { there, outcome };
  };
  const behind = await saved('behind', 1e9);
  const before = await saved('before', 1000);
  t.same(before.there, [1], 'it is there when the call returns');
  t.same(behind.there, []);
  t.ok(before.outcome.pausedSeconds >= before.outcome.seconds);
  t.ok(behind.outcome.pausedSeconds < behind.outcome.seconds);
  const [a, b] = ['behind', 'before'].map((name) =>
    readFileSync(join(folder, name, 'checkpoints/step-00000001/SHA256SUMS'), 'utf8'),
  );
  t.equal(a, b);
});

t.test('the tokenizer is saved as it was loaded, whatever became of its files', async (t) => {
  const folder = t.testdir({ tokenizer: {} });
  const [source, out] = [join(folder, 'tokenizer'), join(folder, 'run')];
  const from = fileURLToPath(new URL('../../demo/tokenizer', import.meta.url));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) copyFileSync(join(from, name), join(source, name));
  const tokenizer = await Tokenizer.fromPretrained(source);
  const model = await tinyModel({ vocabSize: tokenizer.vocabSize });
  t.teardown(() => model.dispose());
  const train = new TinyLoader(5);
  const options = { model, tokenizer, train, schedule: 'constant', out, maxSteps: 4, saveEvery: 2 } as const;
  await events(new Trainer(options), (event) => {
    if (event.type === 'step' && event.step === 1) rmSync(source, { recursive: true });
  });
  for (const where of [out, join(out, 'checkpoints/step-00000002')]) {
    t.equal((await Tokenizer.fromPretrained(where)).fingerprint, tokenizer.fingerprint, where);
  }
});

t.test("a tokenizer's files take the place of another one's", async (t) => {
  const folder = t.testdir({
    out: {
      'tokenizer.json': '{}',
      'special_tokens_map.json': '{"eos_token": "<other>"}',
      'added_tokens.json': '{}',
      'vocab.json': '{}',
      'merges.txt': '',
      'notes.model': 'not a name of a tokenizer',
    },
    pieces: {
      'spiece.model': t.fixture(
        'symlink',
        join(process.cwd(), 'test/unit/fixtures/sentencepiece/unigram-identity.model'),
      ),
      'vocab.json': 'another form of it',
    },
  });
  const [out, pieces] = [join(folder, 'out'), join(folder, 'pieces')];
  const tokenizer = await Tokenizer.fromPretrained(pieces);
  const model = await tinyModel({ vocabSize: tokenizer.vocabSize });
  t.teardown(() => model.dispose());
  const before = readdirSync(out).sort();
  await model.savePretrained(out);
  t.same(readdirSync(out).sort(), [...before, 'config.json', 'model.safetensors'].sort(), 'none given: all stays');
  await model.savePretrained(out, { tokenizer });
  t.same(readdirSync(out).sort(), ['config.json', 'model.safetensors', 'notes.model', 'spiece.model']);
  t.equal((await Tokenizer.fromPretrained(out)).fingerprint, tokenizer.fingerprint);
  symlinkSync(pieces, join(folder, 'link'));
  await model.savePretrained(join(folder, 'link'), { tokenizer });
  t.same(
    readdirSync(pieces).sort(),
    ['config.json', 'model.safetensors', 'spiece.model', 'vocab.json'],
    'its own folder',
  );
});

t.test('a tokenizer that was made in memory is saved, too', async (t) => {
  const folder = t.testdir();
  const read = (path: string) => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)));
  const parsed = (name: string) => JSON.parse(read(`demo/tokenizer/${name}`).toString('utf8'));
  const words = Tokenizer.fromJson(parsed('tokenizer.json'), parsed('tokenizer_config.json'));
  const pieces = Tokenizer.fromSentencePiece(read('test/unit/fixtures/sentencepiece/unigram-identity.model'));
  const vocabSize = Math.max(words.vocabSize, pieces.vocabSize);
  const model = await tinyModel({ vocabSize });
  t.teardown(() => model.dispose());
  const out = join(folder, 'run');
  for (const tokenizer of [words, pieces]) {
    await model.savePretrained(join(folder, 'model'), { tokenizer });
    const loaded = await Tokenizer.fromPretrained(join(folder, 'model'));
    t.same(loaded.encode('機械学習 and words'), tokenizer.encode('機械学習 and words'));
    t.match(loaded, { fingerprint: tokenizer.fingerprint, className: tokenizer.className });
  }
  t.same(readdirSync(join(folder, 'model')).sort(), ['config.json', 'model.safetensors', 'spiece.model']);
  const train = new TinyLoader(5);
  await events(new Trainer({ model, tokenizer: words, train, schedule: 'constant', out, maxSteps: 1 }));
  t.equal((await Tokenizer.fromPretrained(out)).fingerprint, words.fingerprint);
});

t.test('a tokenizer without files is not saved beside those of another', async (t) => {
  const out = t.testdir({ 'tokenizer.json': '{}' });
  const model = await ownModel(t);
  const wanted = { code: 'ERR_TOKENIZER', received: 'tokenizer.json' };
  await t.rejects(model.savePretrained(out, { tokenizer: letters() }), wanted);
  await t.rejects(events(await trainer(t, { out, maxSteps: 1 })), wanted);
  t.same(readdirSync(out), ['tokenizer.json'], 'nothing is left');
});

t.test('a folder that has the name of weights stays; what a save that was cut short leaves is told', async (t) => {
  const out = t.testdir({ 'model-00001-of-00002.safetensors': {} });
  const model = await ownModel(t);
  await model.savePretrained(out);
  t.same(readdirSync(out).sort(), ['config.json', 'model-00001-of-00002.safetensors', 'model.safetensors']);
  renameSync(join(out, 'config.json'), join(out, '.config.json.0123456789ab.tmp'));
  await t.rejects(GPT2.fromPretrained(out), { code: 'ERR_MODEL_FILE', hint: /cut short: save the model again/ });
});
