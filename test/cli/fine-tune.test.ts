import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { GPT2, Tokenizer } from '../../dist/index.js';
import type { TrainEvent } from '../../dist/train/events.js';
import { readSafetensors } from '../unit/helpers/model-readers.js';
import { essence, kotodama, readEvents, TOKENIZER, workplace } from './program.js';

const cwd = workplace(t);
const tokenizer = await Tokenizer.fromPretrained(TOKENIZER);
const base = await GPT2.create(
  { vocabSize: 2048, nPositions: 32, nEmbd: 16, nHead: 2, nLayer: 2, bosTokenId: 0, eosTokenId: 0, embdPdrop: 0.1 },
  { device: 'cpu', threads: 1, seed: 2 },
);
await base.savePretrained(join(cwd, 'base'), { tokenizer });
await base.saveLlmc(join(cwd, 'base.bin'));
await base.dispose();
mkdirSync(join(cwd, 'bare'));
for (const name of ['config.json', 'model.safetensors']) cpSync(join(cwd, 'base', name), join(cwd, 'bare', name));

const run = (...words: string[]) => kotodama(words, { cwd });
const tune = (out: string, ...more: string[]) => {
  const words = ['--train', 'train.txt', '--init-from', 'base', '--out', out, '--device', 'cpu', '--threads', '1'];
  return run('train', '--json', ...words, '--max-steps', '3', '--batch-size', '2', '--lr', '0.01', ...more);
};
/** A schedule that does not depend on the number of steps. */
const STEADY = ['--schedule', 'constant', '--warmup-steps', '0'];
const configOf = (out: string) => JSON.parse(readFileSync(join(cwd, out, 'config.json'), 'utf8'));
const tensorsOf = (out: string) => readSafetensors(join(cwd, out, 'model.safetensors')).tensors;

t.test('the context as it is, shortened, and asked to be longer', async (t) => {
  const [plain, short, long] = await Promise.all([
    tune('a'),
    tune('b', '--block-size', '16'),
    tune('c', '--block-size', '64'),
  ]);
  t.equal(plain.code, 0, plain.stderr);
  t.match(configOf('a'), { n_positions: 32, embd_pdrop: 0.1 });
  t.equal(short.code, 0, short.stderr);
  t.match(short.stderr, /^the context is shortened from 32 to 16 tokens\n/);
  t.match(configOf('b'), { n_positions: 16 });
  t.same(tensorsOf('b').get('transformer.wpe.weight')?.shape, [16, 16]);
  t.equal(long.code, 2);
  t.match(
    long.stderr,
    /^error ERR_OPTIONS: --block-size: expected at most 32, the context of base, received 64\n {2}hint/,
  );
  const resumed = await run('train', '--json', '--resume', '--out', 'b', '--max-steps', '5');
  t.equal(resumed.code, 0, resumed.stderr);
  t.match(configOf('b'), { n_positions: 16 });
});

