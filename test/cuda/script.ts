import { spawn } from 'node:child_process';

/** What scripts may use: a tiny model and batch, and ways to say what they find. */
const PRELUDE = `
import { GPT2, listDevices } from '${new URL('../../dist/index.js', import.meta.url).href}';
const config = { vocabSize: 61, nPositions: 16, nEmbd: 32, nLayer: 1, nHead: 2 };
const array = (shift) => ({ data: Int32Array.from({ length: 24 }, (_, i) => (7 * i + shift) % 61), shape: [2, 12] });
const batch = { inputIds: array(0), labels: array(7) };
const create = (options = {}) => GPT2.create(config, { device: 'cuda', seed: 3, ...options });
const rates = { learningRate: 1e-2, betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 };
const train = async (model, steps = 3) => {
  const losses = [];
  for (let step = 0; step < steps; step++) {
    losses.push((await model.forwardBackward(batch)).loss);
    await model.step(rates);
  }
  return losses;
};
const attempt = async (work) => {
  try {
    return await work();
  } catch (error) {
    return { code: error.code, message: error.message };
  }
};
const say = (value) => console.log(JSON.stringify(value));
const free = async () => Object.fromEntries((await listDevices()).map(({ device, freeBytes }) => [device, freeBytes]));
`;

export interface Outcome {
  code: number | null;
  signal: string | null;
  stderr: string;
  /** What it said. */
  // biome-ignore lint/suspicious/noExplicitAny: each script says something else
  said: any[];
}

/** Runs a program of the package in a process of its own, which may end in any way. */
export function runScript(source: string, env: Record<string, string> = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', PRELUDE + source], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
      });
    }
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const said = output.stdout.split('\n').filter(Boolean);
      resolve({ code, signal, stderr: output.stderr, said: said.map((line) => JSON.parse(line)) });
    });
  });
}
