import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  checkpointsFolder,
  listCheckpoints,
  newestCheckpoint,
  saveCheckpoint,
  type TrainerState,
} from '../../dist/train/checkpoint.js';
import { openRunFolder, readRunFile, writeRunFile } from '../../dist/train/run-folder.js';

function state(step: number): TrainerState {
  return {
    ...{ version: 1, step, tokens: step * 10, counters: { step, microStep: 2 * step }, batchesPerEpoch: null },
    ...{ position: { epoch: 1, blocks: step, source: { line: step } }, loss: 1 / 3, evaluation: null },
    ...{ options: {}, identity: {} },
  };
}

async function save(out: string, step: number, keep = 3): Promise<string> {
  const write = async (folder: string) => {
    writeFileSync(join(folder, 'model.safetensors'), `weights ${step}`);
    writeFileSync(join(folder, 'config.json'), '{}');
    writeFileSync(join(folder, 'optimizer.safetensors'), `moments ${step}`);
  };
  return (await saveCheckpoint(out, state(step), write, keep)).path;
}

t.test('what was saved is found again, the newest first, and its weights are those of the run', async (t) => {
  const out = t.testdir();
  await openRunFolder(out, false);
  await save(out, 5);
  const path = await save(out, 10);
  t.equal(path, join(out, 'checkpoints', 'step-00000010'));
  const found = await newestCheckpoint(out);
  t.same(found, { path, state: state(10) });
  t.equal(readFileSync(join(out, 'model.safetensors'), 'utf8'), 'weights 10');
  t.same(readdirSync(out).sort(), ['checkpoints', 'config.json', 'model.safetensors']);
  t.same(readdirSync(path).sort(), ['config.json', 'model.safetensors', 'optimizer.safetensors', 'trainer_state.json']);
});

t.test('saving the same step again replaces it', async (t) => {
  const out = t.testdir();
  await openRunFolder(out, false);
  await save(out, 5);
  await save(out, 5);
  t.same(await listCheckpoints(out), [5]);
  t.same(
    readdirSync(out).filter((name) => name.includes('tmp')),
    [],
  );
});

t.test('only the last ones are kept, and step 100000000 comes after step 99999999', async (t) => {
  const out = t.testdir();
  await openRunFolder(out, false);
  for (const step of [99_999_998, 99_999_999, 100_000_000]) await save(out, step, 2);
  t.same(await listCheckpoints(out), [99_999_999, 100_000_000]);
  t.equal((await newestCheckpoint(out))?.state.step, 100_000_000);
});

t.test('a write that fails leaves the last checkpoint and nothing else', async (t) => {
  const out = t.testdir();
  await openRunFolder(out, false);
  await save(out, 5);
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  const write = async (folder: string) => {
    writeFileSync(join(folder, 'model.safetensors'), 'half');
    throw full;
  };
  await t.rejects(saveCheckpoint(out, state(10), write, 1), {
    code: 'ERR_IO',
    message: /checkpoint of step 10[^\n]*no space left[^\n]*\n {2}hint: the disk is full/,
  });
  t.same(readdirSync(checkpointsFolder(out)), ['step-00000005']);
  t.equal(readFileSync(join(out, 'model.safetensors'), 'utf8'), 'weights 5');
});

t.test('a damaged checkpoint is passed over, and said to be', async (t) => {
  const damages: { [what: string]: (path: string) => void } = {
    'a shortened file': (path) => truncateSync(join(path, 'optimizer.safetensors'), 3),
    'an empty file': (path) => truncateSync(join(path, 'model.safetensors'), 0),
    'a state that is no JSON': (path) => writeFileSync(join(path, 'trainer_state.json'), '{'),
    'a state that is half': (path) => writeFileSync(join(path, 'trainer_state.json'), '{"version":1,"files":{}}'),
    'a state of another version': (path) => writeFileSync(join(path, 'trainer_state.json'), '{"version":2}'),
  };
  for (const [what, damage] of Object.entries(damages)) {
    const out = t.testdir();
    await openRunFolder(out, false);
    const good = await save(out, 5);
    const bad = await save(out, 10);
    damage(bad);
    const problems: string[] = [];
    const found = await newestCheckpoint(out, (problem) => problems.push(problem));
    t.equal(found?.path, good, what);
    t.equal(problems.length, 1, what);
    t.match(problems[0], bad, what);
  }
});

t.test('what a killed run left behind is no checkpoint, and is removed', async (t) => {
  const out = t.testdir();
  await openRunFolder(out, false);
  await save(out, 5);
  const leftover = join(checkpointsFolder(out), '.step-00000010.tmp');
  mkdirSync(leftover);
  writeFileSync(join(leftover, 'model.safetensors'), 'half');
  t.equal((await newestCheckpoint(out))?.state.step, 5);
  await openRunFolder(out, true);
  t.notOk(existsSync(leftover));
});

t.test('a fresh run does not touch another one, and a resumed run needs one', async (t) => {
  const out = t.testdir({ empty: {}, run: { 'run.json': '{"a": 1}' }, file: 'text' });
  await t.rejects(openRunFolder(join(out, 'run'), false), { code: 'ERR_CHECKPOINT', hint: /--resume/ });
  await t.rejects(openRunFolder(join(out, 'empty'), true), { code: 'ERR_CHECKPOINT', message: /holds no run/ });
  await t.rejects(openRunFolder(join(out, 'file'), false), { code: 'ERR_IO' });
  await openRunFolder(join(out, 'empty'), false);
  await openRunFolder(join(out, 'run'), true);
  t.same(await readRunFile(join(out, 'run')), { a: 1 });
  await writeRunFile(join(out, 'run'), { b: [2] });
  t.same(await readRunFile(join(out, 'run')), { b: [2] });
  t.equal(await readRunFile(join(out, 'empty')), undefined);
});
