import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { GPT2, Tokenizer } from '../../dist/index.js';
import { readGguf, readLlmc, readSafetensors } from '../unit/helpers/model-readers.js';
import { kotodama, TOKENIZER, workplace } from './program.js';

const cwd = workplace(t);
const tokenizer = await Tokenizer.fromPretrained(TOKENIZER);
const model = await GPT2.create(
  { vocabSize: tokenizer.vocabSize, nPositions: 16, nEmbd: 32, nHead: 2, nLayer: 1, initializerRange: 0.3 },
  { device: 'cpu', threads: 1, seed: 2 },
);
t.teardown(() => model.dispose());
await model.savePretrained(join(cwd, 'model'), { tokenizer });
const run = (...words: string[]) => kotodama(['export', ...words], { cwd });
const weights = readSafetensors(join(cwd, 'model/model.safetensors')).tensors;

t.test('the files that the library writes', async (t) => {
  const [gguf, small, llmc, brain] = await Promise.all([
    run('--model', 'model', '--format', 'gguf', '--out', 'new/a.gguf'),
    run('--model', 'model', '--format', 'gguf', '--dtype', 'q8_0', '--out', 'b.gguf'),
    run('--model', 'model', '--format', 'llm.c', '--out', 'c.bin'),
    run('--model', 'model', '--format', 'llm.c', '--dtype', 'bf16', '--out', 'd.bin'),
  ]);
  const idle = await run('--model', 'model', '--format', 'llm.c', '--tokenizer', 'nowhere', '--out', 'e.bin');
  t.match(idle.stderr, /--tokenizer: expected nothing with --format llm.c.*'nowhere'/);
  for (const outcome of [gguf, small, llmc, brain]) t.equal(outcome.code, 0, outcome.stderr);
  t.equal(gguf.stderr, 'wrote new/a.gguf\n');
  const found = readGguf(join(cwd, 'new/a.gguf'));
  t.equal(found.tensors.get('token_embd.weight')?.dtype, 'F16');
  t.match(found.metadata.get('tokenizer.ggml.tokens'), { length: 2048 });
  t.equal(readGguf(join(cwd, 'b.gguf')).tensors.get('token_embd.weight')?.dtype, 'Q8_0');
  const { header, sections } = readLlmc(join(cwd, 'c.bin'));
  t.equal(header[1], 3);
  t.same(sections.get('wpe'), weights.get('transformer.wpe.weight')?.values);
  t.equal(readLlmc(join(cwd, 'd.bin')).header[1], 5);
});

t.test('safetensors: other types, several files, with the tokenizer or without', async (t) => {
  const outcome = await run('--model', 'model', '--format', 'safetensors', '--dtype', 'f16', '--out', 'hf');
  t.equal(outcome.code, 0, outcome.stderr);
  t.same(readdirSync(join(cwd, 'hf')).sort(), readdirSync(join(cwd, 'model')).sort());
  t.equal(readSafetensors(join(cwd, 'hf/model.safetensors')).tensors.get('transformer.wte.weight')?.dtype, 'F16');
  const many = await run('--model', 'hf', '--format', 'safetensors', '--max-shard-size', '0.1MB', '--out', 'hf');
  t.match(many.stderr, /--out hf is the model itself/);
  mkdirSync(join(cwd, 'bare'));
  for (const name of ['config.json', 'model.safetensors']) cpSync(join(cwd, 'hf', name), join(cwd, 'bare', name));
  const shards = await run(
    '--model',
    'bare',
    '--format',
    'safetensors',
    '--max-shard-size',
    '0.1MB',
    '--out',
    'shards',
  );
  t.equal(shards.code, 0, shards.stderr);
  t.same(readdirSync(join(cwd, 'shards')).sort(), [
    'config.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
  ]);
  const needed = await run('--model', 'bare', '--format', 'gguf', '--out', 'x.gguf');
  t.match(needed.stderr, /^error ERR_TOKENIZER: There is no tokenizer in bare/);
});

t.test("a file of llm.c's is a model wherever one is taken", async (t) => {
  const bin = ['--model', 'c.bin'];
  const [back, gguf, none, asked] = await Promise.all([
    run(...bin, '--tokenizer', TOKENIZER, '--format', 'safetensors', '--out', 'back'),
    run(...bin, '--tokenizer', TOKENIZER, '--format', 'gguf', '--out', 'e.gguf'),
    run(...bin, '--format', 'gguf', '--out', 'f.gguf'),
    run(...bin, '--format', 'safetensors', '--out', 'back-bare'),
  ]);
  t.equal(back.code, 0, back.stderr);
  const again = readSafetensors(join(cwd, 'back/model.safetensors')).tensors;
  for (const [name, { bytes }] of weights) t.ok(again.get(name)?.bytes.equals(bytes), name);
  t.ok(readdirSync(join(cwd, 'back')).includes('tokenizer.json'));
  t.equal(gguf.code, 0, gguf.stderr);
  t.match(none.stderr, /c.bin holds no tokenizer\n.*--tokenizer DIR/);
  t.same(readdirSync(join(cwd, 'back-bare')).sort(), ['config.json', 'model.safetensors']);
  t.equal(asked.code, 0, asked.stderr);

  const data = ['--data', 'valid.txt', '--json', '--device', 'cpu', '--threads', '1'];
  const [one, two] = await Promise.all([
    kotodama(['evaluate', '--model', 'model', ...data], { cwd }),
    kotodama(['evaluate', ...bin, '--tokenizer', TOKENIZER, ...data], { cwd }),
  ]);
  t.equal(two.stdout, one.stdout, two.stderr);
  const bare = await kotodama(['generate', ...bin, '--prompt', 'a'], { cwd });
  t.match(bare.stderr, /^error ERR_OPTIONS: c.bin holds no tokenizer/);
});