t.test('added tokens grow the embedding; another tokenizer is refused', async (t) => {
  const added = await run('add-tokens', '--tokenizer', TOKENIZER, '--tokens', '<|user|>', '<|bot|>', '--out', 'more');
  t.equal(added.code, 0, added.stderr);
  t.match(added.stderr, /^2048 "<\|user\|>"\n2049 "<\|bot\|>"\nwritten to more: 2050 ids\n/);
  const other = await run('train-tokenizer', '--input', 'train.txt', '--vocab-size', '300', '--out', 'other');
  t.equal(other.code, 0, other.stderr);
  const [grown, wrong, bare, barer, llmc, missing] = await Promise.all([
    tune('d', '--tokenizer', 'more', '--block-size', '16'),
    tune('e', '--tokenizer', 'other'),
    tune('f', '--init-from', 'bare', '--tokenizer', 'more'),
    tune('g', '--init-from', 'bare', '--tokenizer', TOKENIZER),
    tune('h', '--init-from', 'base.bin', '--tokenizer', TOKENIZER),
    tune('i', '--init-from', 'base.bin'),
  ]);
  t.equal(grown.code, 0, grown.stderr);
  t.match(grown.stderr, /the embedding grows from 2048 to 2050 tokens\n/);
  t.match(configOf('d'), { vocab_size: 2050, n_positions: 16, eos_token_id: 0 });
  t.same(tensorsOf('d').get('transformer.wte.weight')?.shape, [2050, 16]);
  const resumed = await run('train', '--json', '--resume', '--out', 'd', '--max-steps', '5');
  t.equal(resumed.code, 0, resumed.stderr);
  t.match(wrong.stderr, /^error ERR_TOKENIZER: The tokenizer is not that of base: token \d+: expected "/);
  t.match(bare.stderr, /does not fit bare, which has none of its own: expected at most 2048 ids, received 2050/);
  for (const outcome of [barer, llmc]) t.equal(outcome.code, 0, outcome.stderr);
  t.match(configOf('h'), { vocab_size: 2048, eos_token_id: 0, embd_pdrop: 0 });
  t.match(missing.stderr, /--tokenizer: expected DIR, received nothing/);
});

t.test('frozen tensors stay through a run and its continuation', async (t) => {
  const [frozen, nothing, all] = await Promise.all([
    tune('j', '--freeze', 'wte', 'h.0', ...STEADY),
    tune('k', '--freeze', 'h.2'),
    tune('l', '--freeze', '*'),
  ]);
  t.equal(frozen.code, 0, frozen.stderr);
  t.match(nothing.stderr, /No tensor of the model matches 'h.2'/);
  t.match(all.stderr, /nothing is left to train/);
  const changed = await run('train', '--json', '--resume', '--out', 'j', '--max-steps', '6', '--freeze', 'wte');
  t.match(changed.stderr, /--freeze: \["wte","h.0"\] in the run, \["wte"\] now/);
  const resumed = await run('train', '--json', '--resume', '--out', 'j', '--max-steps', '6');
  t.equal(resumed.code, 0, resumed.stderr);
  const [before, after] = [tensorsOf('base'), tensorsOf('j')];
  for (const [name, { bytes }] of before) {
    const stays = name === 'transformer.wte.weight' || name.startsWith('transformer.h.0.');
    t.equal(after.get(name)?.bytes.equals(bytes), stays, name);
  }
  const whole = await tune('m', '--freeze', 'wte', 'h.0', ...STEADY, '--max-steps', '6');
  t.equal(whole.code, 0, whole.stderr);
  const steps = (out: string) =>
    essence(readEvents(join(cwd, out))).filter((event) => (event as TrainEvent).type === 'step');
  t.equal(steps('j').length, 6);
  t.same(steps('j'), steps('m'), 'as if it had not been interrupted');
});

t.test('a pickle is refused with what to run instead', async (t) => {
  cpSync(join(cwd, 'base'), join(cwd, 'pickled'), { recursive: true });
  rmSync(join(cwd, 'pickled/model.safetensors'));
  cpSync(join(cwd, 'base.bin'), join(cwd, 'pickled/pytorch_model.bin'));
  const outcome = await tune('n', '--init-from', 'pickled');
  t.match(outcome.stderr, /^error ERR_MODEL_FILE: pickled\/pytorch_model.bin is a Python pickle.*\n.*save_pretrained/);
});

t.test('the learning rate of a new model is told to be one, where nobody chose it', async (t) => {
  const words = ['train', '--train', 'train.txt', '--init-from', 'base', '--device', 'cpu', '--batch-size', '2'];
  const [silent, chosen] = await Promise.all([
    run(...words, '--out', 'o', '--max-steps', '1'),
    run(...words, '--out', 'p', '--max-steps', '1', '--lr', '6e-4'),
  ]);
  t.equal(silent.code, 0, silent.stderr);
  t.match(silent.stderr, '--lr 6.00e-4, the default, is for a new model');
  t.notMatch(chosen.stderr, 'for a new model');
  const resumed = await run('train', '--resume', '--out', 'o', '--max-steps', '2');
  t.equal(resumed.code, 0, resumed.stderr);
  t.notMatch(resumed.stderr, 'for a new model');
});

t.test('answers to prompts: learned, measured, and gone on with as they began', async (t) => {
  const pairs = Array.from({ length: 60 }, (_, i) => ({ q: `${i % 10}?`, a: `${i % 10}!` }));
  writeFileSync(join(cwd, 'pairs.jsonl'), pairs.map((pair) => `${JSON.stringify(pair)}\n`).join(''));
  const fields = ['--prompt-field', 'q', '--text-field', 'a'];
  const words = ['--tokenizer', TOKENIZER, '--train', 'pairs.jsonl', '--valid', 'pairs.jsonl', ...fields];
  const sizes = ['--n-layer', '1', '--n-head', '2', '--n-embd', '32', '--block-size', '16', '--device', 'cpu'];
  const learn = (out: string, ...more: string[]) =>
    run('train', '--json', ...words, ...sizes, ...STEADY, '--lr', '0.01', '--eval-every', '100', '--out', out, ...more);
  const [whole, begun] = await Promise.all([
    learn('answers', '--max-steps', '300'),
    learn('answers-part', '--max-steps', '7', '--save-every', '7'),
  ]);
  t.equal(whole.code, 0, whole.stderr);
  t.equal(begun.code, 0, begun.stderr);
  const resumed = await run('train', '--json', '--resume', '--out', 'answers-part', '--max-steps', '300');
  t.equal(resumed.code, 0, resumed.stderr);
  const losses = (out: string) =>
    readEvents(join(cwd, out)).flatMap((event) => (event.type === 'step' ? event.loss : []));
  t.same(losses('answers-part'), losses('answers'), 'bit for bit');

  const measured = await run('evaluate', '--model', 'answers', '--data', 'pairs.jsonl', ...fields, '--json');
  t.equal(measured.code, 0, measured.stderr);
  // What was learned is certain once the question is read; the questions themselves could not be foreseen.
  t.match(JSON.parse(measured.stdout), { tokens: 180, bytes: 120, loss: Number });
  t.ok(JSON.parse(measured.stdout).loss < 0.1, measured.stdout);
  const limited = await run(
    'evaluate',
    '--model',
    'answers',
    '--data',
    'pairs.jsonl',
    ...fields,
    '--json',
    '--limit',
    '999',
  );
  t.equal(limited.stdout, measured.stdout, 'bytes counted from the tokens');
  const answer = await run('generate', '--model', 'answers', '--prompt', '7?', '--temperature', '0');
  t.equal(answer.stdout, '7?7!\n');

  const stride = await run('evaluate', '--model', 'answers', '--data', 'pairs.jsonl', ...fields, '--stride', '4');
  t.equal(stride.code, 2);
  t.match(stride.stderr, /--stride: expected nothing with --prompt-field, received 4/);
  const other = await run('train', '--resume', '--out', 'answers', '--max-steps', '301', '--eos', 'none');
  t.match(other.stderr, /--eos: "document" in the run, "none" now/);
});
