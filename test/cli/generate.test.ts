import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { generate } from '../../dist/cli/generate.js';
import { Tokenizer, trainTokenizer } from '../../dist/index.js';
import { vulnerable } from '../model/vulnerable.js';
import { kotodama, TOKENIZER } from './program.js';

const cwd = t.testdir();
const tokenizer = await Tokenizer.fromPretrained(TOKENIZER);
const { vocabSize, bosTokenId, eosTokenId } = tokenizer;
const model = await vulnerable({ vocabSize, bosTokenId, eosTokenId, nPositions: 32 });
t.teardown(() => model.dispose());
await model.savePretrained(join(cwd, 'model'), { tokenizer });

const BASE = ['generate', '--model', 'model', '--device', 'cpu', '--threads', '1', '--prompt', 'Everyone'];
const run = (...words: string[]) => kotodama([...BASE, '--max-new-tokens', '20', ...words], { cwd });

/** Defaults of the command line. */
const SAMPLING = { tokenizer, temperature: 0.8, topK: 50 };

/** The text that the library writes with the options of the command line. */
async function text(seed: number, more: object = {}): Promise<string> {
  let all = '';
  const options = { ...SAMPLING, maxNewTokens: 20, seed, ...more };
  for await (const piece of model.generate('Everyone', options)) all += piece;
  return all;
}

t.test('one text, several, and as JSON', async (t) => {
  const [one, three, json] = await Promise.all([
    run('--seed', '4'),
    run('--seed', '4', '--num-samples', '3'),
    run('--seed', '4', '--num-samples', '17', '--json'),
  ]);
  const texts: string[] = [];
  for (let index = 0; index < 17; index++) texts.push(await text(4 + index));
  t.equal(one.code, 0, one.stderr);
  t.equal(one.stdout, `Everyone${texts[0]}\n`);
  t.equal(
    three.stdout,
    texts
      .slice(0, 3)
      .map((text) => `Everyone${text}\n`)
      .join(`\n${'-'.repeat(20)}\n`),
  );
  const objects = texts.map((text, index) => `${JSON.stringify({ prompt: 'Everyone', text, seed: 4 + index })}\n`);
  t.equal(json.stdout, objects.join(''));
});

t.test('an empty prompt begins at the beginning of a text', async (t) => {
  const words = ['generate', '--model', 'model', '--device', 'cpu', '--threads', '1', '--max-new-tokens', '20'];
  const [empty, none] = await Promise.all([kotodama([...words, '--prompt', ''], { cwd }), kotodama(words, { cwd })]);
  t.equal(empty.code, 0, empty.stderr);
  t.equal(empty.stdout, none.stdout);
});

t.test('a tokenizer that is not the one of the model is refused, by all that use both', async (t) => {
  writeFileSync(join(cwd, 'text.txt'), 'Everyone has the right to life, liberty and security of person.\n'.repeat(20));
  const other = await trainTokenizer({ files: [join(cwd, 'text.txt')], vocabSize: 280 });
  await other.save(join(cwd, 'other'));
  mkdirSync(join(cwd, 'bare'));
  for (const name of ['config.json', 'model.safetensors']) cpSync(join(cwd, 'model', name), join(cwd, 'bare', name));
  const wrong = ['--model', 'model', '--tokenizer', 'other'];
  const device = ['--device', 'cpu', '--threads', '1'];
  const refused = await Promise.all([
    run('--tokenizer', 'other'),
    kotodama(['evaluate', ...wrong, ...device, '--data', 'text.txt'], { cwd }),
    kotodama(['explain', ...wrong, ...device, '--text', 'Everyone'], { cwd }),
    kotodama(['export', ...wrong, '--format', 'safetensors', '--out', 'exported'], { cwd }),
  ]);
  for (const { code, stderr } of refused) {
    t.equal(code, 1);
    t.match(
      stderr,
      /^error ERR_TOKENIZER: The tokenizer is not that of model: token \d+: expected ".*leave --tokenizer out/s,
    );
  }
  const [own, same, bare] = await Promise.all([
    run(),
    run('--tokenizer', TOKENIZER),
    run('--model', 'bare', '--tokenizer', 'other'),
  ]);
  t.equal(same.code, 0, same.stderr);
  t.equal(same.stdout, own.stdout, 'from another folder');
  t.equal(bare.code, 0, bare.stderr);
});

