import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import { serve } from '../unit/helpers/serve.js';
import { essence, kotodama, parseEvents, TOKENIZER, tinyTraining, workplace } from './program.js';

const tokenizer = await Tokenizer.fromPretrained(TOKENIZER);

/** The ids of a uint16 token file, read by its description alone. */
function idsIn(path: string): number[] {
  const bytes = readFileSync(path);
  return Array.from({ length: bytes.readInt32LE(8) }, (_, index) => bytes.readUInt16LE(1024 + 2 * index));
}

function tokenize(input: readonly string[], output: string, ...more: string[]): string[] {
  return ['tokenize', '--tokenizer', TOKENIZER, '--input', ...input, '--output', output, ...more];
}

t.test('a token file holds the ids of all lines, and notes beside it say of what', async (t) => {
  const cwd = workplace(t);
  const run = await kotodama(tokenize(['train.txt', 'valid.txt'], 'data/a.bin'), { cwd });
  t.equal(run.code, 0, run.stderr);
  t.equal(run.stdout, 'data/a.bin\n');
  const lines = ['train.txt', 'valid.txt'].flatMap((name) =>
    readFileSync(join(cwd, name), 'utf8').trimEnd().split('\n'),
  );
  const ids = lines.flatMap((line) => tokenizer.encode(line));
  t.same(idsIn(join(cwd, 'data/a.bin')), ids);
  t.match(run.stderr, new RegExp(`^${ids.length} tokens \\(uint16\\)`));
  t.match(JSON.parse(readFileSync(join(cwd, 'data/a.bin.json'), 'utf8')), {
    tokenizer: { fingerprint: tokenizer.fingerprint, vocabSize: tokenizer.vocabSize },
    tokens: ids.length,
    sources: ['train.txt', 'valid.txt'],
  });

  const shards = await kotodama(
    tokenize(['train.txt', 'valid.txt'], 'b.bin', '--shard-tokens', '500', '--num-workers', '0'),
    { cwd },
  );
  t.equal(shards.code, 0, shards.stderr);
  const names = shards.stdout.trim().split('\n');
  t.same(
    names,
    readdirSync(cwd)
      .filter((name) => /^b_\d{6}\.bin$/.test(name))
      .sort(),
  );
  t.equal(names.length, Math.ceil(ids.length / 500));
  t.same(
    names.flatMap((name) => idsIn(join(cwd, name))),
    ids,
  );
});

t.test('records, compressed, with an end after each; standard output can be piped on', async (t) => {
  const cwd = workplace(t);
  const texts = ['One.', 'すべての人間は、', ''];
  const records = texts.map((body) => JSON.stringify({ body })).join('\n');
  writeFileSync(join(cwd, 'a.jsonl.gz'), gzipSync(records));
  writeFileSync(join(cwd, 'bad.jsonl'), `{"body":\n${records}\n{"body":7}\n`);
  const flags = ['--text-field', 'body', '--eos', 'document'];
  const run = await kotodama(tokenize(['a.jsonl.gz'], 'a.bin', ...flags), { cwd });
  t.equal(run.code, 0, run.stderr);
  t.same(
    idsIn(join(cwd, 'a.bin')),
    texts.flatMap((text) => [...tokenizer.encode(text), tokenizer.eosTokenId]),
  );
  const refused = await kotodama(tokenize(['bad.jsonl'], 'b.bin', ...flags), { cwd });
  t.match(refused, { code: 1, stderr: /^error ERR_DATA: bad\.jsonl, line 1, is not JSON/ });
  const skipped = await kotodama(tokenize(['bad.jsonl'], 'b.bin', ...flags, '--skip-bad'), { cwd });
  t.match(skipped, { code: 0, stderr: /^bad records left out: 2$/m });
  t.same(idsIn(join(cwd, 'b.bin')), idsIn(join(cwd, 'a.bin')));
});

