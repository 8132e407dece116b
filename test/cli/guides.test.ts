// Every block of code in README.md and docs/ is tried, at sizes that take no time (small.mjs, guide.ts).
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readDemoTexts } from '../../dist/cli/demo-text.js';
import * as tables from '../../dist/cli/options.js';
import { flagOf } from '../../dist/cli/options.js';
import { trainTokenizerCommand } from '../../dist/cli/train-tokenizer.js';
import { GPT2, Tokenizer } from '../../dist/index.js';
import { startHub } from '../unit/helpers/hub-server.js';
import { blocksOf, brokenLinks, type GuideBlock, ROOT, Workshop } from './guide.js';

const GUIDES = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs')).flatMap((name) => (name.endsWith('.md') ? `docs/${name}` : [])),
];

/** Flags in the guides that are those of other programs. */
const FOREIGN = ['--quick', '--foreground-scripts', '--sample', '--logdir', '--module', '--target', '--types'];

const TABLES = [...Object.values(tables), trainTokenizerCommand.options].filter((table) => typeof table === 'object');
const FLAGS = new Set([
  '--help',
  '--version',
  ...FOREIGN,
  ...TABLES.flatMap((table) => Object.keys(table).map(flagOf)),
]);

/** What the guides take for granted: some text, and a tokenizer. */
function furnish(folder: string): void {
  mkdirSync(join(folder, 'data'));
  const { train, valid } = readDemoTexts();
  writeFileSync(join(folder, 'data/train.txt'), `${train.join('\n')}\n`);
  writeFileSync(join(folder, 'data/valid.txt'), `${valid.join('\n')}\n`);
  cpSync(join(ROOT, 'demo/tokenizer'), join(folder, 'tokenizer'), { recursive: true });
}

/** Tiny models under the names of large ones. */
async function publish(folder: string) {
  const tokenizers = {
    'openai-community/gpt2': join(ROOT, 'demo/tokenizer'),
    'colorfulscoop/gpt2-small-ja': join(folder, 'pieces'),
  };
  mkdirSync(join(folder, 'pieces'));
  cpSync(join(ROOT, 'test/unit/fixtures/sentencepiece/unigram-identity.model'), join(folder, 'pieces/spiece.model'));
  const repositories = [];
  for (const [name, source] of Object.entries(tokenizers)) {
    const tokenizer = await Tokenizer.fromPretrained(source);
    const { vocabSize } = tokenizer;
    const model = await GPT2.create({ vocabSize, nLayer: 1, nHead: 2, nEmbd: 16, nPositions: 32 }, { device: 'cpu' });
    const saved = join(folder, name);
    await model.savePretrained(saved, { tokenizer });
    await model.dispose();
    const files = Object.fromEntries(readdirSync(saved).map((file) => [file, readFileSync(join(saved, file))]));
    repositories.push([name, { revisions: { main: 'c'.repeat(40) }, files }]);
  }
  return startHub(Object.fromEntries(repositories));
}

