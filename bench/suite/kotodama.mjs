// @ts-check
// kotodama, as a contender of `npm run bench`: the requests of bench/peers/gpt2.py, answered through the public API.

import { GPT2 } from '../../dist/index.js';
import { serve } from './serve.mjs';

/** @type {GPT2 | undefined} */
let model;

/** @param {any} request */
async function make({ model: config, precision, threads, seed = 0 }) {
  await model?.dispose();
  model = await GPT2.create(config, { device: 'cpu', precision, threads, seed });
  return model;
}

await serve({
  describe: async () => ({ node: process.version }),

  /** @param {any} request */
  async train(request) {
    const { batch, block } = request;
    const made = await make(request);
    const at = (/** @type {number} */ i) => (i * 7919) % request.model.vocabSize;
    const tokens = (/** @type {number} */ first) =>
      Array.from({ length: batch }, (_, b) => Int32Array.from({ length: block }, (_, t) => at(first + b * block + t)));
    /** @type {[number, number]} */
    const shape = [batch, block];
    const inputIds = { data: Int32Array.from(tokens(0).flatMap((row) => [...row])), shape };
    const labels = { data: Int32Array.from(tokens(1).flatMap((row) => [...row])), shape };
    /** @type {import('../../dist/index.js').StepOptions} */
    const options = { learningRate: 1e-4, betas: [0.9, 0.95], weightDecay: 0.1, maxGradNorm: 1 };
    return async () => (await made.trainStep({ inputIds, labels }, options)).loss;
  },

  /** @param {any} request */
  async generate(request) {
    const made = await make(request);
    const prompt = Array.from({ length: request.prompt }, (_, i) => i);
    const seconds = [];
    let begin = performance.now();
    const options = { maxNewTokens: request.tokens, temperature: 0, eosTokenId: null, int8: request.int8 };
    for await (const _ of made.generateIds(prompt, options)) {
      seconds.push((performance.now() - begin) / 1000);
      begin = performance.now();
    }
    return { seconds: seconds.slice(1) }; // the first reads the prompt
  },
});
await model?.dispose();
