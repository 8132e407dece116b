import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StepEvent, TrainEvent } from '../../dist/train/events.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** The program. */
export const MAIN = join(ROOT, 'dist', 'cli', 'main.js');

/** The demo's tokenizer, 2048 ids. */
export const TOKENIZER = join(ROOT, 'demo', 'tokenizer');

/** How a program ended. */
export interface Outcome {
  /** null after a signal that nobody caught. */
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  cwd: string;
  /** Called when the program has been started. */
  onStart?: (child: ChildProcess) => void;
  /** Called with everything that stdout holds so far. */
  onOutput?: (stdout: string, child: ChildProcess) => void;
  /** The same of stderr. */
  onError?: (stderr: string, child: ChildProcess) => void;
  /** No file may grow beyond this many blocks of 512 bytes: a disk that is full. */
  fileBlocks?: number;
  /** The program runs in a terminal of its own, where stdout and stderr are one. */
  terminal?: boolean;
  /** Variables beside PATH and HOME. */
  env?: { [name: string]: string };
}

/** Runs `kotodama` with these words. */
export function kotodama(words: readonly string[], options: RunOptions): Promise<Outcome> {
  const { cwd, onStart, onOutput, onError, fileBlocks, terminal } = options;
  // NO_COLOR and coverage settings of the test runner are none of the program's business.
  const env: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: process.env.HOME, ...options.env };
  const command = [process.execPath, MAIN, ...words];
  if (fileBlocks !== undefined) {
    command.unshift('sh', '-c', `ulimit -f ${fileBlocks}; exec "$@"`, 'sh');
    // The signal at the limit would end the program; caught, it lets the write fail as on a full disk.
    env.NODE_OPTIONS = '--import=data:text/javascript,process.on(%22SIGXFSZ%22,()=%3E%7B%7D)';
  }
  if (terminal === true) {
    const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    command.splice(0, command.length, 'script', '--quiet', '--return', '--command', quoted, '/dev/null');
  }
  const child = spawn(command[0] as string, command.slice(1), { cwd, env });
  onStart?.(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    onOutput?.(stdout, child);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    onError?.(stderr, child);
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** A test's folder with `train.txt` and `valid.txt`: real sentences, some dozens of blocks of 16 tokens in the first. */
export function workplace(t: { testdir(): string }): string {
  const folder = t.testdir();
  const sentences = [
    'All human beings are born free and equal in dignity and rights.',
    'Everyone has the right to life, liberty and the security of person.',
    'すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。',
    'Toda persona tiene derecho a la vida, a la libertad y a la seguridad.',
  ];
  const lines = Array.from({ length: 36 }, (_, index) => `${index} ${sentences[(index * index) % 4]}`);
  writeFileSync(join(folder, 'train.txt'), `${lines.join('\n')}\n`);
  writeFileSync(join(folder, 'valid.txt'), `${sentences.join('\n')}\n`);
  return folder;
}

/** Words of `kotodama train` for a model that takes a few milliseconds a step. */
export function tinyTraining(out: string, more: { [flag: string]: string | number } = {}): string[] {
  const flags = {
    ...{ train: 'train.txt', tokenizer: TOKENIZER, out, device: 'cpu', threads: 1 },
    ...{ 'n-layer': 1, 'n-head': 2, 'n-embd': 16, 'block-size': 16, 'batch-size': 2, lr: 0.01 },
    ...more,
  };
  return ['train', '--json', ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)])];
}

/** The events of a `--json` run or of a metrics file. */
export function parseEvents(text: string): TrainEvent[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as TrainEvent);
}

export function readEvents(out: string): TrainEvent[] {
  return parseEvents(readFileSync(join(out, 'metrics.jsonl'), 'utf8'));
}

/** What must be equal whether a run was interrupted or not: everything but times. */
export function essence(events: readonly TrainEvent[]): unknown[] {
  const lasting = events.filter(({ type }) => type === 'step' || type === 'eval' || type === 'sample');
  return lasting.map((event) => {
    const {
      tokensPerSecond: _,
      dataWaitShare: __,
      stepSeconds: ___,
      updateSeconds: ____,
      ...rest
    } = event as StepEvent;
    return 'seconds' in rest ? { ...rest, seconds: undefined } : rest;
  });
}
