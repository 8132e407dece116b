import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import {
  BlockDataset,
  type BlockOrigin,
  BufferedShuffleDataset,
  DataLoader,
  IGNORED_LABEL,
  Tokenizer,
} from '../../dist/index.js';
import type { TokenizerModel } from '../../dist/tokenizer/types.js';
import { collect, resumeProblem, TOKENIZER_FOLDER, temporaryFile } from './helpers/blocks.js';

const FIXTURES = fileURLToPath(new URL('./fixtures/sources', import.meta.url));

interface Pair {
  prompt: string;
  text: string;
}

/** Every UTF-16 unit is an id. */
const UNITS: TokenizerModel = {
  vocabSize: 65_536,
  bosTokenId: undefined,
  eosTokenId: 1,
  padTokenId: 2,
  unkTokenId: undefined,
  encode: (text) => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
  decode: (ids) => String.fromCharCode(...Array.from(ids)),
};

const jsonl = (pairs: readonly Pair[]) => pairs.map((pair) => `${JSON.stringify(pair)}\n`).join('');

const datasetOf = (content: string | Uint8Array, options: object = {}, name = 'a.jsonl') =>
  BlockDataset.fromFile(temporaryFile(content, name), {
    ...{ tokenizer: UNITS, blockSize: 12, promptField: 'prompt' },
    ...options,
  });

/**
 * The blocks that these pairs come to, by the words of the documentation. Each place of a block holds an id to read and an id
 * to foresee: what is read comes one place later than where it is foreseen.
 */
function expected(pairs: readonly Pair[], tokenizer: TokenizerModel, blockSize: number, end: readonly number[]) {
  const blocks: { ids: number[]; learned: boolean[] }[] = [];
  for (const { prompt, text } of pairs) {
    const asked = tokenizer.encode(prompt);
    const answered = [...tokenizer.encode(text), ...end];
    let last = blocks.at(-1);
    if (last === undefined || last.ids.length + asked.length + answered.length > blockSize + 1) {
      last = { ids: [], learned: [] };
      blocks.push(last);
    }
    last.ids.push(...asked, ...answered);
    last.learned.push(...asked.map(() => false), ...answered.map(() => true));
  }
  const places = Array.from({ length: blockSize }, (_, place) => place);
  return blocks.map(({ ids, learned }) => ({
    inputIds: places.map((place) => ids[place] ?? tokenizer.padTokenId ?? 0),
    labels: places.map((place) => (learned[place + 1] ? (ids[place + 1] as number) : IGNORED_LABEL)),
  }));
}

t.test('a block holds whole records, and only texts are learned', async (t) => {
  const pairs = [
    { prompt: '12?', text: 'ab' },
    { prompt: '3?', text: 'c' },
    { prompt: '45678?', text: 'defg' },
    { prompt: '', text: 'hi' },
  ];
  const unit = (text: string) => text.charCodeAt(0);
  const [end, pad, no] = [1, 2, IGNORED_LABEL];
  t.same(await collect(datasetOf(jsonl(pairs))), [
    {
      inputIds: [...'12?ab'].map(unit).concat(end, [...'3?c'].map(unit), end, pad, pad),
      labels: [no, no, ...[...'ab'].map(unit), end, no, no, unit('c'), end, no, no, no],
    },
    {
      inputIds: [...'45678?defg'].map(unit).concat(end, pad),
      labels: [no, no, no, no, no, ...[...'defg'].map(unit), end, no, no],
    },
    {
      inputIds: [...'hi'].map(unit).concat(end, ...Array.from({ length: 9 }, () => pad)),
      labels: [unit('i'), end, ...Array.from({ length: 10 }, () => no)],
    },
  ]);
});

