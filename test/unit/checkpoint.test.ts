import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { verifyChecksums, writeChecksums } from '../../dist/checksums.js';
import type { SavedTokenizer } from '../../dist/model/save.js';
import {
  amendCheckpoint,
  bestCheckpoint,
  checkpointsFolder,
  listCheckpoints,
  newestCheckpoint,
  publish,
  saveCheckpoint,
  setAside,
  type TrainerState,
} from '../../dist/train/checkpoint.js';
import { openRunFolder, readRunFile, writeRunFile } from '../../dist/train/run-folder.js';

function state(step: number): TrainerState {
  return {
    ...{ version: 1, step, tokens: step * 10, counters: { step, microStep: 2 * step }, batchesPerEpoch: null },
    ...{ position: { epoch: 1, blocks: step, source: { line: step } }, loss: 1 / 3, evaluation: null },
    ...{
      options: {},
      device: 'cpu',
      identity: {},
      best: null,
      owed: [],
      skipped: 0,
      spikes: { loss: [], gradNorm: [] },
    },
  };
}

async function newFolder(out: string): Promise<void> {
  const release = await openRunFolder(out, false);
  await release();
}

async function save(
  out: string,
  step: number,
  { keep = 3, ...more }: { keep?: number } & Partial<Pick<TrainerState, 'evaluation' | 'best' | 'formerBests'>> = {},
): Promise<string> {
  const write = async (folder: string) => {
    writeFileSync(join(folder, 'model.safetensors'), `weights ${step}`);
    writeFileSync(join(folder, 'config.json'), '{}');
    writeFileSync(join(folder, 'optimizer.safetensors'), `moments ${step}`);
  };
  return (await saveCheckpoint(out, { ...state(step), ...more }, write, keep)).path;
}

t.test('what was saved is found again, the newest first, and its weights are those of the run', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  await save(out, 5);
  const path = await save(out, 10);
  t.equal(path, join(out, 'checkpoints', 'step-00000010'));
  t.same(await newestCheckpoint(out), { checkpoint: { path, state: state(10) }, damaged: [] });
  t.equal(readFileSync(join(out, 'model.safetensors'), 'utf8'), 'weights 10');
  t.same(readdirSync(out).sort(), ['checkpoints', 'config.json', 'model.safetensors']);
  const files = ['config.json', 'model.safetensors', 'optimizer.safetensors', 'trainer_state.json'];
  t.same(readdirSync(path).sort(), ['SHA256SUMS', ...files]);
});

t.test('what happens to the files of the run does not happen to the checkpoint', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  const path = await save(out, 5);
  // In place, as an editor or another program's `save_pretrained` writes.
  for (const name of ['config.json', 'model.safetensors']) writeFileSync(join(out, name), 'changed', { flag: 'r+' });
  await verifyChecksums(path);
  t.match(await newestCheckpoint(out), { checkpoint: { path }, damaged: [] });
  await publish(path, out);
  t.equal(readFileSync(join(out, 'model.safetensors'), 'utf8'), 'weights 5');
  t.same(readdirSync(out).sort(), ['checkpoints', 'config.json', 'model.safetensors']);
  const place = (name: string) => statSync(join(out, name)).ino;
  const before = [place('config.json'), place('model.safetensors')];
  writeFileSync(join(out, 'model.safetensors'), 'weights 6');
  await publish(path, out, { unlessThere: true });
  t.equal(readFileSync(join(out, 'model.safetensors'), 'utf8'), 'weights 5');
  t.equal(place('config.json'), before[0], 'what is the same is not copied again');
  t.not(place('model.safetensors'), before[1]);
  // Older releases made links, through which the checkpoint would be changed.
  rmSync(join(out, 'config.json'));
  linkSync(join(path, 'config.json'), join(out, 'config.json'));
  await publish(path, out, { unlessThere: true });
  writeFileSync(join(out, 'config.json'), 'changed', { flag: 'r+' });
  await verifyChecksums(path);
});

t.test('a checkpoint that is there is never written again', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  const path = await save(out, 5);
  const before = readFileSync(join(path, 'SHA256SUMS'), 'utf8');
  await t.rejects(save(out, 5), { code: 'ERR_CHECKPOINT', message: /step-00000005 is there already/ });
  t.same(readdirSync(checkpointsFolder(out)), ['step-00000005']);
  t.equal(readFileSync(join(path, 'SHA256SUMS'), 'utf8'), before);
});

