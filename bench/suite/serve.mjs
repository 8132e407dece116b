// @ts-check
// What all contenders in JavaScript have in common: one request a line, one answer a line (bench/peers/gpt2.py says which).

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/**
 * Answers requests until there are no more. `train` gives the training step, which returns the loss; the requests for
 * steps and for the memory of the process are answered here.
 *
 * @param {{ train: (request: any) => Promise<() => number | Promise<number>> } &
 *   Record<string, (request: any) => Promise<any>>} contender
 */
export async function serve({ train, ...others }) {
  /** @type {(() => number | Promise<number>) | undefined} */
  let step;
  /** @type {Record<string, (request: any) => Promise<any>>} */
  const answers = {
    ...others,

    async train(request) {
      step = await train(request);
      for (let i = 0; i < 2; i++) await step();
      return {};
    },

    async steps({ count }) {
      const seconds = [];
      let loss = Number.NaN;
      for (let i = 0; i < count; i++) {
        const begin = performance.now();
        loss = (await step?.()) ?? loss;
        seconds.push((performance.now() - begin) / 1000);
      }
      return { seconds, loss };
    },

    memory: async () => {
      const line = /^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'));
      return { peakBytes: Number(line?.[1]) * 1024 };
    },
  };

  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let answer;
    try {
      answer = await answers[request.do]?.(request);
    } catch (error) {
      answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer ?? { error: `no request: ${request.do}` })}\n`);
  }
}