t.test('--eos: nothing, an end after each line or each document; training on texts does the same', async (t) => {
  const cwd = workplace(t);
  // The short file first, so that its end lies within the steps.
  const files = ['valid.txt', 'train.txt'];
  const linesOf = (name: string) => readFileSync(join(cwd, name), 'utf8').trimEnd().split('\n');
  const end = tokenizer.eosTokenId;
  const expected = {
    none: files.flatMap((name) => linesOf(name).flatMap((line) => tokenizer.encode(line))),
    line: files.flatMap((name) => linesOf(name).flatMap((line) => [...tokenizer.encode(line), end])),
    document: files.flatMap((name) => [...linesOf(name).flatMap((line) => tokenizer.encode(line)), end]),
  };
  const steps = { 'max-steps': 6, 'shuffle-buffer': 0 };
  const found: string[] = [];
  for (const [eos, ids] of Object.entries(expected)) {
    const run = await kotodama(tokenize(files, `${eos}.bin`, '--eos', eos), { cwd });
    t.equal(run.code, 0, run.stderr);
    t.same(idsIn(join(cwd, `${eos}.bin`)), ids, eos);
    const [texts, tokens] = await Promise.all([
      kotodama([...tinyTraining(`runs/${eos}`, { ...steps, train: files[0], eos }), '--train', files[1]], { cwd }),
      kotodama(tinyTraining(`runs/${eos}-tokens`, { ...steps, train: `${eos}.bin` }), { cwd }),
    ]);
    t.equal(texts.code, 0, texts.stderr);
    t.equal(tokens.code, 0, tokens.stderr);
    t.same(essence(parseEvents(texts.stdout)), essence(parseEvents(tokens.stdout)), `${eos}: as from its token file`);
    found.push(JSON.stringify(essence(parseEvents(texts.stdout))));
  }
  t.equal(new Set(found).size, 3, 'each choice learns from other ids');
  const wrong = await kotodama(tokenize(files, 'wrong.bin', '--eos', 'word'), { cwd });
  t.equal(wrong.code, 2);
  t.match(wrong.stderr, /--eos.*none.*line.*document.*word/s);
});

t.test('what says how texts are read is refused where there are token files alone', async (t) => {
  const cwd = workplace(t);
  const made = await kotodama(tokenize(['train.txt'], 'train.bin'), { cwd });
  t.equal(made.code, 0, made.stderr);
  const late = ['--eos', 'line', '--text-field', 'body', '--skip-bad'];
  const flags = { 'max-steps': 1, train: 'trai?.bi[n]' };
  const evaluate = ['evaluate', '--model', 'runs/a', '--device', 'cpu', '--threads', '1', '--data', 'train.bin'];
  const [ids, mixed] = await Promise.all([
    kotodama([...tinyTraining('runs/b', { ...flags, valid: 'train.bin' }), ...late], { cwd }),
    kotodama([...tinyTraining('runs/a', { ...flags, valid: 'valid.txt' }), ...late], { cwd }),
  ]);
  const measured = await kotodama([...evaluate, ...late], { cwd });
  for (const { code, stderr } of [ids, measured]) {
    t.equal(code, 2);
    t.match(
      stderr,
      /3 problems\n.*--text-field: .*\n.*--eos: .*\n.*--skip-bad: expected nothing with token files alone/,
    );
  }
  t.equal(mixed.code, 0, `texts to validate on: ${mixed.stderr}`);
  const said = await kotodama([...evaluate, '--eos', 'none', '--skip-bad=false'], { cwd });
  t.equal(said.code, 0, `what asks for nothing: ${said.stderr}`);
});

t.test('training on token files: the same numbers as on their text, in order; resumed after a stop', async (t) => {
  const cwd = workplace(t);
  for (const name of ['train', 'valid']) {
    const shards = name === 'train' ? ['--shard-tokens', '300'] : [];
    const run = await kotodama(tokenize([`${name}.txt`], `${name}.bin`, ...shards), { cwd });
    t.equal(run.code, 0, run.stderr);
  }
  const shared = { 'max-steps': 6, 'eval-every': 3, 'save-every': 3 };
  const [text, tokens, resumed] = await Promise.all([
    kotodama(tinyTraining('runs/a', { ...shared, valid: 'valid.txt', 'shuffle-buffer': 0 }), { cwd }),
    kotodama(tinyTraining('runs/b', { ...shared, train: 'train_*.bin', valid: 'valid.bin', 'shuffle-buffer': 0 }), {
      cwd,
    }),
    kotodama(tinyTraining('runs/c', { ...shared, train: 'train_*.bin', 'max-steps': 3, schedule: 'constant' }), {
      cwd,
    }),
  ]);
  t.equal(text.code, 0, text.stderr);
  t.equal(tokens.code, 0, tokens.stderr);
  t.same(essence(parseEvents(tokens.stdout)), essence(parseEvents(text.stdout)));

  t.equal(resumed.code, 0, resumed.stderr);
  const rest = await kotodama(['train', '--json', '--resume', '--out', 'runs/c', '--max-steps', '6'], { cwd });
  t.equal(rest.code, 0, rest.stderr);
  const flags = { ...shared, train: 'train_*.bin', schedule: 'constant' };
  const whole = await kotodama(tinyTraining('runs/d', flags), { cwd });
  const both = [...parseEvents(resumed.stdout), ...parseEvents(rest.stdout)];
  t.same(essence(both), essence(parseEvents(whole.stdout)));
  t.notSame(essence(both)[0], essence(parseEvents(tokens.stdout))[0], 'shuffled');
});

