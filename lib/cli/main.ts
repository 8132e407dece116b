#!/usr/bin/env node
import { KotodamaError, messageOf } from '../errors.js';
import { ioError } from '../files.js';
import { printable } from '../report/words.js';
import { nearest } from '../validate.js';
import { packageVersion } from '../version.js';
import { addTokensCommand } from './add-tokens.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { compare } from './compare.js';
import { dashboard } from './dashboard.js';
import { demo } from './demo.js';
import { doctor } from './doctor.js';
import { evaluate } from './evaluate.js';
import { explain } from './explain.js';
import { exportCommand } from './export.js';
import { generate } from './generate.js';
import { inspectData } from './inspect-data.js';
import { inTerminal, isReaderGone } from './interrupt.js';
import { describeOptions } from './options.js';
import { report } from './report.js';
import { tokenize } from './tokenize.js';
import { train } from './train.js';
import { trainTokenizerCommand } from './train-tokenizer.js';

const COMMANDS: Readonly<Record<string, Command>> = {
  'train-tokenizer': trainTokenizerCommand,
  'add-tokens': addTokensCommand,
  train,
  generate,
  evaluate,
  explain,
  export: exportCommand,
  report,
  dashboard,
  compare,
  'inspect-data': inspectData,
  tokenize,
  doctor,
  demo,
};

/** Bad usage, as most programs have it. */
const EXIT_USAGE = 2;

async function main(words: readonly string[]): Promise<number> {
  const [name, ...rest] = words;
  if (name === '--version' || name === '-v') return print(packageVersion());
  if (name === undefined || name === '--help' || name === '-h') return print(overview());
  if (name === 'help') {
    const [about] = rest;
    return print(about === undefined || about.startsWith('-') ? overview() : help(commandOf(about)));
  }
  const command = commandOf(name);
  if (rest.includes('--help') || rest.includes('-h')) return print(help(command));
  return command.run(rest);
}

/** @throws KotodamaError `ERR_OPTIONS` when there is none of this name */
function commandOf(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command !== undefined) return command;
  const close = nearest(name, Object.keys(COMMANDS));
  throw new KotodamaError('ERR_OPTIONS', `There is no command '${name}'`, {
    expected: Object.keys(COMMANDS).join(', '),
    hint: close === undefined ? 'kotodama --help shows what each one does' : `did you mean '${close}'?`,
  });
}

function overview(): string {
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  kotodama ${name.padEnd(17)}${summary}`);
  return `kotodama trains GPT-2 language models.\n\n${lines.join('\n')}\n\nkotodama COMMAND --help shows a command's options.`;
}

function help({ summary, usage, options, examples }: Command): string {
  const shown = examples.length === 0 ? '' : `\n\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`;
  return `kotodama ${usage}\n\n${summary}\n\nOptions [default]:\n${describeOptions(options)}${shown}`;
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

/** A person needs the message; whoever looks for a fault in kotodama sets KOTODAMA_DEBUG for the stack. */
function printError(error: unknown): number {
  const debug = process.env.KOTODAMA_DEBUG === '1' || !(error instanceof KotodamaError);
  const text = debug && error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
  // Names of files and of a hub's may hold anything.
  process.stderr.write(printable(`${error instanceof KotodamaError ? `error ${error.code}: ` : ''}${text}\n`));
  if (!(error instanceof KotodamaError)) return 1;
  return error.code === 'ERR_ABORTED' ? EXIT_INTERRUPTED : error.code === 'ERR_OPTIONS' ? EXIT_USAGE : 1;
}

// Node forgets that nohup ignores a closed terminal.
if (!inTerminal) process.on('SIGHUP', () => {});
process.stdout.on('error', (error) => {
  // Whoever listens too has something to save before the end.
  if (process.stdout.listenerCount('error') > 1) return;
  if (!isReaderGone(error)) process.exit(printError(ioError(error, 'The standard output cannot be written')));
  // `kotodama ... | head` closes the pipe early; that is no fault.
  process.exit(0);
});
// There is nowhere else to say so.
process.stderr.on('error', () => {});
process.exitCode = await main(process.argv.slice(2)).catch(printError);