t.test('what happened since is added to a checkpoint that is there', async (t) => {
  const out = t.testdir();
  const later = { ...state(5), peakLearningRate: 1e-5 };
  await amendCheckpoint(out, later);
  t.same(readdirSync(out), [], 'and to no other');
  const path = await save(out, 5);
  await amendCheckpoint(out, later);
  t.same(await newestCheckpoint(out), { checkpoint: { path, state: later }, damaged: [] });
  const { status } = spawnSync('sha256sum', ['-c', '--strict', 'SHA256SUMS'], { cwd: path });
  t.equal(status, 0);
  const before = readFileSync(join(path, 'SHA256SUMS'), 'utf8');
  await writeChecksums(path);
  t.equal(readFileSync(join(path, 'SHA256SUMS'), 'utf8'), before, 'as if it had been written so');
});

t.test('what was cut short while something was added is settled when the run goes on', async (t) => {
  const out = t.testdir();
  const path = await save(out, 5);
  const [list, file] = ['SHA256SUMS', 'trainer_state.json'].map((name) => join(path, name)) as [string, string];
  const before = { list: readFileSync(list, 'utf8'), file: readFileSync(file) };
  await amendCheckpoint(out, { ...state(5), peakLearningRate: 1e-5 });
  const after = { list: readFileSync(list, 'utf8'), file: readFileSync(file) };
  const sums = (of: typeof before) => of.list.split('\n').filter((line) => line.endsWith('  trainer_state.json'));
  for (const there of [before, after]) {
    writeFileSync(list, before.list.replace(sums(before)[0] as string, [...sums(before), ...sums(after)].join('\n')));
    writeFileSync(file, there.file);
    const check = () => spawnSync('sha256sum', ['-c', '--strict', 'SHA256SUMS'], { cwd: path }).status;
    t.not(check(), 0);
    await (await openRunFolder(out, true))();
    t.equal(check(), 0);
    t.equal(readFileSync(list, 'utf8'), there.list);
  }
});

t.test('only the last ones are kept, and step 100000000 comes after step 99999999', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  for (const step of [99_999_998, 99_999_999, 100_000_000]) await save(out, step, { keep: 2 });
  t.same(await listCheckpoints(out), [99_999_999, 100_000_000]);
  t.equal((await newestCheckpoint(out)).checkpoint?.state.step, 100_000_000);
});

