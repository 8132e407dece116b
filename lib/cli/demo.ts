import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { GPT2 } from '../model/gpt2.js';
import { printable } from '../report/words.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { checkRunFolder, holdsRun } from '../train/run-folder.js';
import { OptionReader } from '../validate.js';
import { PACKAGE_ROOT } from '../version.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { inManyOrders, readDemoTexts } from './demo-text.js';
import { DEMO_OPTIONS, flagOf, parseFlags, readOptions } from './options.js';
import { shellWord } from './shell.js';
import { runTrain } from './train.js';

interface DemoArguments {
  out?: string;
  maxSteps: number;
  device: string;
  threads?: number;
}

/** A model that learns these few pages by heart in about two minutes on two cores. */
const MODEL = { nLayer: 2, nHead: 6, nEmbd: 192, blockSize: 64 };
const TRAINING = { batchSize: 8, lr: 4e-3, evalEvery: 1000, saveEvery: 1000 };

const LESSON = `So few pages are learned by heart: the loss on them falls, and that on the articles kept aside
(validation) rises again. With some megabytes of text both fall.`;

/** How often the text stands in the file that is trained on: a little more than the run reads. */
const PASSES = 52;

/** Beginnings that the model continues before and after. */
const PROMPTS = ['Everyone has the right to', 'すべて人は、'];
const SAMPLING = { maxNewTokens: 48, temperature: 0.5, topK: 50, seed: 1 };

export const demo: Command = {
  summary: 'trains a small model on real text in eight languages, in about two minutes',
  usage: 'demo [options]',
  options: DEMO_OPTIONS,
  examples: [],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, DEMO_OPTIONS), flagOf);
    const options = readOptions(reader, DEMO_OPTIONS, 'demo') as unknown as DemoArguments;
    reader.finish('The options of kotodama demo are not valid');

    const out = options.out ?? freeFolder();
    await checkRunFolder(out, false);
    const { languages, files } = writeTexts(out);
    const tokenizerFolder = join(PACKAGE_ROOT, 'demo', 'tokenizer');
    say(`The text: the Universal Declaration of Human Rights in ${languages.join(', ')}.`);
    say('\nBefore training the model writes noise:');
    await showSamples(await untrained(tokenizerFolder, options), tokenizerFolder);

    const flags = toFlags({
      ...files,
      tokenizer: relative('', tokenizerFolder),
      out,
      ...MODEL,
      ...TRAINING,
      maxSteps: options.maxSteps,
      ...(options.device !== 'auto' && { device: options.device }),
      ...(options.threads !== undefined && { threads: options.threads }),
    });
    say(
      `\nThe training is this command (Ctrl-C saves and stops):\n  ${wrapped(['kotodama train', ...flags.map(shellWord)])}\n`,
    );
    const { end } = await runTrain(flags);
    if (end.reason === 'aborted') {
      say(`\nTo go on: npx kotodama train --resume --out ${shellWord(out)}`);
      return EXIT_INTERRUPTED;
    }
    say('\nNow the same beginnings go on like this:');
    await showSamples(await GPT2.fromPretrained(out, engine(options)), tokenizerFolder);
    const folder = shellWord(out);
    // A run that is cut short has no rise to show.
    if (end.best !== null && end.best.step < end.step) say(`\n${LESSON}`);
    say(`
What next:
  npx kotodama generate --model ${folder} --prompt "${PROMPTS[0]}"
  npx kotodama explain --model ${folder} --text "${PROMPTS[0]} peace."    (what it expects, what its heads look at)
  npx kotodama evaluate --model ${folder} --data ${shellWord(files.valid)}
  npx kotodama train --train YOUR.txt --tokenizer DIR --out runs/mine    (kotodama train --help)`);
    return 0;
  },
};

/** What a person reads goes where the progress goes. */
function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function freeFolder(): string {
  for (let number = 1; ; number++) {
    const name = join('runs', number === 1 ? 'demo' : `demo-${number}`);
    if (!holdsRun(name)) return name;
  }
}

/** Puts the texts into the run's folder, an article a line. */
function writeTexts(out: string): { languages: string[]; files: { train: string; valid: string } } {
  const { languages, train, valid } = readDemoTexts();
  const folder = join(out, 'text');
  mkdirSync(folder, { recursive: true });
  const write = (name: string, texts: string[]) => {
    const path = join(folder, name);
    // Lines are read without their ends, so the token that ends a text has to be written out.
    writeFileSync(path, texts.map((text) => `${text}<|endoftext|>\n`).join(''));
    return path;
  };
  return {
    languages,
    files: { train: write('train.txt', inManyOrders(train, PASSES, 0)), valid: write('valid.txt', valid) },
  };
}

function engine({ device, threads }: DemoArguments) {
  return { device, ...(threads !== undefined && { threads }) };
}

/** The model as training begins with it: weights depend on the seed alone. */
async function untrained(tokenizerFolder: string, options: DemoArguments): Promise<GPT2> {
  const { vocabSize, eosTokenId } = await Tokenizer.fromPretrained(tokenizerFolder);
  const { blockSize: nPositions, ...sizes } = MODEL;
  return GPT2.create({ vocabSize, nPositions, ...sizes, eosTokenId }, engine(options));
}

/** Lets a model go on from each prompt, and disposes of it. */
async function showSamples(model: GPT2, tokenizerFolder: string): Promise<void> {
  const tokenizer = await Tokenizer.fromPretrained(tokenizerFolder);
  try {
    for (const prompt of PROMPTS) {
      let text = '';
      for await (const piece of model.generate(prompt, { tokenizer, ...SAMPLING })) text += piece;
      say(`  | ${printable(`${prompt}${text}`.replaceAll(/\s+/g, ' '))}`);
    }
  } finally {
    await model.dispose();
  }
}

/** A command line over several lines, as a shell reads it. */
function wrapped(words: readonly string[]): string {
  const lines = [''];
  for (const word of words) {
    const line = lines.at(-1) as string;
    if (line.length + word.length > 96 && word.startsWith('--')) lines.push(`  ${word}`);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines.join(' \\\n  ');
}

function toFlags(options: { [name: string]: string | number }): string[] {
  return Object.entries(options).flatMap(([name, value]) => [flagOf(name), String(value)]);
}