t.test('an epoch needs no counting, and evaluation gives what the text gives', async (t) => {
  const cwd = workplace(t);
  await kotodama(tokenize(['train.txt'], 'a.bin'), { cwd });
  const run = await kotodama(
    tinyTraining('runs/a', { train: 'a.bin', epochs: 1 }).filter((word) => word !== '--json'),
    { cwd },
  );
  t.equal(run.code, 0, run.stderr);
  t.notMatch(run.stderr, /counting/);
  const blocks = Math.floor((idsIn(join(cwd, 'a.bin')).length - 1) / 16);
  t.match(run.stderr, `done at step ${Math.ceil(blocks / 2)} `);
  const evaluate = ['evaluate', '--model', 'runs/a', '--device', 'cpu', '--json', '--data'];
  const [tokens, text] = await Promise.all(
    ['a.bin', 'train.txt'].map(async (name) => JSON.parse((await kotodama([...evaluate, name], { cwd })).stdout)),
  );
  t.same(tokens, text);
});

t.test('what is wrong is said, and leaves no file', async (t) => {
  const cwd = workplace(t);
  const fails = async (words: string[], code: number, pattern: RegExp | string) => {
    const run = await kotodama(words, { cwd });
    t.equal(run.code, code, run.stderr);
    t.match(run.stderr, pattern);
    t.notMatch(run.stderr, /^ +at /m, 'no stack');
  };
  await fails(['tokenize', '--input', 'gone.txt', '--shard-tokens', '0'], 2, /4 problems/);
  await fails(tokenize(['train.txt'], 'a.txt'), 2, /expected a name that ends in \.bin, received a\.txt/);
  writeFileSync(join(cwd, 'bad.txt'), Buffer.from([0x61, 0x0a, 0xff]));
  await fails(tokenize(['train.txt', 'bad.txt'], 'a.bin'), 1, /^error ERR_DATA: bad\.txt.* is not UTF-8 at byte 2/);
  await fails(tokenize(['train.txt', 'bad.txt'], 'a.bin', '--shard-tokens', '100'), 1, /^error ERR_DATA: bad\.txt/);
  t.same(readdirSync(cwd).sort(), ['bad.txt', 'train.txt', 'valid.txt']);

  const full = await kotodama(tokenize(['train.txt'], 'a.bin'), { cwd, fileBlocks: 2 });
  t.equal(full.code, 1);
  t.match(full.stderr, /^error ERR_IO: a\.bin could not be written/);
  t.notOk(readdirSync(cwd).some((name) => name.includes('.bin')));

  const good = await kotodama(tokenize(['train.txt'], 'a.bin'), { cwd });
  t.equal(good.code, 0, good.stderr);
  await fails(tokenize(['valid.txt'], 'a.bin'), 1, /^error ERR_IO: a\.bin is there already/);
  const train = (more: { [flag: string]: string | number }) => tinyTraining('runs/a', { 'max-steps': 1, ...more });
  await fails([...train({}), '--train', 'a.bin'], 2, /Texts and token files cannot be mixed/);
  const notes = JSON.parse(readFileSync(join(cwd, 'a.bin.json'), 'utf8'));
  notes.tokenizer.fingerprint = '0'.repeat(64);
  writeFileSync(join(cwd, 'a.bin.json'), JSON.stringify(notes));
  await fails(train({ train: 'a.bin' }), 1, /^error ERR_DATA: a\.bin was written with another tokenizer/);
  writeFileSync(join(cwd, 'b.bin'), readFileSync(join(cwd, 'a.bin')).subarray(0, -1));
  await fails(train({ train: 'b.bin' }), 1, /^error ERR_DATA: b\.bin .*expected \d+ bytes for the \d+ tokens/);
  t.notOk(existsSync(join(cwd, 'runs/a/run.json')));
});