for (const guide of GUIDES) {
  t.test(guide, async (t) => {
    const folder = t.testdir({ hub: {}, work: {} });
    await using hub = await publish(join(folder, 'hub'));
    const work = join(folder, 'work');
    furnish(work);
    const workshop = new Workshop(work, { HF_ENDPOINT: hub.endpoint, HF_HOME: join(folder, 'cache') });
    const blocks = blocksOf(guide);
    const fences = readFileSync(join(ROOT, guide), 'utf8').match(/^\s*(```|~~~)/gm) ?? [];
    t.equal(fences.length, 2 * blocks.length, 'every fence was understood');
    for (const block of blocks) {
      const { code, output } = await workshop.try(block);
      t.equal(code, 0, `${block.place}\n${code === 0 ? '' : output}`);
    }
  });

  t.test(`${guide}: links lead to files, and flags are known`, async (t) => {
    t.same(brokenLinks(guide), []);
    const used = readFileSync(join(ROOT, guide), 'utf8').match(/(?<![\w-])--[a-z][a-z0-9-]*/g) ?? [];
    t.same(
      [...new Set(used)].filter((flag) => !FLAGS.has(flag)),
      [],
    );
  });
}

t.test('any option may be undefined, also where exactOptionalPropertyTypes is on', async (t) => {
  const code = `
    import { type GenerateSamplesOptions, type GPT2ConfigInput, type JsonObject, type ModelOptions } from 'kotodama';
    import { type ProgressOptions, type StepOptions, type TrainTokenizerOptions } from 'kotodama';
    const none = undefined;
    export const generate: Omit<GenerateSamplesOptions, 'tokenizer'> = {
      ...{ temperature: none, topK: none, topP: none, minP: none, repetitionPenalty: none, seed: none, stop: none },
      ...{ maxNewTokens: none, eosTokenId: none, int8: none, signal: none, numSamples: 1 },
    };
    export const model: ModelOptions = { device: none, precision: none, stochasticRounding: none, seed: none, threads: none };
    export const config: GPT2ConfigInput = { vocabSize: 9, nLayer: none, residPdrop: none, eosTokenId: none };
    export const step: StepOptions = { learningRate: 1, betas: none, eps: none, weightDecay: none, maxGradNorm: none };
    export const progress: ProgressOptions = { colour: none, unicode: none, interval: none, now: none };
    export const words: TrainTokenizerOptions = { files: none, vocabSize: 9, type: none, signal: none, onProgress: none };
    export const json: JsonObject = {};
  `;
  const { code: status, output } = await new Workshop(t.testdir(), {}).try({
    ...{ place: '', language: 'ts', before: '' },
    code,
  });
  t.equal(status, 0, output);
});

t.test("README's command for Node 20 compiles a program", async (t) => {
  const work = t.testdir({ node_modules: {} });
  symlinkSync(ROOT, join(work, 'node_modules/kotodama'));
  symlinkSync(join(ROOT, 'node_modules/@types'), join(work, 'node_modules/@types'));
  const program = blocksOf('README.md').find(({ code }) => code.includes('process.stdout')) as GuideBlock;
  writeFileSync(join(work, 'NAME.mts'), program.code);
  const [, words = ''] = /`npx tsc ([^`]*)`/.exec(readFileSync(join(ROOT, 'README.md'), 'utf8')) ?? [];
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  // Types that are not Node's: since TypeScript 6 none are taken unless they are named.
  const made = spawnSync(process.execPath, [tsc, '--types', 'kotodama', ...words.split(' ')], {
    cwd: work,
    encoding: 'utf8',
  });
  t.equal(made.status, 0, made.stdout);
  t.ok(readdirSync(work).includes('NAME.mjs'));
});

t.test('the loop for files of Aozora Bunko leaves the text', async (t) => {
  const work = t.testdir({ novels: {}, data: {} });
  const block = blocksOf('docs/own-text.md').find(({ code }) => code.includes('novels/')) as GuideBlock;
  const rule = '-'.repeat(55);
  const novel = (title: string, ...text: string[]) =>
    [
      title,
      '夏目漱石',
      '',
      rule,
      '【記号】',
      '《》：ルビ',
      '（例）坊《ぼう》',
      rule,
      '',
      ...text,
      '',
      '底本：「全集」',
      '　1987年',
    ].join('\r\n');
  for (const [name, text] of Object.entries({
    'a b.txt': novel(
      '猫',
      '［＃８字下げ］一［＃「一」は中見出し］',
      '　吾輩《わがはい》は～\\猫《ねこ》である。名前は①｜一番《いちばん》',
    ),
    'c.txt': novel('門', '　※［＃「てへん＋劣」、第3水準1-84-77］る。'),
  })) {
    const made = spawnSync('iconv', ['-f', 'UTF-8', '-t', 'CP932'], { input: text });
    t.equal(made.status, 0, `${made.stderr}`);
    writeFileSync(join(work, 'novels', name), made.stdout);
  }
  const { code, output } = await new Workshop(work, {}).try({ ...block, before: '' });
  t.equal(code, 0, output);
  t.same(readFileSync(join(work, 'data/book.txt'), 'utf8').trimEnd().split('\n'), [
    ...['猫', '夏目漱石', '一', '　吾輩は～\\猫である。名前は①一番'],
    ...['門', '夏目漱石', '　※る。'],
  ]);
});