t.test('a write that fails leaves the last checkpoint and nothing else', async (t) => {
  const out = t.testdir();
  await newFolder(out);
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

t.test(
  'the best one stays as well: the lowest loss among those that were evaluated where they were saved',
  async (t) => {
    const out = t.testdir();
    await newFolder(out);
    const losses = [5, 4, Number.NaN, 3, 2, 2.5, 1, 2.2, 2.1];
    const kept: number[][] = [];
    for (const [step, loss] of losses.entries()) {
      // That of step 7 was measured before it.
      await save(out, step + 1, { keep: 2, evaluation: { step: step === 6 ? 6 : step + 1, loss } });
      kept.push(await listCheckpoints(out));
    }
    t.same(kept, [[1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [5, 6, 7], [5, 7, 8], [5, 8, 9]]);
    t.equal(readlinkSync(join(checkpointsFolder(out), 'best')), 'step-00000005');
  },
);

t.test("the run's best evaluation decides; where it could not be saved, the best of those that were", async (t) => {
  const out = t.testdir();
  await newFolder(out);
  const best = () => readlinkSync(join(checkpointsFolder(out), 'best'));
  await save(out, 1, { keep: 1, evaluation: { step: 1, loss: 3 } });
  // Measured only after it had been saved: its own state does not say so.
  await save(out, 2, { keep: 1 });
  await save(out, 3, { keep: 1, evaluation: { step: 2, loss: 2 }, best: { step: 2, loss: 2, since: 0 } });
  t.same(await listCheckpoints(out), [2, 3]);
  t.equal(best(), 'step-00000002');
  rmSync(join(checkpointsFolder(out), 'step-00000002'), { recursive: true });
  const missing = { step: 2, loss: 2, since: 1 };
  await save(out, 4, { keep: 1, evaluation: { step: 4, loss: 5 }, best: missing });
  await save(out, 5, { keep: 1, evaluation: { step: 5, loss: 6 }, best: missing });
  t.same(await listCheckpoints(out), [4, 5]);
  t.equal(best(), 'step-00000004');
});

t.test('the best ones of validation data that the run had before stay, and are the best no more', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  const former = { keep: 1, formerBests: [1] };
  await save(out, 1, { keep: 1, evaluation: { step: 1, loss: 1 }, best: { step: 1, loss: 1, since: 0 } });
  await save(out, 2, { ...former, evaluation: { step: 2, loss: 3 }, best: { step: 2, loss: 3, since: 0 } });
  await save(out, 3, { ...former, best: { step: 2, loss: 3, since: 1 } });
  t.same(await listCheckpoints(out), [1, 2, 3]);
  rmSync(join(checkpointsFolder(out), 'step-00000002'), { recursive: true });
  const missing = { step: 2, loss: 3, since: 2 };
  await save(out, 4, { ...former, evaluation: { step: 4, loss: 4 }, best: missing });
  t.same(await listCheckpoints(out), [1, 4]);
  t.equal(readlinkSync(join(checkpointsFolder(out), 'best')), 'step-00000004');
});

t.test('a link to the best one that became a folder gives its name back, and nothing of it is lost', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  const best = join(checkpointsFolder(out), 'best');
  await save(out, 1, { keep: 1, best: { step: 1, loss: 3, since: 0 } });
  t.equal(await bestCheckpoint(out, 1), best);
  // As `cp -rL` and zip do.
  rmSync(best);
  cpSync(join(checkpointsFolder(out), 'step-00000001'), best, { recursive: true });
  t.equal(await bestCheckpoint(out, 1), join(checkpointsFolder(out), 'step-00000001'));
  await save(out, 2, { keep: 1, best: { step: 2, loss: 2, since: 0 } });
  t.equal(readlinkSync(best), 'step-00000002');
  t.equal(await bestCheckpoint(out, 2), best);
  t.equal(await bestCheckpoint(out, 1), undefined);
  t.same(readdirSync(checkpointsFolder(out)).sort(), ['best', 'copied-best', 'step-00000002']);
  t.equal(readFileSync(join(checkpointsFolder(out), 'copied-best/model.safetensors'), 'utf8'), 'weights 1');
});

t.test('a damaged checkpoint is passed over, and said to be', async (t) => {
  const damages: { [what: string]: (path: string) => void } = {
    'a shortened file': (path) => truncateSync(join(path, 'optimizer.safetensors'), 3),
    'an empty file': (path) => truncateSync(join(path, 'model.safetensors'), 0),
    'a missing file': (path) => rmSync(join(path, 'config.json')),
    'no list': (path) => rmSync(join(path, 'SHA256SUMS')),
    'an empty list': (path) => truncateSync(join(path, 'SHA256SUMS'), 0),
    'no folder': (path) => {
      rmSync(path, { recursive: true });
      writeFileSync(path, '');
    },
  };
  // Not damaged, but none that can be continued from.
  const states = { 'no JSON': '{', 'half a state': '{"version":1}' };
  for (const [what, text] of Object.entries(states)) {
    damages[what] = (path) => {
      writeFileSync(join(path, 'trainer_state.json'), text);
      const { status } = spawnSync('sh', ['-c', 'sha256sum $(ls | grep -v SHA) > SHA256SUMS'], { cwd: path });
      t.equal(status, 0);
    };
  }
  for (const [what, damage] of Object.entries(damages)) {
    const out = t.testdir();
    await newFolder(out);
    const good = await save(out, 5);
    const bad = await save(out, 10);
    damage(bad);
    const { checkpoint, damaged } = await newestCheckpoint(out);
    t.equal(checkpoint?.path, good, what);
    t.match(damaged, [{ path: bad, problem: /./ }], what);
    t.equal(damaged.length, 1);
  }
});

t.test('a checkpoint that cannot be read, or is of another release, is not taken for a damaged one', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  await save(out, 5);
  const path = await save(out, 10);
  const file = join(path, 'trainer_state.json');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('"version": 1', '"version": 999'));
  await writeChecksums(path);
  await t.rejects(newestCheckpoint(out), {
    code: 'ERR_CHECKPOINT',
    message: /step-00000010\/trainer_state\.json has another version: expected 1, received 999/,
    hint: 'use the release of kotodama that wrote it',
  });
  rmSync(file);
  // What root cannot read either.
  symlinkSync('trainer_state.json', file);
  await t.rejects(newestCheckpoint(out), { code: 'ERR_IO', message: /trainer_state\.json could not be read \(ELOOP/ });
  rmSync(file);
  t.match(
    await newestCheckpoint(out),
    { checkpoint: { state: { step: 5 } }, damaged: [{ path }] },
    'what is gone is gone',
  );
});

t.test('what was put beside the files of a checkpoint since is no damage', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  const path = await save(out, 5);
  writeFileSync(join(path, '.DS_Store'), 'x');
  writeFileSync(join(path, 'metrics.jsonl'), 'x');
  mkdirSync(join(path, 'export'));
  t.match(await newestCheckpoint(out), { checkpoint: { path }, damaged: [] });
  rmSync(join(out, 'config.json'));
  await publish(path, out);
  t.same(readdirSync(out).sort(), ['checkpoints', 'config.json', 'model.safetensors'], 'nor are they put into the run');
});

