import fc from 'fast-check';
import t from 'tap';
import { StopFilter, TextStream } from '../../dist/model/text-stream.js';
import { type JsonObject, Tokenizer, type TokenizerModel } from '../../dist/tokenizer/index.js';

/** One id per byte, plus 256: a special token. */
const bytes = {
  vocabSize: 257,
  bosTokenId: undefined,
  eosTokenId: 256,
  padTokenId: undefined,
  unkTokenId: undefined,
  encode: (text: string) => [...Buffer.from(text)],
  decode: (ids: ArrayLike<number>) => Buffer.from(Array.from(ids).filter((id) => id < 256)).toString('utf8'),
};

/** Words with a mark for the space before them, which decoding drops at the beginning, as SentencePiece does. */
const WORDS = ['▁a', '▁b', 'c'];
const words = {
  ...bytes,
  decode: (ids: ArrayLike<number>) =>
    Array.from(ids, (id) => WORDS[id])
      .join('')
      .replaceAll('▁', ' ')
      .replace(/^ /, ''),
};

function pieces(tokenizer: TokenizerModel, prompt: number[], ids: number[]): string[] {
  const stream = new TextStream(tokenizer, prompt);
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

t.test('whole characters only, whatever the bytes', async (t) => {
  const property = fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (prompt, text) => {
    // A real U+FFFD looks like a broken character; it is held until more text comes, and up to three are lost at the very end.
    fc.pre(!prompt.includes('\uFFFD') && !text.includes('\uFFFD'));
    const found = pieces(bytes, bytes.encode(prompt), bytes.encode(text));
    return found.join('') === text && found.every((piece) => [...piece].every((c) => !/[\uD800-\uDFFF]/u.test(c)));
  });
  t.doesNotThrow(() => fc.assert(property));
});

t.test('an incomplete character at the end is left out, a broken one in the middle is shown', async (t) => {
  const [first, second, third] = bytes.encode('魂');
  t.same(pieces(bytes, [], [65, first, second]), ['A', '', '', '']);
  t.same(pieces(bytes, [], [first, second, third, 65]), ['', '', '魂', 'A', '']);
  t.equal(pieces(bytes, [], [first, 65, 66]).join(''), '\uFFFDAB');
});

/** As SentencePiece decodes: a U+FFFD for each byte that belongs to no character. */
const single = {
  ...bytes,
  decode: (ids: ArrayLike<number>) => {
    const given = Array.from(ids).filter((id) => id < 256);
    let text = '';
    for (let start = 0; start < given.length; ) {
      const length = [1, 2, 3, 4].find((size) => {
        const character = Buffer.from(given.slice(start, start + size)).toString('utf8');
        return !character.includes('\uFFFD') && [...character].length === 1;
      });
      text += length === undefined ? '\uFFFD' : Buffer.from(given.slice(start, start + length)).toString('utf8');
      start += length ?? 1;
    }
    return text;
  },
};

t.test('of any bytes no more is held than may become a character', async (t) => {
  const [lead, follow, letter, character] = [
    fc.integer({ min: 0xc0, max: 255 }),
    fc.integer({ min: 0x80, max: 0xbf }),
    fc.constant(97),
    fc.constantFrom(...bytes.encode('魂🎴')),
  ];
  const ids = fc.array(fc.oneof(lead, follow, letter, character, fc.constant(256)), { maxLength: 60 });
  for (const tokenizer of [bytes, single]) {
    const property = fc.property(ids, (ids) => {
      const stream = new TextStream(tokenizer, []);
      let found = '';
      for (const [index, id] of ids.entries()) {
        found += stream.push(id);
        const whole = tokenizer.decode(ids.slice(0, index + 1));
        if (!whole.startsWith(found) || !/^\uFFFD{0,3}$/.test(whole.slice(found.length))) return false;
      }
      return found + stream.end() === tokenizer.decode(ids).replace(/\uFFFD{1,3}$/, '');
    });
    t.doesNotThrow(() => fc.assert(property));
  }
});

/** A tokenizer of these tokens, of which the first is special. */
function decoding(decoder: JsonObject, tokens: readonly string[]): Tokenizer {
  return Tokenizer.fromJson({
    model: {
      type: 'WordLevel',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      unk_token: tokens[0],
    },
    added_tokens: [{ id: 0, content: tokens[0], special: true }],
    decoder,
  });
}

