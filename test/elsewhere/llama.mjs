// Opens what write.mjs wrote with llama.cpp: see there. The texts must become the same tokens, and float32 weights must
// choose the same ones.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, installed] = process.argv.slice(2);
const entry = join(installed, 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);
const models = join(folder, 'models');
const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error });
let failures = 0;

function check(what, good) {
  if (!good) failures++;
  process.stdout.write(`${good ? 'ok' : 'FAILED'}  ${what}\n`);
}

for (const name of readdirSync(models)) {
  const { texts, ids, greedy } = JSON.parse(readFileSync(join(models, name, 'expected.json'), 'utf8'));
  for (const kind of ['f32', 'f16', 'q8_0']) {
    const model = await llama.loadModel({ modelPath: join(models, name, `${kind}.gguf`) });
    for (const { text, ids } of texts) {
      check(`${name}/${kind}: tokens of ${JSON.stringify(text)}`, `${model.tokenize(text)}` === `${ids}`);
    }
    const context = await model.createContext({ contextSize: 64 });
    const found = [];
    for await (const token of context.getSequence().evaluate(ids, { temperature: 0, yieldEogToken: true })) {
      found.push(token);
      if (found.length === greedy.length) break;
    }
    const equal = found.findIndex((token, index) => token !== greedy[index]);
    const text = equal < 0 ? `all ${found.length} as here` : `the first ${equal} as here`;
    // Rounded weights may choose otherwise sooner or later.
    check(
      `${name}/${kind}: likeliest next tokens, ${text}`,
      kind === 'f32' ? equal < 0 : found.length === greedy.length,
    );
    await model.dispose();
  }
}
await llama.dispose();
process.exitCode = failures === 0 ? 0 : 1;
