import { writeFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { BlockDataset, type BlockDatasetOptions, IGNORED_LABEL } from '../../dist/data/index.js';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import {
  collect,
  folderOf,
  NUMBERS,
  numbers,
  resumeProblem,
  TOKENIZER_FOLDER,
  temporaryFile,
} from './helpers/blocks.js';

/** The definition: join all ids, take T of them and the T that begin one later, move on by T. */
function reference(texts: string[], blockSize: number, dropLast: boolean) {
  const ids = texts.flatMap((text) => NUMBERS.encode(text));
  const blocks = [];
  let start = 0;
  for (; start + blockSize + 1 <= ids.length; start += blockSize) {
    const end = start + blockSize;
    blocks.push({ inputIds: ids.slice(start, end), labels: ids.slice(start + 1, end + 1) });
  }
  const rest = ids.slice(start);
  if (!dropLast && rest.length > 1) {
    const pad = (list: number[], value: number) => [...list, ...new Array(blockSize - list.length).fill(value)];
    blocks.push({ inputIds: pad(rest, 999), labels: pad(rest.slice(1), IGNORED_LABEL) });
  }
  return blocks;
}

/** Texts of 0 to 9 numbers each. */
const someTexts = fc.array(
  fc.array(fc.nat(998), { maxLength: 9 }).map((ids) => ids.join(' ')),
  { maxLength: 12 },
);

t.test('blocks may be changed: inputs and labels share no memory, and neither do two blocks', async (t) => {
  const dataset = BlockDataset.fromTexts([numbers(0, 13)], { tokenizer: NUMBERS, blockSize: 4 });
  const found = [];
  for await (const block of dataset) {
    block.labels.fill(IGNORED_LABEL);
    found.push([...block.inputIds]);
    block.inputIds.fill(7);
  }
  t.same(found, [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9, 10, 11],
  ]);
});

t.test('blocks are those of the definition, from memory and from files, at every block size', async () => {
  await fc.assert(
    fc.asyncProperty(someTexts, fc.integer({ min: 1, max: 12 }), fc.boolean(), async (texts, blockSize, dropLast) => {
      const expected = reference(texts, blockSize, dropLast);
      fc.pre(expected.length > 0);
      const options: BlockDatasetOptions = { tokenizer: NUMBERS, blockSize, dropLast };
      const sources = [
        BlockDataset.fromTexts(texts, options),
        BlockDataset.fromFile(temporaryFile(`${texts.join('\n')}\n`), options),
      ];
      for (const source of sources) {
        for (let pass = 0; pass < 2; pass++) {
          if (JSON.stringify(await collect(source)) !== JSON.stringify(expected)) return false;
        }
      }
      return true;
    }),
    { numRuns: 60 },
  );
});

t.test('a pass that is stopped anywhere continues exactly, and so does the next epoch', async (t) => {
  await fc.assert(
    fc.asyncProperty(someTexts, fc.integer({ min: 1, max: 7 }), fc.boolean(), async (texts, blockSize, dropLast) => {
      fc.pre(reference(texts, blockSize, dropLast).length > 0);
      const options = { tokenizer: NUMBERS, blockSize, dropLast };
      const middle = Math.ceil(texts.length / 2);
      const parts = [texts.slice(0, middle), texts.slice(middle)].filter((part) => part.length > 0);
      const paths = parts.map((part) => temporaryFile(`${part.join('\r\n')}\r\n`));
      const problem =
        (await resumeProblem(() => BlockDataset.fromTexts(texts, options))) ??
        (await resumeProblem(() => BlockDataset.fromFile(paths, options)));
      if (problem !== undefined) t.comment(problem);
      return problem === undefined;
    }),
    { numRuns: 25 },
  );
});

t.test('real text and tokenizer: blocks join to what encoding each line gives, also over many chunks', async (t) => {
  const tokenizer = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
  const lines = Array.from(
    { length: 3000 },
    (_, i) => `Article ${i}. すべての人間は、${'自由 and equal, '.repeat(i % 7)}`,
  );
  const ids = lines.flatMap((line) => tokenizer.encode(line));
  const make = () => BlockDataset.fromFile(temporaryFile(lines.join('\n')), { tokenizer, blockSize: 128 });
  const blocks = await collect(make());
  t.equal(blocks.length, Math.floor((ids.length - 1) / 128));
  t.same(
    blocks.flatMap((block) => block.inputIds),
    ids.slice(0, blocks.length * 128),
  );
  t.same(
    blocks.flatMap((block) => block.labels),
    ids.slice(1, blocks.length * 128 + 1),
  );
  t.equal(await resumeProblem(make, [0, 1, Math.floor(blocks.length / 2), blocks.length]), undefined);
});

t.test('inputs and labels do not share memory', async (t) => {
  for await (const { inputIds, labels } of BlockDataset.fromTexts(['1 2 3'], { tokenizer: NUMBERS, blockSize: 2 })) {
    inputIds.fill(0);
    t.same([...labels], [2, 3]);
  }
});

t.test('a line that takes many chunks of ids', async (t) => {
  const text = numbers(0, 100_000);
  const dataset = BlockDataset.fromTexts(['5', text, '6'], { tokenizer: NUMBERS, blockSize: 1000 });
  const blocks = await collect(dataset);
  t.equal(blocks.length, 100);
  t.same(blocks[99]?.labels.at(-1), 99_999);
});

