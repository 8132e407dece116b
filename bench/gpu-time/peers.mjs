// @ts-check
// The same training step in PyTorch on the same GPU: in eager mode and compiled, and each with a vocabulary that its
// products are fast with.

import { GPT2_124M } from '../suite/arithmetic.mjs';
import { findTorch, torchOnGpu } from '../suite/contenders.mjs';
import { median } from '../suite/statistics.mjs';

/**
 * @typedef {{ python: string, torch: string, pythonVersion: string, gpu: string }} Peer
 * @typedef {{ who: string, vocabulary: number, compiled: boolean, milliseconds: number, fastest: number,
 *   peakBytes: number, loss: number }} Finished
 * @typedef {{ who: string, vocabulary: number, compiled: boolean, error: string }} Failed
 * @typedef {Finished | Failed} Entry
 */

const WARM_UPS = 3;
/** GPT-2's 50257 up to the next multiple of 64, as nanoGPT does it. */
export const PADDED = Math.ceil(GPT2_124M.vocabSize / 64) * 64;

/** The first line of what was thrown, shortened: compilers say a lot. @param {unknown} error */
function reason(error) {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).trim().split('\n');
  return line.length > 200 ? `${line.slice(0, 200)}...` : line;
}

/**
 * The Python that KOTODAMA_BENCH_PYTHON names, which must have PyTorch with CUDA, else python3 if that has it. Throws
 * when the named one has not.
 *
 * @param {string | undefined} named
 * @returns {Promise<Peer | undefined>}
 */
export async function findPeer(named = process.env.KOTODAMA_BENCH_PYTHON) {
  const python = findTorch(named);
  if (python === undefined) return undefined;
  const asking = torchOnGpu(python, 'PyTorch');
  try {
    const found = await asking.ask({ do: 'describe', compile: false, device: 'cuda' });
    if (found.gpu) return { python, torch: found.torch, pythonVersion: found.python, gpu: found.gpu };
    if (!named) return undefined;
    throw new Error(
      `KOTODAMA_BENCH_PYTHON: expected a Python whose PyTorch works with CUDA, found ${named} with PyTorch ` +
        `${found.torch} (${reason(found.reason)}); install another there, or leave the variable unset to measure without ` +
        'it or with that of python3',
    );
  } finally {
    await asking.end();
  }
}

/**
 * Steps of GPT-2 124M in bf16, one contender after another, each in a process of its own. One that fails says why.
 *
 * @param {Peer} peer
 * @param {{ batch: number, block: number, steps: number }} shape
 * @param {(who: string) => void} [progress]
 * @returns {Promise<Entry[]>}
 */
export async function timePeers({ python }, { batch, block, steps }, progress = () => {}) {
  /** @type {Entry[]} */
  const entries = [];
  for (const vocabulary of [GPT2_124M.vocabSize, PADDED]) {
    for (const compiled of [false, true]) {
      const who = `PyTorch ${compiled ? 'compiled' : 'eager'}, vocabulary ${vocabulary}`;
      progress(who);
      const contender = torchOnGpu(python, who);
      try {
        const model = { ...GPT2_124M, vocabSize: vocabulary, nPositions: block };
        const how = { precision: 'bf16', device: 'cuda', tuned: true, compile: compiled };
        await contender.ask({ do: 'train', model, batch, block, ...how });
        await contender.ask({ do: 'steps', count: WARM_UPS, compile: compiled });
        const { seconds, loss } = await contender.ask({ do: 'steps', count: steps, compile: compiled });
        const { peakBytes } = await contender.ask({ do: 'memory' });
        const times = { milliseconds: median(seconds) * 1e3, fastest: Math.min(...seconds) * 1e3 };
        entries.push({ who, vocabulary, compiled, ...times, peakBytes, loss });
      } catch (error) {
        entries.push({ who, vocabulary, compiled, error: reason(error) });
      } finally {
        await contender.end();
      }
    }
  }
  return entries;
}
