import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import {
  type TokenizerProgress,
  type TrainedTokenizer,
  type TrainTokenizerOptions,
  trainTokenizer,
} from '../../dist/tokenizer/training/index.js';
import { temporaryFolder } from './helpers/temporary-folder.js';

interface Case {
  texts: string[] | null;
  vocabSize: number;
  minFrequency: number;
  merges: string[];
  tokens: number;
  /** Of the first texts. */
  ids: number[][];
}

const CASES = JSON.parse(
  readFileSync(new URL('./fixtures/train-tokenizer/merges.json', import.meta.url), 'utf8'),
) as Case[];

interface BpeModel {
  vocab: { [token: string]: number };
  merges: string[];
}

const BYTES = 256;

/** The content of its tokenizer.json. */
function jsonOf({ files }: TrainedTokenizer): { added_tokens: unknown; model: BpeModel } {
  return files['tokenizer.json'] as unknown as { added_tokens: unknown; model: BpeModel };
}

async function learn(texts: Iterable<string>, options: Partial<TrainTokenizerOptions> = {}): Promise<BpeModel> {
  const trained = await trainTokenizer({ texts, vocabSize: 1000, ...options });
  return jsonOf(trained).model;
}

/** Texts in which few letters make many ties and overlaps. */
const texts = fc.array(fc.string({ unit: fc.constantFrom('a', 'a', 'b', 'c', ' '), maxLength: 30 }), { maxLength: 8 });

t.test("the merges are those of Python's tokenizers, and so are the ids", async (t) => {
  let lines: string[] = [];
  for (const expected of CASES) {
    lines = expected.texts ?? lines;
    const { vocabSize, minFrequency } = expected;
    const trained = await trainTokenizer({ texts: lines, vocabSize, minFrequency });
    const { merges, vocab } = jsonOf(trained).model;
    t.same(merges, expected.merges);
    t.equal(trained.vocabSize, expected.tokens);
    t.equal(Object.keys(vocab).length, expected.tokens);
    const tokenizer = trained.tokenizer();
    // A different notion of white space when encoding is not the trainer's concern.
    const plain = expected.ids.map((ids, index) => ({ ids, text: lines[index] as string }));
    for (const { ids, text } of plain.filter(({ text }) => !/[\u0085\ufeff]/.test(text))) {
      t.same(tokenizer.encode(text), ids, text);
    }
  }
});

t.test('low, lower, newest, widest: worked out by hand', async (t) => {
  const words = { low: 5, lower: 2, newest: 6, widest: 3 };
  const lines = Object.entries(words).flatMap(([word, count]) => new Array<string>(count).fill(word));
  const { merges, vocab } = await learn(lines);
  t.same(merges, [
    'e s', // 9, as "s t" and the e of "we" is 8; e comes before s
    'es t', // 9: newest, widest
    'l o', // 7: low, lower; "o w" too, but l comes before o
    'lo w', // 7
    'e w', // 6: newest; "n e" and "w est" too, but e comes before n and w
    'n ew', // 6; "ew est" too, but ew is a younger token than n
    'new est', // 6
    'd est', // 3: widest; "w i" and "i d" too, but d comes first
    'i dest', // 3
    'w idest', // 3
    'e r', // 2: lower; "low e" too, but low is younger
    'low er', // 2
  ]);
  t.equal(vocab['<|endoftext|>'], 0);
  t.equal(vocab['!'], 1, 'bytes in the order of their characters');
  t.equal(vocab.es, 257);
  t.equal(vocab.lower, 268);
  t.same((await learn(lines, { minFrequency: 7 })).merges, merges.slice(0, 4), 'rarer pairs stay apart');
  t.same((await learn(lines, { vocabSize: 262 })).merges, merges.slice(0, 5), 'the vocabulary is full');
});