const FALLBACK = decoding(
  {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  ['</s>', '▁a', 'b', '▁', '猫', '<0xE7>', '<0x8C>', '<0xAB>', '<0xF0>', '<0x0A>'],
);
/** Of each kind of decoder one, with tokens whose texts depend on those beside them. */
const DECODERS: Readonly<Record<string, Tokenizer>> = {
  'byte-level': decoding({ type: 'ByteLevel' }, ['</s>', 'Ġa', 'b', 'Ġ', 'çĮ', '«', 'ç', 'Į', 'ð', 'Ċ']),
  'byte fallback': FALLBACK,
  Metaspace: decoding({ type: 'Metaspace', replacement: '▁' }, ['</s>', '▁a', 'b', '▁', '▁▁', '猫']),
  WordPiece: decoding({ type: 'WordPiece', prefix: '##', cleanup: true }, ['</s>', 'a', '##b', '.', '!', "'s", "n't"]),
};

t.test('whatever decodes them, pieces together are the text of all ids', async (t) => {
  for (const [name, tokenizer] of Object.entries(DECODERS)) {
    // Special tokens in long rows, too.
    const id = fc.oneof(
      fc.nat(tokenizer.vocabSize - 1).map((id) => [id]),
      fc.nat(30).map((count) => Array(count).fill(0)),
    );
    const ids = fc.array(id, { maxLength: 60 }).map((found) => found.flat());
    const property = fc.property(ids, ids, (prompt, more) => {
      const before = tokenizer.decode(prompt, { skipSpecialTokens: true });
      // Nothing stays incomplete.
      const written = [...more, 1];
      const whole = tokenizer.decode([...prompt, ...written], { skipSpecialTokens: true });
      // A prompt is encoded text; bytes that follow may break one that is not.
      fc.pre(!before.endsWith('\uFFFD') && whole.startsWith(before));
      return pieces(tokenizer, prompt, written).join('') === whole.slice(before.length);
    });
    t.doesNotThrow(() => fc.assert(property, { numRuns: 300 }), name);
  }
});

t.test('a run of bytes is shown at its end, without a character that stayed incomplete', async (t) => {
  const [a, first, second, third, newline] = [1, 5, 6, 7, 9];
  t.same(pieces(FALLBACK, [], [first, second, third, first, second, third, a]), ['', '', '', '', '', '', '猫猫 a', '']);
  t.same(pieces(FALLBACK, [a], [newline, first, second, third, first]), ['', '', '', '', '', '\n猫']);
  t.same(pieces(FALLBACK, [a, first, second, third, first, second, third], [first, second, third, a]).join(''), '猫 a');
});

t.test('a model that writes nothing but lone bytes costs no more than another', async (t) => {
  let decoded = 0;
  const counting = {
    ...bytes,
    decode: (ids: ArrayLike<number>) => {
      decoded += ids.length;
      return bytes.decode(ids);
    },
  };
  const count = 2000;
  const found = pieces(
    counting,
    [],
    Array.from({ length: count }, () => 0xff),
  ).join('');
  t.equal(found, '\uFFFD'.repeat(count - 3));
  t.ok(decoded < 20 * count, `${decoded} ids were decoded`);
});

t.test('the space before the first word is kept after a prompt', async (t) => {
  t.same(pieces(words, [0], [1, 2, 0]), [' b', 'c', ' a', '']);
  t.same(pieces(words, [], [1, 0]), ['b', ' a', '']);
  const many = Array.from({ length: 100 }, (_, index) => index % 3);
  t.equal(pieces(words, [0], many).join(''), words.decode([0, ...many]).slice(1));
});

t.test('stop strings end the text wherever the pieces are cut', async (t) => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 20 });
  const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 }), { maxLength: 3 });
  const property = fc.property(letters, stops, fc.array(fc.nat(5)), (text, words, cuts) => {
    const filter = new StopFilter(words);
    let found = '';
    let position = 0;
    for (const cut of [...cuts, text.length]) {
      if (filter.stopped) break;
      found += filter.push(text.slice(position, position + cut));
      position += cut;
    }
    found += filter.end();
    // The stop string that is complete first wins: cutting letter by letter tells which that is.
    const ends = words.filter((word) => text.includes(word)).map((word) => text.indexOf(word));
    const expected = ends.length === 0 ? text : text.slice(0, Math.min(...ends));
    return filter.stopped
      ? ends.length > 0 && text.startsWith(found) && found.length >= expected.length
      : found === text;
  });
  t.doesNotThrow(() => fc.assert(property));
});

t.test('text that only resembles a stop string comes out in the end', async (t) => {
  const filter = new StopFilter(['END']);
  t.equal(filter.push('xE'), 'x');
  t.equal(filter.push('N'), '');
  t.equal(filter.push('x'), 'ENx');
  t.equal(filter.push('yEND!'), 'y');
  t.equal(filter.stopped, true);
  t.equal(filter.end(), '');
});
