// Saves a model over another on a disk that fails at its n-th call, for n = 1 until no call fails any more, and tells what the
// folder holds then: one JSON line for each n. Runs under shim.cc.
//
//   node saving.mjs FOLDER CONTROL MODE ERRNO all|weights

import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parameterShapes, resolveConfig } from '../../dist/model/config.js';
import { writePretrained } from '../../dist/model/save.js';
import { armFor } from './arm.mjs';

const [folder, controlFile, mode, errno, what] = process.argv.slice(2);
const arm = armFor(controlFile, mode, errno);
const out = join(folder, 'model');

/** In two files and with a tokenizer; what the second one differs in is `all` or only its `weights`, in one file. */
function save(where, number) {
  const kind = what === 'all' ? number : 1;
  const config = resolveConfig({ vocabSize: 8, nPositions: 4, nEmbd: 4, nLayer: 1, nHead: 2 * kind });
  const read = (shape) => new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(number);
  const weights = parameterShapes(config).map(({ name, shape }) => ({ name, shape, read: () => read(shape) }));
  const bytes = Buffer.from(`${kind}`);
  const names = kind === 1 ? ['tokenizer.json', 'tokenizer_config.json'] : ['spiece.model', 'tokenizer_config.json'];
  const tokenizer = { vocabSize: 8, encode: () => [], contents: new Map(names.map((name) => [name, bytes])) };
  return writePretrained(where, { config, weights, tokenizer }, what === 'all' ? { maxShardBytes: 800 } : {});
}

/** Names and contents of all files but hidden ones. */
function snapshot(where) {
  const names = readdirSync(where).filter((name) => !name.startsWith('.'));
  return JSON.stringify(names.sort().map((name) => [name, readFileSync(join(where, name), 'latin1')]));
}

const [before, after] = ['before', 'after'].map((name) => `${folder}-${name}`);
await save(before, 1);
await save(after, 2);

function found() {
  if (!existsSync(join(out, 'config.json'))) return 'none';
  return ['before', 'after'].find((name) => snapshot(`${folder}-${name}`) === snapshot(out)) ?? 'a mix';
}

for (let n = 1; ; n++) {
  rmSync(out, { recursive: true, force: true });
  cpSync(before, out, { recursive: true });
  arm(n);
  const error = await save(out, 2).then(
    () => undefined,
    ({ code, message }) => `${code} ${message}`,
  );
  const calls = arm(0);
  writeFileSync(1, `${JSON.stringify({ n, error, found: found() })}\n`);
  if (calls < n) break;
}
