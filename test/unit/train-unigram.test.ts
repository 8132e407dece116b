import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { Tokenizer } from '../../dist/tokenizer/index.js';
import {
  type TokenizerProgress,
  type TrainTokenizerOptions,
  trainTokenizer,
} from '../../dist/tokenizer/training/index.js';
import { CASES, declarations } from './fixtures/train-unigram/cases.mjs';
import { temporaryFolder } from './helpers/temporary-folder.js';

interface Expected {
  sha256: string;
  vocabSize: number;
  special: { bos: number; eos: number; pad: number; unk: number };
  ids: number[][];
  decoded: string[];
}

const read = (path: string) => JSON.parse(readFileSync(new URL(`./fixtures/${path}`, import.meta.url), 'utf8'));
const EXPECTED = read('train-unigram/expected.json') as { [name: string]: Expected };
const TEXTS = read('sentencepiece/texts.json') as string[];
const TEXT: string[] = declarations();

for (const [name, options] of Object.entries(CASES as { [name: string]: Partial<TrainTokenizerOptions> })) {
  t.test(`${name}: SentencePiece makes the same of the model as we do`, async (t) => {
    const expected = EXPECTED[name] as Expected;
    const vocabSize = options.vocabSize as number;
    const trained = await trainTokenizer({ texts: TEXT, type: 'unigram', ...options, vocabSize });
    t.equal(trained.vocabSize, vocabSize);
    t.equal(expected.vocabSize, vocabSize);
    const model = trained.files['spiece.model'] as Uint8Array;
    // The tables of nmt_nfkc are the platform's; without them the file is the same everywhere.
    if (name === 'identity') t.equal(createHash('sha256').update(model).digest('hex'), expected.sha256);
    const folder = temporaryFolder();
    await trained.save(folder);
    t.same(readdirSync(folder).sort(), ['special_tokens_map.json', 'spiece.model', 'tokenizer_config.json']);
    const tokenizer = await Tokenizer.fromPretrained(folder);
    const { bosTokenId: bos, eosTokenId: eos, padTokenId: pad, unkTokenId: unk } = tokenizer;
    t.same({ bos, eos, pad, unk }, expected.special);
    t.equal(tokenizer.className, 'BertGenerationTokenizer');
    const wrong = TEXTS.filter((text, i) => tokenizer.encode(text).join() !== expected.ids[i].join());
    t.same(wrong, [], 'ids');
    const decoded = expected.ids.map((ids) => tokenizer.decode(ids, { skipSpecialTokens: true }));
    t.same(
      decoded.filter((text, i) => text !== expected.decoded[i]),
      [],
      'texts',
    );
    t.same(trained.tokenizer().encode(TEXT[5]), tokenizer.encode(TEXT[5]), 'it can be used at once');
  });
}

t.test('with pieces for bytes every text comes back', async (t) => {
  const options = { type: 'unigram', vocabSize: 600, normalizer: 'identity', byteFallback: true } as const;
  const trained = await trainTokenizer({
    texts: TEXT.slice(0, 60),
    characterCoverage: 0.9,
    addDummyPrefix: false,
    ...options,
  });
  const tokenizer = trained.tokenizer();
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      // Spaces at the ends and doubled ones go, and the mark that stands for a space becomes one.
      const plain = text.replaceAll('\u2581', ' ').replaceAll(/ +/g, ' ').replaceAll(/^ | $/g, '');
      return tokenizer.decode(tokenizer.encode(plain)) === plain;
    }),
    { numRuns: 300 },
  );
  t.notOk(TEXTS.some((text) => tokenizer.encode(text).includes(tokenizer.unkTokenId as number)));
});

t.test('the same texts give the same files; special tokens; fewer pieces than asked for', async (t) => {
  const make = (more: Partial<TrainTokenizerOptions> = {}) =>
    trainTokenizer({ texts: TEXT.slice(60, 90), type: 'unigram', vocabSize: 400, ...more });
  t.same((await make()).files, (await make()).files);
  const special = await make({ specialTokens: ['<cls>', '<sep>'] });
  t.same(special.tokenizer().vocabulary.tokens.slice(0, 6), ['<pad>', '<unk>', '<s>', '</s>', '<cls>', '<sep>']);
  const few = await trainTokenizer({ texts: ['ab ab'], type: 'unigram', vocabSize: 400 });
  t.ok(few.vocabSize < 12, String(few.vocabSize));
  const prefixed = await make();
  const bare = await make({ addDummyPrefix: false });
  const firstPiece = (trained: typeof bare) => {
    const tokenizer = trained.tokenizer();
    return tokenizer.vocabulary.tokens[tokenizer.encode('rights')[0]];
  };
  t.ok(firstPiece(prefixed)?.startsWith('\u2581'));
  t.notOk(firstPiece(bare)?.startsWith('\u2581'));
});

t.test('progress; an abort while reading and while learning', async (t) => {
  const events: TokenizerProgress[] = [];
  await trainTokenizer({ texts: TEXT, type: 'unigram', vocabSize: 900, onProgress: (event) => events.push(event) });
  const phases = [...new Set(events.map(({ phase }) => phase))];
  t.same(phases, ['count', 'prune']);
  const left = events.flatMap((event) => (event.phase === 'prune' ? [event.pieces] : []));
  t.ok(left.length > 4 && left[0] > (left.at(-1) as number));
  for (const phase of ['count', 'prune']) {
    const abort = new AbortController();
    const onProgress = (event: TokenizerProgress) => {
      if (event.phase === phase) abort.abort();
    };
    await t.rejects(
      trainTokenizer({ texts: TEXT, type: 'unigram', vocabSize: 900, signal: abort.signal, onProgress }),
      { code: 'ERR_ABORTED' },
      phase,
    );
  }
});

t.test('what onProgress throws ends the training, while reading and while learning', async (t) => {
  for (const phase of ['count', 'prune']) {
    const onProgress = (event: TokenizerProgress) => {
      if (event.phase === phase) throw new Error(`no more of ${phase}`);
    };
    await t.rejects(trainTokenizer({ texts: TEXT, type: 'unigram', vocabSize: 900, onProgress }), {
      message: `no more of ${phase}`,
    });
  }
});

t.test('what cannot be used', async (t) => {
  const rejects = (options: object, message: RegExp, code = 'ERR_OPTIONS') =>
    t.rejects(
      trainTokenizer({ texts: ['a b c'], type: 'unigram', vocabSize: 100, ...options } as TrainTokenizerOptions),
      { code, message },
      String(message),
    );
  await rejects({ vocabSize: 4 }, /vocabSize: expected at least 5/);
  await rejects({ vocabSize: 200, byteFallback: true }, /vocabSize: expected at least 261/);
  await rejects({ vocabSize: 7 }, /too small for the characters.*at least 8 ids: 4 special pieces and 4 characters/);
  await rejects({ minFrequency: 2 }, /minFrequency: expected nothing with the type unigram/);
  await rejects({ normalizer: 'nfd' }, /normalizer/);
  await rejects({ characterCoverage: 0 }, /characterCoverage/);
  await rejects({ characterCoverage: 1.5 }, /characterCoverage/);
  await rejects({ specialTokens: ['<s>'] }, /specialTokens: expected tokens that are not there already/);
  await rejects({ specialTokens: ['<0x41>'] }, /specialTokens/);
  await rejects({ specialTokens: ['a\0'] }, /specialTokens: expected tokens without NUL/);
  await rejects({ texts: [] }, /without text/, 'ERR_DATA');
  await rejects({ texts: ['', '  '] }, /without text/, 'ERR_DATA');
});