t.test('every rule of sampling, and stop strings', async (t) => {
  const rules = ['--top-k', '0', '--top-p', '0.95', '--min-p', '0.001', '--repetition-penalty', '1.3'];
  const found = await run('--temperature', '1.2', ...rules);
  const more = { temperature: 1.2, topK: 0, topP: 0.95, minP: 0.001, repetitionPenalty: 1.3 };
  const whole = await text(0, more);
  t.equal(found.stdout, `Everyone${whole}\n`);
  const stop = whole.slice(8, 10);
  const stopped = await run('--temperature', '1.2', ...rules, '--stop', 'not there', stop);
  t.equal(stopped.stdout, `Everyone${whole.slice(0, whole.indexOf(stop))}\n`);
  const int8 = await run('--int8', '--seed', '4');
  t.equal(int8.stdout, `Everyone${await text(4, { int8: true })}\n`);
  t.not(int8.stdout, `Everyone${await text(4)}\n`);
  const ten = await run('--int8', '--seed', '4', '--num-samples', '10', '--json');
  const texts = ten.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).text);
  t.equal(texts.length, 10);
  t.equal(texts[0], await text(4, { int8: true }));
  t.equal(texts[9], await text(13, { int8: true }), 'however many are written together');
  const wrong = await run('--min-p', '2', '--repetition-penalty', '0', '--stop');
  t.match(wrong.stderr, /3 problems\n.*--min-p.*\n.*--repetition-penalty.*\n.*--stop/);
});

t.test('Ctrl-C ends a text', async (t) => {
  const words = [...BASE, '--max-new-tokens', '1000000', '--num-samples', '2'];
  let sent = false;
  const outcome = await kotodama(words, {
    cwd,
    onOutput: (stdout, child) => {
      if (!sent && stdout.length > 200) sent = child.kill('SIGINT');
    },
  });
  t.equal(outcome.code, 130, outcome.stderr);
  t.equal(outcome.stderr, '');
  // Wherever it was cut, also after a newline of its own.
  const written = outcome.stdout.length - 1;
  let whole = 'Everyone';
  for await (const piece of model.generate('Everyone', { ...SAMPLING, maxNewTokens: 1_000_000, seed: 0 })) {
    whole += piece;
    if (whole.length >= written) break;
  }
  t.equal(outcome.stdout, `${whole.slice(0, written)}\n`, 'and its line');
});

t.test('on a terminal control characters are pictures', async (t) => {
  const prompt = 'a\u001b]0;title\u0007\tb\n';
  const words = ['--model', join(cwd, 'model'), '--device', 'cpu', '--threads', '1', '--max-new-tokens', '200'];
  /** What is written to a terminal, or to something else. */
  const written = async (isTTY: boolean, ...more: string[]) => {
    const { stdout } = process;
    const before = { write: stdout.write, isTTY: stdout.isTTY };
    let all = '';
    const write = (text: string) => {
      all += text;
      return true;
    };
    Object.assign(stdout, { write, isTTY });
    try {
      await generate.run([...words, '--prompt', prompt, ...more]);
    } finally {
      Object.assign(stdout, before);
    }
    return all;
  };
  const plain = await written(false, '--num-samples', '2');
  t.ok(plain.startsWith(prompt));
  const shown = await written(true, '--num-samples', '2');
  t.ok(shown.startsWith('a␛]0;title␇\tb\n'));
  t.notMatch(shown, /(?![\n\t])\p{Cc}/u);
  t.equal(shown.length, plain.length);
  t.equal(await written(true, '--json'), await written(false, '--json'));
});