t.test('a byte that changed anywhere in a checkpoint is noticed', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  const path = await save(out, 5);
  await verifyChecksums(path);
  let bytes = 0;
  for (const name of readdirSync(path)) {
    const whole = readFileSync(join(path, name));
    for (let at = 0; at < whole.length; at++) {
      // One bit, and not always the same.
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] as number) ^ (1 << (at % 8));
      writeFileSync(join(path, name), changed);
      const { checkpoint } = await newestCheckpoint(out);
      if (checkpoint !== undefined) t.fail(`byte ${at} of ${name}`);
      bytes++;
    }
    writeFileSync(join(path, name), whole);
  }
  t.ok(bytes > 500, `${bytes} bytes`);
  t.equal((await newestCheckpoint(out)).checkpoint?.path, path);
});

t.test('sha256sum of the GNU tools agrees', async (t) => {
  const folder = t.testdir({ 'a b.txt': 'text', empty: '', 'big.bin': Buffer.alloc(3_000_001, 7) });
  t.equal(await writeChecksums(folder), 3_000_005);
  const { status, stdout } = spawnSync('sha256sum', ['-c', '--strict', 'SHA256SUMS'], { cwd: folder });
  t.equal(status, 0);
  t.equal(String(stdout), 'a b.txt: OK\nbig.bin: OK\nempty: OK\n');
  await t.rejects(verifyChecksums(join(folder, 'nothing')), { code: 'ERR_IO' });
  renameSync(join(folder, 'empty'), join(folder, 'other'));
  await t.rejects(verifyChecksums(folder), { code: 'ERR_CHECKPOINT', message: /empty is missing/ });
});

t.test('a damaged checkpoint that is set aside counts no more', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  await save(out, 5);
  for (const name of ['damaged-step-00000010', 'damaged-step-00000010-2']) {
    const path = await save(out, 10);
    const aside = await setAside({ path, problem: '' });
    t.equal(aside, join(checkpointsFolder(out), name));
    t.same(readdirSync(aside).length, 5);
  }
  await save(out, 7, { keep: 1 });
  t.same(await listCheckpoints(out), [7]);
  await t.rejects(setAside({ path: join(out, 'nothing'), problem: '' }), { code: 'ERR_IO' });
});

t.test('what a killed run left behind is no checkpoint, and is removed', async (t) => {
  const out = t.testdir();
  await newFolder(out);
  await save(out, 5);
  const leftover = join(checkpointsFolder(out), '.step-00000010.tmp');
  mkdirSync(leftover);
  writeFileSync(join(leftover, 'model.safetensors'), 'half');
  t.equal((await newestCheckpoint(out)).checkpoint?.state.step, 5);
  const others = ['.note.tmp', '.env.0123456789ab'];
  for (const name of others) writeFileSync(join(out, name), 'text');
  writeFileSync(join(out, '.config.json.0123456789ab.tmp'), 'half');
  await openRunFolder(out, true);
  t.notOk(existsSync(leftover));
  t.same(
    readdirSync(out)
      .filter((name) => /^\.(?!run)/.test(name))
      .sort(),
    others.sort(),
    'other hidden files stay',
  );
});

t.test("a fresh run replaces nobody else's files, but may be where its tokenizer is", async (t) => {
  const out = t.testdir({
    config: { 'config.json': '{}', 'report.html': '' },
    tokenizer: { 'tokenizer.json': '{}', 'vocab.json': '{}', 'notes.txt': '' },
  });
  await t.rejects(openRunFolder(join(out, 'config'), false), {
    code: 'ERR_CHECKPOINT',
    message: /holds config\.json, report\.html, which a run would replace/,
    hint: 'choose another folder for the run',
  });
  const files = ['tokenizer.json', 'vocab.json'].map((name) => join(out, 'tokenizer', name));
  const tokenizer = { files } as Partial<SavedTokenizer> as SavedTokenizer;
  const open = (more: Partial<SavedTokenizer>) =>
    openRunFolder(join(out, 'tokenizer'), false, { ...tokenizer, ...more });
  const contents = new Map([[join(out, 'elsewhere/vocab.json'), Buffer.from('{"a":0}')]]);
  await t.rejects(open({ files: [...contents.keys()], contents }), { message: /holds vocab\.json, which/ });
  symlinkSync('loop', join(out, 'loop'));
  for (const nowhere of ['loop', 'n'.repeat(300)]) {
    await t.rejects(openRunFolder(join(out, nowhere), false, tokenizer), { code: 'ERR_IO' }, 'nothing is held there');
  }
  await (await open({}))();
  await (await open({ contents: new Map(files.map((path) => [path, Buffer.from('{}')])) }))();
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
