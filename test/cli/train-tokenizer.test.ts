import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Tokenizer, trainTokenizer } from '../../dist/index.js';
import { kotodama, tinyTraining, workplace } from './program.js';

const WORDS = ['train-tokenizer', '--input', 'train.txt', 'valid.txt', '--vocab-size', '300', '--out', 'tokenizer'];

t.test('makes the tokenizer that the API makes, and a model trains with it', async (t) => {
  const cwd = workplace(t);
  const run = await kotodama(WORDS, { cwd });
  t.equal(run.code, 0, run.stderr);
  t.equal(run.stdout, '');
  t.match(run.stderr, /vocabulary {2}300 ids: 1 special, 256 bytes, 43 merges\ntext +\d.* different words/);
  t.match(run.stderr, 'next: kotodama train --tokenizer tokenizer');
  t.same(readdirSync(join(cwd, 'tokenizer')).sort(), ['tokenizer.json', 'tokenizer_config.json']);

  const files = [join(cwd, 'train.txt'), join(cwd, 'valid.txt')];
  const trained = await trainTokenizer({ files, vocabSize: 300 });
  t.same(JSON.parse(readFileSync(join(cwd, 'tokenizer', 'tokenizer.json'), 'utf8')), trained.files['tokenizer.json']);
  t.same(
    JSON.parse(readFileSync(join(cwd, 'tokenizer', 'tokenizer_config.json'), 'utf8')),
    trained.files['tokenizer_config.json'],
  );

  const training = await kotodama(tinyTraining('runs/a', { tokenizer: 'tokenizer', 'max-steps': 2 }), { cwd });
  t.equal(training.code, 0, training.stderr);
});

t.test('a unigram model: the same file every time, read and trained with like any other', async (t) => {
  const cwd = workplace(t);
  const inputs = WORDS.slice(0, WORDS.indexOf('--vocab-size'));
  const words = [...inputs, '--vocab-size', '100', '--type', 'unigram', '--out'];
  for (const out of ['tokenizer', 'again']) {
    const run = await kotodama([...words, out], { cwd });
    t.equal(run.code, 0, run.stderr);
    t.match(run.stderr, /vocabulary {2}100 ids: 4 special, 96 pieces\ntext +\d.* different words/);
    t.match(run.stderr, /reading: .* different words/, 'progress');
  }
  const model = readFileSync(join(cwd, 'tokenizer', 'spiece.model'));
  t.same(readFileSync(join(cwd, 'again', 'spiece.model')), model);
  const files = [join(cwd, 'train.txt'), join(cwd, 'valid.txt')];
  const trained = await trainTokenizer({ files, vocabSize: 100, type: 'unigram' });
  t.same(trained.files['spiece.model'], model, 'the API makes the same');
  const tokenizer = await Tokenizer.fromPretrained(join(cwd, 'tokenizer'));
  const line = readFileSync(files[0] as string, 'utf8').split('\n')[0] as string;
  t.equal(tokenizer.decode(tokenizer.encode(line)), line);
  const training = await kotodama(tinyTraining('runs/a', { tokenizer: 'tokenizer', 'max-steps': 2 }), { cwd });
  t.equal(training.code, 0, training.stderr);
});

t.test('options of the tokenizer; fewer ids than asked for', async (t) => {
  const cwd = workplace(t);
  writeFileSync(join(cwd, 'a.jsonl'), '{"body": "low low low"}\n{"body": "lower"}\n');
  const flags = ['--text-field', 'body', '--min-frequency', '3', '--special-tokens', '<s>', '<pad>'];
  const words = ['train-tokenizer', '--input', '*.jsonl', '--vocab-size', '5000', '--out', 'deep/tokenizer', ...flags];
  const run = await kotodama(words, { cwd });
  t.equal(run.code, 0, run.stderr);
  t.match(run.stderr, 'vocabulary  260 ids: 2 special, 256 bytes, 2 merges');
  t.match(run.stderr, '4740 ids fewer than asked for: no other pair of tokens occurs 3 times');
  const tokenizer = await Tokenizer.fromPretrained(join(cwd, 'deep', 'tokenizer'));
  t.same(tokenizer.encode('low<pad>'), [259, 1]);
  t.equal(tokenizer.eosTokenId, 0);
});

t.test('says what is wrong, before it does anything', async (t) => {
  const cwd = workplace(t);
  mkdirSync(join(cwd, 'tokenizer'));
  writeFileSync(join(cwd, 'tokenizer', 'tokenizer.json'), '{}');
  const taken = await kotodama(WORDS, { cwd });
  t.equal(taken.code, 2);
  t.match(taken.stderr, /--out: expected a folder without a tokenizer, received 'tokenizer'/);
  t.equal(readFileSync(join(cwd, 'tokenizer', 'tokenizer.json'), 'utf8'), '{}');

  const wrong = await kotodama(['train-tokenizer', '--vocab-size', '256', '--out', 'train.txt', '--inptu', 'a'], {
    cwd,
  });
  t.equal(wrong.code, 2);
  for (const part of [
    '--inptu: expected a known name, received an unknown name (did you mean --input?)',
    '--input: expected FILE..., received nothing',
    "--out: expected a folder, received 'train.txt'",
    '--vocab-size: expected at least 257: 256 bytes and the special tokens, received 256',
  ]) {
    t.match(wrong.stderr, part);
  }
  symlinkSync('loop', join(cwd, 'loop'));
  const gone = await kotodama(['train-tokenizer', '--input', 'gone.txt', '--vocab-size', '300', '--out', 'loop/b'], {
    cwd,
  });
  t.equal(gone.code, 2, 'as train has it');
  t.match(gone.stderr, '--input: expected a file that exists, received gone.txt');
  t.match(gone.stderr, '--out: expected a path that can be read, received loop/b, too many symbolic links encountered');
  t.notOk(existsSync(join(cwd, 'b')));
});

t.test('bad records are left out where that is asked for', async (t) => {
  const cwd = workplace(t);
  writeFileSync(join(cwd, 'bad.jsonl'), '{"text":"low lower lowest"}\nnot JSON\n{"text":"low lower lowest"}\n');
  const words = ['train-tokenizer', '--input', 'bad.jsonl', '--vocab-size', '260', '--out', 'tokenizer'];
  const refused = await kotodama(words, { cwd });
  t.equal(refused.code, 1);
  t.match(refused.stderr, /bad\.jsonl, line 2, .*--skip-bad/s);
  const { code, stderr } = await kotodama([...words, '--skip-bad'], { cwd });
  t.equal(code, 0, stderr);
  t.match(stderr, /^left out: bad\.jsonl, line 2, .*^bad records left out: 1$/ms);
});

t.test('Ctrl-C while it waits for text', async (t) => {
  const cwd = workplace(t);
  const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
  const words = ['train-tokenizer', '--input', '-', '--vocab-size', '300', '--out', 'tokenizer'];
  const child = spawn(process.execPath, [main, ...words], { cwd });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    if (text.includes('reading')) child.kill('SIGINT');
  });
  // The standard input is not ended: more text may come.
  child.stdin.write('human beings are born free\n'.repeat(5000));
  const code = await new Promise((resolve) => child.on('close', resolve));
  t.equal(code, 130, stderr);
  t.match(stderr, /^error ERR_ABORTED: The training of the tokenizer was aborted/m);
  t.notOk(existsSync(join(cwd, 'tokenizer')), 'nothing is written');
});