t.test('any pairs, with and without an end of text, packed as the documentation says', async (t) => {
  const text = fc.string({ maxLength: 6 });
  const pair = fc.record({ prompt: text, text: fc.string({ minLength: 2, maxLength: 6 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(pair, { minLength: 1, maxLength: 30 }), fc.boolean(), async (pairs, ends) => {
      const eos = ends ? {} : { eos: 'none' };
      t.same(await collect(datasetOf(jsonl(pairs), eos)), expected(pairs, UNITS, 12, ends ? [1] : []));
    }),
    { numRuns: 60 },
  );
});

t.test('a real tokenizer, with workers, in any kind of file', async (t) => {
  const tokenizer = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
  const pairs = Array.from({ length: 2000 }, (_, i) => ({
    prompt: `${i} の次の数は？\n`,
    text: `${i + 1}です。${'はい。'.repeat(i % 7)}`,
  }));
  const options = { tokenizer, blockSize: 64 };
  const blocks = expected(pairs, tokenizer, 64, [tokenizer.eosTokenId as number]);
  t.same(await collect(datasetOf(jsonl(pairs), options)), blocks);
  t.same(await collect(datasetOf(gzipSync(jsonl(pairs)), options, 'a.jsonl.gz')), blocks);
  t.same(await collect(datasetOf(jsonl(pairs), options, 'no-ending')), blocks, 'a named field makes JSON lines of it');
  for (const numWorkers of [1, 3]) {
    const loader = new DataLoader(datasetOf(jsonl(pairs), options), { batchSize: 1, numWorkers });
    t.same(await collect(loader), blocks, `${numWorkers} workers`);
  }
});

t.test('Parquet: prompts and texts from two columns', async (t) => {
  const options = { tokenizer: UNITS, blockSize: 40, promptField: '言葉' };
  const rows = Array.from({ length: 60 }, (_, i) => ({
    prompt: `言霊${i}`,
    text: Array.from({ length: i % 5 }, (_, k) => (i * 7 + k) % 900).join(' '),
  }));
  const blocks = expected(rows, UNITS, 40, [1]);
  for (const name of ['zstd', 'none', 'pages']) {
    t.same(await collect(BlockDataset.fromFile(join(FIXTURES, `${name}.parquet`), options)), blocks, name);
  }
  const table = () => BlockDataset.fromFile(join(FIXTURES, 'zstd.parquet'), options);
  t.equal(await resumeProblem(table, [5]), undefined);

  const short: string[] = [];
  const skipBad = ({ message }: Error) => void short.push(message);
  const some = BlockDataset.fromFile(join(FIXTURES, 'zstd.parquet'), { ...options, blockSize: 15, skipBad });
  const fitting = rows.filter(({ prompt, text }) => prompt.length + text.length + 1 <= 16);
  t.same(await collect(some), expected(fitting, UNITS, 15, [1]));
  t.equal(short.length, 60 - fitting.length);
  t.match(
    short[0],
    /zstd\.parquet, row 15, does not fit into a block: expected at most 16 tokens, .* received 18, of which 4/,
  );
  t.equal(some.skipped, short.length);
  const resumed = () =>
    BlockDataset.fromFile(join(FIXTURES, 'zstd.parquet'), { ...options, blockSize: 15, skipBad: true });
  t.equal(await resumeProblem(resumed, [9]), undefined, 'places are right behind rows that were left out');

  const missing = BlockDataset.fromFile(join(FIXTURES, 'zstd.parquet'), { ...options, promptField: 'question' });
  await t.rejects(collect(missing), { code: 'ERR_DATA', message: /no column 'question'.*with --prompt-field/ });
});

t.test('a pass continues at the very next record, and shuffling takes the blocks as any others', async (t) => {
  const pairs = Array.from({ length: 40 }, (_, i) => ({ prompt: 'x'.repeat(i % 5), text: `${i}` }));
  const path = temporaryFile(jsonl(pairs), 'a.jsonl');
  const make = () => BlockDataset.fromFile([path, path], { tokenizer: UNITS, blockSize: 12, promptField: 'prompt' });
  t.equal(await resumeProblem(make), undefined);
  const shuffled = () => new BufferedShuffleDataset(make(), { bufferSize: 7, seed: 3 });
  t.equal(await resumeProblem(shuffled, [1, 4, 9]), undefined);
  const inOrder = (blocks: Awaited<ReturnType<typeof collect>>) => blocks.map((block) => JSON.stringify(block)).sort();
  t.same(inOrder(await collect(shuffled())), inOrder(await collect(make())));
  t.match(await make().identity(), { promptField: 'prompt', eos: 'document' });
  for await (const { origin } of make()) {
    t.match(await make().locate(origin as BlockOrigin), /a\.jsonl lines 1 to 3/);
    break;
  }
});

t.test('what is wrong is named with its line, and nothing is cut short', async (t) => {
  const fits = { prompt: '12345678', text: 'abcd' };
  const tooLong = { prompt: '12345678', text: 'abcde' };
  const content = jsonl([fits, tooLong, fits]);
  const blocks: unknown[] = [];
  const failing = (async () => {
    for await (const block of datasetOf(content)) blocks.push(block);
  })();
  await t.rejects(failing, {
    code: 'ERR_DATA',
    message: /a\.jsonl, line 2, does not fit into a block: expected at most 13 tokens, .* received 14, of which 8 are/,
    hint: /--skip-bad/,
  });
  t.equal(blocks.length, 0, 'the block before was not known to be full');
  const problems: string[] = [];
  const skipping = datasetOf(content, { skipBad: ({ message }: Error) => void problems.push(message) });
  t.same(await collect(skipping), expected([fits, fits], UNITS, 12, [1]));
  t.match(problems, [/line 2/]);
  t.equal(skipping.textBytes, 8, 'bytes of what is learned');

  const unnamed = datasetOf('{"question":"a","text":"b"}\n');
  await t.rejects(collect(unnamed), {
    code: 'ERR_DATA',
    message: /line 1, has no field 'prompt'.*'question'/,
    hint: /--prompt-field/,
  });
  const number = datasetOf('{"prompt":1,"text":"b"}\n');
  await t.rejects(collect(number), { code: 'ERR_DATA', message: /has no text in 'prompt'.*received 1/ });
  const textless = datasetOf('{"prompt":"a","answer":"b"}\n');
  await t.rejects(collect(textless), { code: 'ERR_DATA', message: /has no field 'text'/, hint: /--text-field/ });

  t.throws(() => datasetOf('a\n', {}, 'a.txt'), {
    code: 'ERR_OPTIONS',
    message: /a\.txt holds lines of text, and no prompts/,
  });
  t.throws(() => datasetOf(content, { promptField: 3 }), { code: 'ERR_OPTIONS', message: /promptField/ });
  t.throws(() => datasetOf(content, { tokenizer: { ...UNITS, eosTokenId: undefined } }), { message: /eos/ });
  const options: object = { tokenizer: UNITS, blockSize: 2, promptField: 'prompt' };
  t.throws(() => BlockDataset.fromTexts(['a'], options as never), { code: 'ERR_OPTIONS', message: /promptField/ });
  await t.rejects(datasetOf(content).tokens().next(), { code: 'ERR_OPTIONS', message: /promptField/ });
});