t.test('Ctrl-C keeps no file', async (t) => {
  const cwd = workplace(t);
  const line = 'All human beings are born free and equal in dignity and rights. ';
  writeFileSync(join(cwd, 'long.txt'), `${line.repeat(20)}\n`.repeat(4000));
  const words = tokenize(['long.txt'], 'a.bin', '--shard-tokens', '20000');
  const child = spawn(process.execPath, [join(TOKENIZER, '../../dist/cli/main.js'), ...words], {
    cwd,
    stdio: 'ignore',
  });
  const timer = setInterval(() => {
    if (!existsSync(join(cwd, 'a_000000.bin'))) return;
    clearInterval(timer);
    child.kill('SIGINT');
  }, 5);
  const [code] = await once(child, 'exit');
  clearInterval(timer);
  t.equal(code, 130);
  t.same(readdirSync(cwd).sort(), ['long.txt', 'train.txt', 'valid.txt']);
});

t.test('Ctrl-C while it waits for text', async (t) => {
  const cwd = workplace(t);
  const base = await serve(t, (_, response) => {
    response.write('human beings are born free\n');
    child.kill('SIGINT');
  });
  const main = join(TOKENIZER, '../../dist/cli/main.js');
  const start = (source: string, stderr: 'ignore' | 'pipe') =>
    spawn(process.execPath, [main, ...tokenize([source], 'a.bin')], { cwd, stdio: ['pipe', 'ignore', stderr] });
  let child = start(`${base}/a.txt`, 'ignore');
  t.same(await once(child, 'exit'), [130, null], 'a server');
  child = start('-', 'pipe');
  // It stays open.
  child.stdin?.write('human beings are born free\n'.repeat(200_000));
  child.stdin?.on('drain', () => setTimeout(() => child.kill('SIGINT'), 300));
  t.same(await once(child, 'exit'), [130, null], 'the standard input');
  t.same(readdirSync(cwd).sort(), ['train.txt', 'valid.txt']);
});

t.test(
  'texts from a URL: its secrets are in no notes, event or report; only run.json has them, for --resume',
  async (t) => {
    const cwd = workplace(t);
    const text = readFileSync(join(cwd, 'train.txt'));
    const base = await serve(t, ({ headers, url }, response) => {
      const known = headers.authorization === `Basic ${Buffer.from('me:s3cret').toString('base64')}`;
      response.writeHead(known && url === '/a.txt?signature=s3cret' ? 200 : 403).end(text);
    });
    const url = `${base.replace('//', '//me:s3cret@')}/a.txt?signature=s3cret`;
    const run = await kotodama(tokenize([url], 'a.bin'), { cwd });
    t.equal(run.code, 0, run.stderr);
    const notes = readFileSync(join(cwd, 'a.bin.json'), 'utf8');
    t.same(JSON.parse(notes).sources, [`${base}/a.txt`]);
    const begun = await kotodama(tinyTraining('runs/a', { 'max-steps': 2, train: url }), { cwd });
    t.equal(begun.code, 0, begun.stderr);
    const [start] = parseEvents(begun.stdout);
    t.match(start, { configuration: { options: { train: [`${base}/a.txt`] } } });
    const resumed = await kotodama(['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', '3'], { cwd });
    t.equal(resumed.code, 0, resumed.stderr);
    const compared = await kotodama(['compare', 'runs/a', 'runs/a', '--json'], { cwd });
    t.equal(compared.code, 0, compared.stderr);
    for (const { stdout, stderr } of [run, begun, resumed, compared]) t.notMatch(stdout + stderr, /s3cret/);
    const withSecret = readdirSync(cwd, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && readFileSync(join(entry.parentPath, entry.name)).includes('s3cret'))
      .map(({ name }) => name);
    t.same(withSecret, ['run.json']);
  },
);
