import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { showDownloads } from '../../dist/cli/download.js';
import { LiveLine } from '../../dist/report/live-line.js';
import { startHub } from '../unit/helpers/hub-server.js';
import { kotodama, TOKENIZER, tinyTraining, workplace } from './program.js';

t.test('names of the hub wherever a folder is taken', async (t) => {
  const cwd = workplace(t);
  const read = (folder: string, names: string[]) =>
    Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name))]));
  const tokenizer = read(TOKENIZER, ['tokenizer.json', 'tokenizer_config.json']);
  const commit = 'c'.repeat(40);
  await using hub = await startHub({ 'someone/words': { revisions: { main: commit }, files: tokenizer } });
  const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: join(cwd, 'cache') };

  const trained = await kotodama(tinyTraining('runs/a', { tokenizer: 'someone/words', 'max-steps': 1 }), { cwd, env });
  t.equal(trained.code, 0, trained.stderr);
  t.match(
    trained.stderr,
    /^someone\/words: tokenizer.json, fetched [\d.]+ KiB\nsomeone\/words: tokenizer_config.json, /,
  );

  const model = read(join(cwd, 'runs/a'), ['config.json', 'model.safetensors']);
  const files = { ...model, ...tokenizer };
  hub.repositories['someone/model'] = { revisions: { main: commit, v1: commit }, files, lfs: ['model.safetensors'] };
  const generate = (name: string, more = {}) =>
    kotodama(['generate', '--model', name, '--max-new-tokens', '4', '--device', 'cpu'], {
      cwd,
      env: { ...env, ...more },
    });
  const [local, remote] = [await generate('runs/a'), await generate('someone/model@v1')];
  t.equal(remote.code, 0, remote.stderr);
  t.equal(remote.stdout, local.stdout);
  const tuned = tinyTraining('runs/b', { tokenizer: 'someone/words', 'init-from': 'someone/model', 'max-steps': 1 });
  const sizes = /^--n-/;
  const words = tuned.filter((word, index) => !sizes.test(word) && !sizes.test(tuned[index - 1] ?? ''));
  const tune = await kotodama(words, { cwd, env });
  t.equal(tune.code, 0, tune.stderr);

  const asked = hub.asked.length;
  const offline = await generate('someone/model', { HF_HUB_OFFLINE: '1' });
  t.equal(offline.stdout, local.stdout);
  const unknown = await generate('someone/other', { HF_HUB_OFFLINE: '1' });
  t.equal(unknown.code, 1);
  t.match(unknown.stderr, /^error ERR_HUB: 'someone\/other' is no folder here, and offline/);
  t.equal(hub.asked.length, asked);
  const typo = await generate('runs/c');
  t.match(
    typo.stderr,
    /^error ERR_HUB: 'runs\/c' is no folder here, and 127.0.0.1.* has no such model that is public\n {2}hint: did you mean runs\/[ab]\? For a name of the Hub: /,
  );
  const other = await generate('runs/elsewhere');
  t.match(
    other.stderr,
    /has no such model that is public\n {2}hint: in runs here there is a, b\. For a name of the Hub: /,
  );
});

t.test('a download on a narrow terminal and elsewhere', async (t) => {
  process.env.TERM = 'xterm';
  for (const isTTY of [true, false]) {
    let text = '';
    const line = new LiveLine({ isTTY, columns: 24, write: (more) => (text += more) });
    const { onProgress } = showDownloads(line);
    for (const loadedBytes of [0, 1, 512, 1024, 1024]) {
      onProgress?.({ repository: '私/モデル', file: 'c', loadedBytes, totalBytes: 1024 });
    }
    const live = ['私/モデル: c, 0% of 1.0', '私/モデル: c, 50% of 1.', '私/モデル: c, fetched 1.0 KiB\n'];
    t.equal(text, isTTY ? live.map((line) => `\r\x1b[2K${line}`).join('') : live[2]);
  }
});