/** Byte-pair encoding in the plainest way: every count is taken anew for every merge. */
function slowMerges(lines: readonly string[], vocabSize: number, minFrequency: number): string[] {
  const words = lines.flatMap((line) =>
    Array.from(line.matchAll(/'s| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu), ([word]) => [
      ...word.replaceAll(' ', '\u0120'),
    ]),
  );
  // Ids are compared by their order: that of the characters first, then that of the merges.
  const order = [...new Set(words.flat())].sort();
  const merges: string[] = [];
  while (merges.length + BYTES + 1 < vocabSize) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const pair = `${word[i - 1]} ${word[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const place = (pair: string) => pair.split(' ').map((token) => order.indexOf(token)) as [number, number];
    const best = [...counts].sort(
      ([a, m], [b, n]) => n - m || place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1],
    )[0];
    if (best === undefined || best[1] < minFrequency) break;
    const [left, right] = best[0].split(' ') as [string, string];
    merges.push(best[0]);
    order.push(left + right);
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++)
        if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right);
    }
  }
  return merges;
}

t.test('the merges are those of the plainest implementation', () =>
  fc.assert(
    fc.asyncProperty(
      texts,
      fc.constantFrom(260, 270, 400),
      fc.constantFrom(1, 2, 3),
      async (lines, vocabSize, minFrequency) => {
        fc.pre(lines.some((line) => line !== ''));
        const { merges } = await learn(lines, { vocabSize, minFrequency });
        return merges.join() === slowMerges(lines, vocabSize, minFrequency).join();
      },
    ),
    { numRuns: 200 },
  ),
);

t.test('the same texts in any order give the same files', () =>
  fc.assert(
    fc.asyncProperty(
      texts.chain((lines) => fc.tuple(fc.constant(lines), fc.shuffledSubarray(lines, { minLength: lines.length }))),
      async ([lines, others]) => {
        fc.pre(lines.some((line) => line !== ''));
        const [a, b] = [
          await trainTokenizer({ texts: lines, vocabSize: 300 }),
          await trainTokenizer({ texts: others, vocabSize: 300 }),
        ];
        return JSON.stringify(a.files) === JSON.stringify(b.files);
      },
    ),
    { numRuns: 50 },
  ),
);

t.test('any text survives encoding and decoding', async (t) => {
  const lines = CASES[0]?.texts as string[];
  const trained = await trainTokenizer({ texts: lines, vocabSize: 800 });
  const tokenizer = trained.tokenizer();
  t.same([tokenizer.vocabSize, trained.vocabSize], [800, 800]);
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(...lines));
  fc.assert(
    fc.property(text, text, (a, b) => {
      const ids = tokenizer.encode(a + b);
      return tokenizer.decode(ids) === a + b && ids.every((id) => id >= 0 && id < 800);
    }),
    { numRuns: 500 },
  );
});

t.test('special tokens', async (t) => {
  const lines = ['low<|endoftext|>low low', '<|endoftext|><|endoftext|>low'];
  const trained = await trainTokenizer({ texts: lines, vocabSize: 300 });
  const tokenizer = trained.tokenizer();
  t.same([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.padTokenId], [0, 0, undefined]);
  t.same((await learn(lines)).merges, ['l o', 'lo w'], 'they are no text to learn from');
  t.same(tokenizer.encode('low<|endoftext|>low'), [258, 0, 258]);
  t.equal(tokenizer.decode([258, 0, 258], { skipSpecialTokens: true }), 'lowlow');

  const specialTokens = ['[a]', '[ab]', '[a][c]'];
  const several = await trainTokenizer({ texts: ['[a][c] ab[ab]'], vocabSize: 300, specialTokens, minFrequency: 1 });
  t.same(jsonOf(several).model.merges, ['a b', '\u0120 ab'], 'where one begins another, the longer');
  t.same(several.tokenizer().encode('[a][c][a][ab] ab'), [2, 0, 1, 260]);
  t.equal(several.tokenizer().eosTokenId, 0);

  const none = await trainTokenizer({ texts: ['low low'], vocabSize: 300, specialTokens: [] });
  t.same(jsonOf(none).added_tokens, []);
  t.equal(none.tokenizer().eosTokenId, undefined);
  t.equal(jsonOf(none).model.vocab['!'], 0);

  // U+0120 is how the alphabet of bytes writes a space.
  const alike = await learn([' a a a', ' ab ab'], { specialTokens: ['\u0120a'] });
  t.notOk(alike.merges.includes('\u0120 a'), 'no token gets the name of a special one');
  t.same(alike.merges, ['a b', '\u0120 ab']);
});

t.test('fewer tokens than asked for', async (t) => {
  const trained = await trainTokenizer({ texts: ['abc', 'ab'], vocabSize: 5000 });
  t.equal(trained.vocabSize, 258);
  t.same(jsonOf(trained).model.merges, ['a b']);
  t.equal((await trainTokenizer({ texts: ['a'], vocabSize: 257 })).vocabSize, 257, 'bytes alone');
});

t.test('files: saved, loaded, the same as from memory', async (t) => {
  const folder = temporaryFolder();
  const lines = CASES[0]?.texts as string[];
  const half = Math.floor(lines.length / 2);
  writeFileSync(join(folder, 'a.txt'), `${lines.slice(0, half).join('\n')}\n`);
  writeFileSync(join(folder, 'b.txt'), lines.slice(half).join('\r\n'));
  const files = [join(folder, 'a.txt'), join(folder, 'b.txt')];
  const fromFiles = await trainTokenizer({ files, vocabSize: 600 });
  const fromTexts = await trainTokenizer({ texts: lines, vocabSize: 600 });
  t.same(fromFiles.files, fromTexts.files);
  t.ok((await trainTokenizer({ files: files[0] as string, vocabSize: 600 })).vocabSize > 257);

  const records = lines.map((body) => JSON.stringify({ body }));
  writeFileSync(join(folder, 'c.jsonl'), records.join('\n'));
  const fromRecords = await trainTokenizer({ files: [join(folder, '*.jsonl')], textField: 'body', vocabSize: 600 });
  t.same(fromRecords.files, fromTexts.files, 'of JSON lines, the text alone');

  const out = join(folder, 'deep', 'tokenizer');
  await fromFiles.save(out);
  t.same(readdirSync(out).sort(), ['tokenizer.json', 'tokenizer_config.json']);
  const loaded = await Tokenizer.fromPretrained(out);
  const tokenizer = fromTexts.tokenizer();
  t.same(
    lines.map((line) => loaded.encode(line)),
    lines.map((line) => tokenizer.encode(line)),
  );
  await t.rejects(fromFiles.save(files[0] as string), { code: 'ERR_IO' });
});

t.test('a long text without spaces', async (t) => {
  const text = 'すべての人間は生まれながらにして自由であり'.repeat(20_000);
  const trained = await trainTokenizer({ texts: [text], vocabSize: 500 });
  const tokenizer = trained.tokenizer();
  t.equal(tokenizer.encode(text.slice(0, 2100)).length, 3, 'a hundred sentences: 64, 32 and 4');
  t.equal(tokenizer.decode(tokenizer.encode(text.slice(0, 1000))), text.slice(0, 1000));
});

t.test('lone surrogates count as U+FFFD', async (t) => {
  t.same(await learn(['\ud800a\udc00a']), await learn(['\ufffda\ufffda']));
});

t.test('progress', async (t) => {
  const events: TokenizerProgress[] = [];
  await trainTokenizer({ texts: ['low low', 'あ'], vocabSize: 300, onProgress: (event) => events.push(event) });
  const last = (phase: string) => events.filter((event) => event.phase === phase).at(-1);
  t.same(last('count'), { phase: 'count', bytes: 10, distinctWords: 3 });
  t.same(last('merge'), { phase: 'merge', tokens: 259, vocabSize: 300 });
  const order = events.map(({ phase }) => phase).join(' ');
  t.match(order, /^(count )+merge( merge)*$/);
});

t.test('abort: before, while reading, while learning', async (t) => {
  const aborted = { code: 'ERR_ABORTED' };
  await t.rejects(trainTokenizer({ texts: ['a'], vocabSize: 300, signal: AbortSignal.abort() }), aborted);

  let closed = false;
  function* endless() {
    try {
      for (let i = 0; ; i++) yield `line ${i}`;
    } finally {
      closed = true;
    }
  }
  const reading = new AbortController();
  // The timer is due only if the event loop gets its turn.
  setTimeout(() => reading.abort(), 1);
  await t.rejects(trainTokenizer({ texts: endless(), vocabSize: 300, signal: reading.signal }), aborted);
  t.ok(closed, 'the source is closed');

  const learning = new AbortController();
  const onProgress = ({ phase }: TokenizerProgress) => {
    if (phase === 'merge') learning.abort();
  };
  const { signal } = learning;
  const lines = Array.from({ length: 2000 }, (_, i) => `${i * i} ${(i ** 3).toString(36)}`);
  await t.rejects(trainTokenizer({ texts: lines, vocabSize: 3000, onProgress, signal }), aborted);
});

t.test('texts that cannot be used', async (t) => {
  const folder = temporaryFolder();
  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const rejects = (source: Partial<TrainTokenizerOptions>, code: string, message: RegExp) =>
    t.rejects(trainTokenizer({ vocabSize: 300, ...source }), { code, message }, String(message));
  await rejects({ texts: [] }, 'ERR_DATA', /without text/);
  await rejects({ texts: ['', ''] }, 'ERR_DATA', /without text/);
  await rejects({ texts: ['<|endoftext|>'] }, 'ERR_DATA', /without text/);
  await rejects({ texts: ['a', 1 as unknown as string] }, 'ERR_DATA', /not a string/);
  await rejects({ files: file('empty.txt', '') }, 'ERR_DATA', /empty/);
  await rejects({ files: file('lines.txt', '\n\n\r\n') }, 'ERR_DATA', /only empty texts in .*lines\.txt/);
  await rejects({ files: file('bad.txt', Uint8Array.of(0x61, 0xff)) }, 'ERR_DATA', /UTF-8/);
  await rejects({ files: join(folder, 'gone.txt') }, 'ERR_IO', /gone\.txt/);
  const bad = [
    file('bad.jsonl', '{"text":"low lower"}\n{"text":1}\nnot JSON\n{"text":"lowest"}\n'),
    file('bad-and-good.txt', Buffer.from('6c6f770aff0a6c6f770a', 'hex')),
  ];
  await rejects({ files: bad }, 'ERR_DATA', /bad\.jsonl, line 2/);
  const problems: string[] = [];
  const skipBad = ({ message }: Error) => problems.push(message);
  const rest = await trainTokenizer({ files: bad, vocabSize: 300, skipBad });
  t.match(problems, [/bad\.jsonl, line 2/, /bad\.jsonl, line 3/, /bad-and-good\.txt, line 2/]);
  const good = ['low lower', 'lowest', 'low', 'low'];
  t.same(rest.files, (await trainTokenizer({ texts: good, vocabSize: 300 })).files);
  t.same((await trainTokenizer({ files: bad, vocabSize: 300, skipBad: true })).files, rest.files);
  await rejects({ files: bad, skipBad: 1 as never }, 'ERR_OPTIONS', /skipBad: expected true, false or a function/);
  const broken = (function* () {
    yield 'a';
    throw new Error('broken source');
  })();
  await t.rejects(trainTokenizer({ texts: broken, vocabSize: 300 }), { message: 'broken source' });
});

t.test('options that cannot be used', async (t) => {
  const rejects = (options: object, message: RegExp) =>
    t.rejects(
      trainTokenizer({ texts: ['a'], ...options } as unknown as TrainTokenizerOptions),
      { code: 'ERR_OPTIONS', message },
      String(message),
    );
  await rejects({ vocabSize: 256 }, /vocabSize: expected at least 257: 256 bytes and the special tokens, received 256/);
  await rejects({ vocabSize: 300, specialTokens: Array.from({ length: 45 }, (_, i) => `<${i}>`) }, /at least 301/);
  await rejects({}, /vocabSize: expected an integer from 1 to 1000000, received nothing/);
  await rejects({ vocabSize: 300.5 }, /vocabSize/);
  await rejects({ vocabSize: 300, minFrequency: 0 }, /minFrequency: expected an integer of at least 1/);
  await rejects({ vocabSize: 300, specialTokens: ['<s>', '<s>'] }, /each token once/);
  await rejects({ vocabSize: 300, specialTokens: ['a'] }, /more than one character/);
  await rejects({ vocabSize: 300, specialTokens: [''] }, /specialTokens/);
  await rejects({ vocabSize: 300, vocabsize: 300 }, /did you mean vocabSize/);
  await rejects({ vocabSize: 300, type: 'word' }, /type: expected bpe or unigram|type/);
  await rejects({ vocabSize: 300, byteFallback: true }, /byteFallback: expected nothing with the type bpe/);
  await rejects({ vocabSize: 300, files: ['a.txt'] }, /one of the two, received 'both'/);
  await rejects({ vocabSize: 300, texts: undefined }, /one of the two, received 'neither'/);
  await rejects({ vocabSize: 300, texts: undefined, files: [] }, /at least one file/);
  for (const files of [5, null, [5], new URL('file:///a.txt'), Promise.resolve('a.txt')]) {
    await rejects({ vocabSize: 300, texts: undefined, files }, /files: expected a path, or a list of paths, received /);
  }
  await rejects({ vocabSize: 300, texts: 'a text' }, /iterable/);
  await rejects({ vocabSize: 300, textField: 'text' }, /textField: expected nothing without files/);
  await rejects({ vocabSize: 300, signal: 1 }, /AbortSignal/);
  await rejects({ vocabSize: 300, onProgress: 1 }, /a function/);
});
