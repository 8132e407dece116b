import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  describeOptions,
  EVALUATE_OPTIONS,
  EXPORT_OPTIONS,
  flagOf,
  GENERATE_OPTIONS,
  parseFlags,
  REPORT_OPTIONS,
  readConfigFile,
  readOptions,
  requireFiles,
  requireOptions,
  TRAIN_OPTIONS,
} from '../../dist/cli/options.js';
import { OptionReader } from '../../dist/validate.js';

const parse = (line: string) => parseFlags(line.split(' '), TRAIN_OPTIONS);

t.test('flags are the API names in kebab case', async (t) => {
  t.equal(flagOf('nLayer'), '--n-layer');
  t.equal(flagOf('beta1'), '--beta1');
  t.same(parse('--n-layer 3 --beta1 0.8 --lr 6e-4'), { nLayer: 3, beta1: 0.8, lr: 6e-4 });
});

t.test('values: with a space, with =, several files, switches, negative numbers', async (t) => {
  t.same(parse('--train a.txt b.txt --valid=c.txt --train d.txt --resume --keep -2'), {
    train: ['a.txt', 'b.txt', 'd.txt'],
    valid: ['c.txt'],
    resume: true,
    keep: -2,
  });
  t.same(parse('--sample-prompt=--hello --resume=false'), { samplePrompt: '--hello', resume: false });
});

t.test('what is no number stays for the check to complain about', async (t) => {
  t.same(parse('--lr fast --max-steps 1e3 --seed NaN'), { lr: 'fast', maxSteps: 1000, seed: Number.NaN });
});

t.test('a flag without its value, and words without a flag', async (t) => {
  t.throws(() => parse('train.txt --lr --seed 1'), {
    code: 'ERR_OPTIONS',
    message: /2 problems\n.*received 'train.txt'.*\n.*--lr: expected a value, received nothing/,
  });
});

t.test('words of no flag belong to one where a command says so, wherever they stand', async (t) => {
  const words = ['runs/a', '--out', 'x.html', 'runs/b', '--runs', 'runs/c'];
  t.same(parseFlags(words, REPORT_OPTIONS, 'runs'), { runs: ['runs/a', 'runs/b', 'runs/c'], out: 'x.html' });
});

t.test('a value that looks like a flag: the hint says how it is given', async (t) => {
  const hint = '(?:a value that begins with -- is given as --sample-prompt=--hello)';
  t.throws(() => parse('--sample-prompt --hello'), { message: new RegExp(hint) });
  t.throws(() => parse('--sample-prompt --lr 3'), { message: /received nothing$/ });
  t.throws(() => parse('--sample-prompt --lr=3'), { message: /received nothing$/ });
  t.throws(() => parse('--sample-prompt'), { message: /received nothing$/ });
});

t.test('a text that lacks its flag', async (t) => {
  t.throws(() => parseFlags(['--model', 'a', '吾輩は'], GENERATE_OPTIONS), {
    message: /: arguments: expected only options .*received '吾輩は'\n {2}hint: .*--prompt/,
  });
});

t.test('a part of a name is enough to be understood', async (t) => {
  for (const [flag, hint] of [
    ['--batch', 'did you mean --batch-size?'],
    ['--workers', 'did you mean --num-workers?'],
    ['--prefetch', 'did you mean --prefetch-factor?'],
    ['--eval', 'did you mean --eval-every or --eval-batches?'],
    ['--resid-pdrop', 'did you mean --dropout?'],
    ['--size', 'did you mean --block-size or --batch-size?'],
    ['--frobnicate', 'kotodama train --help lists them'],
  ] as const) {
    const reader = new OptionReader(parse(`${flag} 3`), flagOf);
    readOptions(reader, TRAIN_OPTIONS, 'train');
    t.throws(() => reader.finish('bad'), { message: new RegExp(`^bad: ${flag}: expected a known name`), hint }, flag);
  }
});

