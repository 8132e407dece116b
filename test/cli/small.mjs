// Stands in for `npx` and `npm` where the commands of the guides are tried: runs `kotodama` with sizes that take no time,
// and no script of npm, since the package is installed and CI itself runs its scripts; they only have to be there.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

const MODEL = { 'n-layer': 1, 'n-head': 2, 'n-embd': 16, 'block-size': 64 };
const STEPS = {
  'max-steps': 4,
  'warmup-steps': 1,
  'eval-every': 2,
  'sample-every': 2,
  'sample-tokens': 4,
  'save-every': 2,
  device: 'cpu',
};

/** Options of each command that a trial replaces; the last of two equal flags counts. */
function smaller(command, words) {
  switch (command) {
    case 'train-tokenizer':
      return { 'vocab-size': 400 };
    case 'train':
      // A run that goes on, or begins with another model, has its sizes already.
      if (words.includes('--resume')) return { 'max-steps': 6, device: 'cpu' };
      return words.includes('--init-from') ? { ...STEPS, 'block-size': 32 } : { ...MODEL, ...STEPS };
    case 'inspect-data':
      return { 'block-size': 64 };
    case 'generate':
      return { 'max-new-tokens': 4, device: 'cpu' };
    case 'evaluate':
    case 'explain':
      return { device: 'cpu' };
    case 'demo':
      return { 'max-steps': 2, device: 'cpu' };
    default:
      return {};
  }
}

function npx([program, command, ...words]) {
  if (program !== 'kotodama') throw new Error(`npx ${program}: only kotodama is there`);
  const flags = words.includes('--help') ? {} : smaller(command, words);
  const more = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  const { status, signal } = spawnSync(process.execPath, [MAIN, command, ...words, ...more], { stdio: 'inherit' });
  return status ?? (signal === null ? 1 : 128);
}

function npm([command, name]) {
  if (command === 'install' || command === 'rebuild') return 0;
  const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  const script = command === 'run' ? name : command;
  if (!Object.hasOwn(scripts, script)) throw new Error(`npm ${command} ${name ?? ''}: there is no such script`);
  return 0;
}

const [program, ...words] = process.argv.slice(2);
process.exitCode = program === 'npx' ? npx(words) : npm(words);