t.test('another kind of file is not replaced, an older one of the same kind is', async (t) => {
  const text = readFileSync(join(cwd, 'train.txt'));
  execFileSync('mkfifo', [join(cwd, 'pipe')]);
  for (const format of ['gguf', 'llm.c']) {
    const words = ['--model', 'model', '--format', format];
    const refused = await run(...words, '--out', 'train.txt');
    t.equal(refused.code, 2);
    t.match(refused.stderr, /^error ERR_OPTIONS: --out train.txt would be replaced: expected a new file, or a /);
    t.same(readFileSync(join(cwd, 'train.txt')), text);
    for (const _ of [1, 2]) t.equal((await run(...words, '--out', `twice.${format}`)).code, 0);
    writeFileSync(join(cwd, 'notes'), 'gguf is a format');
    t.equal((await run(...words, '--out', 'notes')).code, 2);
    const pipe = await run(...words, '--out', 'pipe');
    t.match(pipe.stderr, /^error ERR_OPTIONS: --out pipe would be replaced: .*received a device or a pipe/);
    t.ok(statSync(join(cwd, 'pipe')).isFIFO());
  }
});

t.test('what cannot be is said before anything is read', async (t) => {
  writeFileSync(join(cwd, 'torch.bin'), 'PK\x03\x04');
  mkdirSync(join(cwd, 'run'));
  writeFileSync(join(cwd, 'run/run.json'), '{}');
  const before = readFileSync(join(cwd, 'model/model.safetensors'));
  symlinkSync('model', join(cwd, 'link'));
  symlinkSync('c.bin', join(cwd, 'link.bin'));
  const llmc = readFileSync(join(cwd, 'c.bin'));
  for (const [name, file] of [
    ['step-1', 'trainer_state.json'],
    ['step-2', 'SHA256SUMS'],
  ] as const) {
    mkdirSync(join(cwd, name));
    writeFileSync(join(cwd, name, file), '');
    const outcome = await run('--model', 'model', '--format', 'safetensors', '--out', name);
    t.match(outcome, { code: 2, stderr: `--out ${name} is a checkpoint, whose weights would be replaced` });
  }
  const [linked, through, file] = await Promise.all([
    run('--model', 'model', '--format', 'safetensors', '--dtype', 'bf16', '--out', 'link'),
    run('--model', 'link', '--format', 'safetensors', '--dtype', 'bf16', '--out', 'model'),
    run('--model', 'c.bin', '--format', 'llm.c', '--dtype', 'bf16', '--out', 'link.bin'),
  ]);
  for (const outcome of [linked, through, file]) t.match(outcome, { code: 2, stderr: /is the model itself/ });
  t.ok(readFileSync(join(cwd, 'c.bin')).equals(llmc));
  const [missing, types, size, pickle, over, itself, nowhere] = await Promise.all([
    run('--model', 'model', '--format', 'onnx'),
    run('--model', 'model', '--format', 'llm.c', '--dtype', 'q8_0', '--max-shard-size', '1GB', '--out', 'x'),
    run('--model', 'model', '--format', 'safetensors', '--max-shard-size', '5 GiB', '--out', 'x'),
    run('--model', 'torch.bin', '--format', 'gguf', '--out', 'x'),
    run('--model', 'model', '--format', 'safetensors', '--out', 'run'),
    run('--model', 'model', '--format', 'safetensors', '--out', resolve(cwd, 'model')),
    run('--model', 'model', '--format', 'gguf', '--out', 'valid.txt/x.gguf'),
  ]);
  t.match(missing.stderr, /2 problems\n.*--format: expected 'gguf', 'llm.c' or 'safetensors'.*\n.*--out/);
  t.match(types.stderr, /2 problems\n.*--max-shard-size: .*\n.*--dtype: expected f32 or bf16 with --format llm.c/);
  t.match(size.stderr, /--max-shard-size: expected a size such as 5GB/);
  t.match(pickle.stderr, /^error ERR_MODEL_FILE: torch.bin is a Python pickle/);
  t.match(over.stderr, /--out run is the folder of a run/);
  t.match(itself.stderr, /is the model itself/);
  t.match(nowhere.stderr, /^error ERR_IO/);
  t.ok(readFileSync(join(cwd, 'model/model.safetensors')).equals(before));
});
