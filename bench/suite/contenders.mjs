// @ts-check
// Who trains beside whom: each in a process of its own, which answers one request at a time (bench/peers/gpt2.py says
// which). While one works, the others wait.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const gpt2 = fileURLToPath(new URL('../peers/gpt2.py', import.meta.url));

export class Contender {
  /** @param {string} name @param {string} command @param {string[]} args @param {Record<string, string>} env */
  constructor(name, command, args, env = {}) {
    this.name = name;
    this.child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'inherit'] });
    this.ended = new Promise((resolve) => this.child.once('close', resolve));
    this.child.stdin.on('error', () => {}); // it ended: `ask` says so
    this.answers = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  /** @param {Record<string, unknown>} request @returns {Promise<any>} */
  async ask(request) {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`${this.name} ended early`);
    const answer = JSON.parse(value);
    if (answer.error) throw new Error(`${this.name}: ${answer.error}`);
    return answer;
  }

  async end() {
    this.child.stdin.end();
    await this.ended;
  }
}

/** @param {string} [name] */
export function kotodama(name = 'kotodama') {
  return new Contender(name, process.execPath, [join(here, 'kotodama.mjs')]);
}

/**
 * The Python that is named, which must have torch, else python3 if that has it. Throws when the named one has not.
 *
 * @param {string | undefined} named
 */
export function findTorch(named = process.env.KOTODAMA_BENCH_PYTHON) {
  const python = named || 'python3';
  const { status, stderr, error } = spawnSync(python, ['-c', 'import torch'], { encoding: 'utf8' });
  if (status === 0) return python;
  if (!named) return undefined;
  const found = error?.message ?? (stderr.trim().split('\n').at(-1) || `it ended with ${status}`);
  throw new Error(
    `KOTODAMA_BENCH_PYTHON: expected a Python that imports torch, found ${named} (${found}); install torch there, or ` +
      'leave the variable unset to measure without it or with that of python3',
  );
}

/** What PyTorch tuned takes its memory from, where it is installed. */
export const jemalloc = ['x86_64', 'aarch64']
  .map((machine) => `/usr/lib/${machine}-linux-gnu/libjemalloc.so.2`)
  .find(existsSync);

/**
 * PyTorch as it is installed, or with what makes it fastest on a CPU: pinned threads, and memory in huge pages that is
 * not given back after every step, where jemalloc is installed.
 *
 * @param {string} python @param {boolean} tuned @param {number} threads
 */
export function torch(python, tuned, threads) {
  if (!tuned) return new Contender('PyTorch as installed', python, [gpt2]);
  const memory = { LD_PRELOAD: jemalloc ?? '', MALLOC_CONF: 'thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1' };
  const pinned = { OMP_NUM_THREADS: `${threads}`, OMP_PROC_BIND: 'true', OMP_PLACES: 'cores' };
  return new Contender('PyTorch tuned', python, [gpt2], { ...pinned, ...(jemalloc ? memory : {}) });
}

/** PyTorch whose requests name a GPU: nothing of its environment is changed. @param {string} python @param {string} name */
export function torchOnGpu(python, name) {
  return new Contender(name, python, [gpt2]);
}

/** TensorFlow.js from the folder that KOTODAMA_BENCH_TFJS names; bench/peers/tensorflow.mjs says how it is found there. */
export function tensorflow() {
  const script = fileURLToPath(new URL('../peers/tensorflow.mjs', import.meta.url));
  return new Contender('TensorFlow.js (WASM)', process.execPath, [script]);
}