t.test('a typo is named with what was meant, beside every other problem', async (t) => {
  const reader = new OptionReader(
    parse('--n-layr 3 --bath-size 2 --batch-size 0 --precision fp8 --frobnicate'),
    flagOf,
  );
  readOptions(reader, TRAIN_OPTIONS, 'train');
  requireOptions(reader, TRAIN_OPTIONS, ['train', 'out']);
  t.throws(() => reader.finish('bad'), {
    code: 'ERR_OPTIONS',
    message: new RegExp(
      [
        '7 problems',
        '--n-layr: .*did you mean --n-layer\\?',
        '--bath-size: .*did you mean --batch-size\\?',
        '--frobnicate: expected a known name, received an unknown name .kotodama train --help lists them',
        '--batch-size: expected an integer of at least 1, received 0',
        "--precision: expected 'fp32' or 'bf16', received 'fp8'",
        '--train: expected FILE...',
        '--out: expected DIR',
      ].join('[\\s\\S]*'),
    ),
  });
});

t.test('a configuration file holds the same names', async (t) => {
  const folder = t.testdir({
    'a.json': '{"nLayer": 2, "train": "x.txt", "valid": ["y", "z"]}',
    'flags.json': '\ufeff{"n-layer": 2, "--train": "x.txt", "n-layr": 3}',
    'twice.json': '{"nLayer": 2, "n-layer": 4}',
    'b.json': '[1]',
    'c.json': '{',
  });
  t.same(readConfigFile(join(folder, 'a.json'), TRAIN_OPTIONS), { nLayer: 2, train: ['x.txt'], valid: ['y', 'z'] });
  t.same(
    readConfigFile(join(folder, 'flags.json'), TRAIN_OPTIONS),
    { nLayer: 2, train: ['x.txt'], 'n-layr': 3 },
    'spelled as flags, with a byte order mark',
  );
  t.throws(() => readConfigFile(join(folder, 'twice.json'), TRAIN_OPTIONS), {
    message: /twice\.json has --n-layer in two spellings/,
  });
  t.throws(() => readConfigFile(join(folder, 'b.json'), TRAIN_OPTIONS), {
    code: 'ERR_OPTIONS',
    expected: 'a JSON object',
  });
  t.throws(() => readConfigFile(join(folder, 'c.json'), TRAIN_OPTIONS), {
    code: 'ERR_OPTIONS',
    message: /is not JSON/,
  });
  t.throws(() => readConfigFile(join(folder, 'd.json'), TRAIN_OPTIONS), { code: 'ERR_IO' });
});

t.test('texts that are not there, or are folders, are found before any work', async (t) => {
  const folder = t.testdir({ sub: {} });
  writeFileSync(join(folder, 'text.txt'), 'x');
  const reader = new OptionReader({}, flagOf);
  requireFiles(
    reader,
    'train',
    ['text.txt', 'gone.txt', 'sub'].map((name) => join(folder, name)),
  );
  t.throws(() => reader.finish('bad'), {
    message: /2 problems\n.*gone.txt\n.*expected a file, received .*sub, a folder/,
  });
});

t.test('a path that the system does not look at is a problem like the others', async (t) => {
  const folder = t.testdir();
  symlinkSync('loop', join(folder, 'loop'));
  const reader = new OptionReader({}, flagOf);
  const long = 'a'.repeat(300);
  requireFiles(reader, 'train', [join(folder, 'loop/a.txt'), join(folder, long), join(folder, 'loop/*.txt')]);
  t.throws(() => reader.finish('bad'), {
    code: 'ERR_OPTIONS',
    message:
      /3 problems\n.*loop\/a.txt, too many symbolic links.*\n.*a, name too long.*\n.*a pattern of files that can be read, received .*loop\/\*.txt, too many symbolic links/,
  });
});

t.test('help shows every option with its default', async (t) => {
  const text = describeOptions(TRAIN_OPTIONS);
  for (const name of Object.keys(TRAIN_OPTIONS)) t.match(text, `${flagOf(name)}`);
  t.match(text, /--batch-size N +blocks per micro-batch \[3\]/);
  t.match(text, /--schedule cosine\|linear\|constant\|wsd/);
  for (const table of [TRAIN_OPTIONS, GENERATE_OPTIONS, EVALUATE_OPTIONS, EXPORT_OPTIONS]) {
    for (const line of describeOptions(table).split('\n')) t.ok(line.length <= 120, line);
  }
});
