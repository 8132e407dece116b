// @ts-check
// The whole training step, ours and theirs in turns.

import { kotodama, tensorflow, torch } from './contenders.mjs';
import { load } from './machine.mjs';
import { spread } from './statistics.mjs';

/** Who the same engine on one thread is. */
export const ALONE = 'kotodama, 1 thread';

/**
 * @typedef {{ name: string, model: import('./arithmetic.mjs').Shape, batch: number, block: number, precision: string,
 *   threads: number, rounds: number, steps: number, compile: boolean, tensorflow?: boolean,
 *   beside: 'nobody' | 'the best' | 'all' }} Case
 * @typedef {{ who: string, threads: number, median: number, min: number, max: number, samples: number,
 *   peakBytes?: number, loss: number, load: number }} Timing
 */

/**
 * Who else trains the case: how it is started, on how many threads, with how many steps in each turn.
 *
 * @param {Case} what @param {string | undefined} python
 */
function peersOf(what, python) {
  const { threads, steps, beside } = what;
  if (beside === 'nobody') return [];
  const peers = [];
  if (python) {
    for (const tuned of beside === 'all' ? [false, true] : [true]) {
      peers.push({ start: () => torch(python, tuned, threads), threads, steps, tuned, compile: tuned && what.compile });
    }
  }
  // It has no threads in Node, and a step takes long.
  if (what.tensorflow) peers.push({ start: tensorflow, threads: 1, steps: 2, tuned: false, compile: false });
  return peers;
}

/**
 * Steps of the case by kotodama and, one after another, by each peer in turns with it, so that what else runs on the
 * machine hits both. No more than two processes hold a model at once.
 *
 * @param {Case} what @param {string | undefined} python @returns {Promise<Timing[]>}
 */
export async function measureTraining(what, python) {
  const { model, batch, block, precision, threads } = what;
  const request = { do: 'train', model, batch, block, precision };
  const ours = kotodama();
  /** @type {Map<string, { threads: number, seconds: number[], loss: number, peakBytes?: number | undefined }>} */
  const found = new Map();

  /** @param {string} who @param {number} on @param {import('./contenders.mjs').Contender} contender */
  async function turn(who, on, contender, count = what.steps, compile = false) {
    const { seconds, loss } = await contender.ask({ do: 'steps', count, compile });
    /** @type {{ threads: number, seconds: number[], loss: number, peakBytes?: number | undefined }} */
    const entry = found.get(who) ?? { threads: on, seconds: [], loss };
    entry.seconds.push(...seconds);
    found.set(who, entry);
  }
  /** @param {string} who @param {import('./contenders.mjs').Contender} contender */
  async function remember(who, contender) {
    const entry = found.get(who);
    if (entry) entry.peakBytes = (await contender.ask({ do: 'memory' })).peakBytes;
  }

  await ours.ask({ ...request, threads });
  await turn(ours.name, threads, ours);
  await remember(ours.name, ours);
  for (const { start, threads: on, steps, tuned, compile } of peersOf(what, python)) {
    const peer = start();
    try {
      await peer.ask({ ...request, threads: on, tuned, compile });
      for (let round = 0; round < what.rounds; round++) {
        await turn(ours.name, threads, ours);
        await turn(peer.name, on, peer, steps);
        if (compile) await turn('PyTorch tuned, compiled', on, peer, steps, true);
      }
      await remember(peer.name, peer);
    } catch (error) {
      // A peer that has no room, or whose compiler fails, does not cost us the rest.
      console.error(String(error));
    } finally {
      await peer.end();
    }
  }
  if (threads > 1 && what.beside !== 'nobody') {
    const single = kotodama(ALONE);
    await single.ask({ ...request, threads: 1 });
    for (let round = 0; round < what.rounds; round++) {
      await turn(ours.name, threads, ours);
      await turn(single.name, 1, single);
    }
    await single.end();
  } else {
    for (let round = 0; round < what.rounds; round++) await turn(ours.name, threads, ours);
  }
  await ours.end();
  return [...found].map(([who, { seconds, ...rest }]) => ({ who, ...rest, ...spread(seconds), load: load() }));
}

/**
 * Tokens one after another with the key-value cache, in turns; kotodama also with weights of eight bits.
 *
 * @param {{ model: import('./arithmetic.mjs').Shape, precision: string, threads: number, prompt: number,
 *   tokens: number, rounds: number }} what
 * @param {string | undefined} python @returns {Promise<(Timing & { int8: boolean })[]>}
 */
export async function measureGeneration(what, python) {
  const contenders = [
    { contender: kotodama(), int8: false },
    { contender: kotodama(), int8: true },
  ];
  if (python) {
    for (const tuned of [false, true]) contenders.push({ contender: torch(python, tuned, what.threads), int8: false });
  }
  /** @type {number[][]} */
  const seconds = contenders.map(() => []);
  for (let round = 0; round < what.rounds; round++) {
    for (const [i, { contender, int8 }] of contenders.entries()) {
      seconds[i]?.push(...(await contender.ask({ do: 'generate', ...what, int8 })).seconds);
    }
  }
  for (const { contender } of contenders) await contender.end();
  return contenders.map(({ contender: { name }, int8 }, i) => ({
    who: int8 ? `${name}, int8` : name,
    int8,
    threads: what.threads,
    loss: Number.NaN,
    ...spread(seconds[i] ?? []),
    load: load(),
  }));
}