t.test('text that is too short says how many tokens there are and how many are needed', async (t) => {
  const read = (texts: string[], dropLast: boolean) =>
    collect(BlockDataset.fromTexts(texts, { tokenizer: NUMBERS, blockSize: 8, dropLast }));
  await t.rejects(read([numbers(0, 8)], true), { code: 'ERR_DATA', message: /at least 9 tokens, received 8 tokens/ });
  await t.resolves(read([numbers(0, 9)], true));
  await t.rejects(read(['7'], false), { code: 'ERR_DATA', message: /at least 2 tokens, received 1 token\b/ });
  await t.rejects(read([], true), { code: 'ERR_DATA', message: /received 0 tokens/ });
});

t.test('without a padding token the padding is 0', async (t) => {
  const tokenizer = { ...NUMBERS, padTokenId: undefined };
  const [block] = await collect(BlockDataset.fromTexts(['7 8'], { tokenizer, blockSize: 4, dropLast: false }));
  t.same(block, { inputIds: [7, 8, 0, 0], labels: [8, -100, -100, -100] });
});

t.test('when the texts fail, the blocks before come first', async (t) => {
  async function* failing() {
    yield '1 2 3 4 5';
    throw new Error('the line went dead');
  }
  const seen: number[][] = [];
  await t.rejects(async () => {
    for await (const block of BlockDataset.fromTexts(failing, { tokenizer: NUMBERS, blockSize: 2 })) {
      seen.push([...block.inputIds]);
    }
  }, /went dead/);
  t.same(seen, [
    [1, 2],
    [3, 4],
  ]);
});

t.test('a pass that is left has no influence on the next', async (t) => {
  const dataset = BlockDataset.fromTexts(['1 2 3 4 5 6 7'], { tokenizer: NUMBERS, blockSize: 2 });
  for await (const _ of dataset) break;
  const left = dataset.state();
  t.equal((await collect(dataset)).length, 3);
  dataset.restore(left);
  t.equal((await collect(dataset)).length, 2);
});

t.test('ids of a tokenizer from elsewhere are looked at', async (t) => {
  const blocks = (encode: (text: string) => unknown) => {
    const tokenizer = { ...NUMBERS, vocabSize: 3, encode: encode as () => number[] };
    return collect(BlockDataset.fromTexts(['a'], { tokenizer, blockSize: 2 }));
  };
  t.same(await blocks(() => [0, 1, 2]), await blocks(() => Int32Array.of(0, 1, 2)), 'any array of ids will do');
  const wrong = [
    ['a', 'b', 'c'],
    [0, 1, Number.NaN],
    [0, 1.5, 1],
    [0, 1, 3],
    [0, -1, 1],
    [0, 1, 2 ** 40],
    'abc',
    undefined,
  ];
  for (const ids of [...wrong, Promise.resolve([0, 1, 2])]) {
    await t.rejects(
      blocks(() => ids),
      { code: 'ERR_TOKENIZER', expected: /from 0 to below its vocabSize, 3/ },
    );
  }
});

t.test('options and states that cannot be used', async (t) => {
  const path = temporaryFile('1 2 3');
  const bad = [{ blockSize: 0 }, { blockSize: 1.5 }, { blockSize: 2, dropLast: 1 }, { blockSize: 2, blocksize: 2 }];
  for (const options of bad as BlockDatasetOptions[]) {
    t.throws(() => BlockDataset.fromTexts([], { ...options, tokenizer: NUMBERS }), { code: 'ERR_OPTIONS' });
  }
  const bare = { blockSize: 2 } as BlockDatasetOptions;
  t.throws(() => BlockDataset.fromTexts([], bare), { code: 'ERR_OPTIONS', message: /tokenizer/ });
  const options = { tokenizer: NUMBERS, blockSize: 2 };
  t.throws(() => BlockDataset.fromFile([], options), { code: 'ERR_OPTIONS' });
  t.throws(() => BlockDataset.fromFile(folderOf(path), options), { code: 'ERR_IO' });

  for (const given of [() => 'x', async () => ['1 2 3'], () => 5, () => undefined] as never[]) {
    await t.rejects(collect(BlockDataset.fromTexts(given, options)), {
      code: 'ERR_OPTIONS',
      message: /expected an iterable or async iterable of strings, received/,
    });
  }
  await t.rejects(collect(BlockDataset.fromTexts(['1 2 3'], options).tokens({ signal: 5 as never }) as never), {
    code: 'ERR_OPTIONS',
  });

  const files = BlockDataset.fromFile(path, options);
  const texts = BlockDataset.fromTexts(['1 2 3'], options);
  for (const state of [texts.state(), null, 3, [], {}, { kind: 'files', file: 0, offset: -1, skip: 0 }]) {
    t.throws(() => files.restore(state), { code: 'ERR_CHECKPOINT' });
  }
  texts.restore({ kind: 'texts', file: 0, offset: 0, skip: 4 });
  await t.rejects(collect(texts), { code: 'ERR_CHECKPOINT' });
  writeFileSync(path, 'x');
  files.restore({ kind: 'files', file: 0, offset: 2, skip: 0 });
  await t.rejects(collect(files), { code: 'ERR_CHECKPOINT' });
});
