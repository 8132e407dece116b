import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { Charsmap } from '../../dist/tokenizer/sentencepiece/charsmap.js';
import { readModelProto } from '../../dist/tokenizer/sentencepiece/model-proto.js';
import { compileCharsmap } from '../../dist/tokenizer/training/unigram/charsmap-writer.js';
import { nmtNfkcRules } from '../../dist/tokenizer/training/unigram/nfkc-rules.js';

/** What a map makes of exactly this text; undefined if it has no rule for it. */
function apply(map: Charsmap, text: string): string | undefined {
  const bytes = Buffer.from(text);
  const match = map.longestMatch(bytes, 0, bytes.length);
  return match?.[1] === bytes.length ? match[0] : undefined;
}

/** SentencePiece's own rules, from a model that it has made. */
const THEIRS = new Charsmap(
  readModelProto(readFileSync(new URL('./fixtures/sentencepiece/unigram-nmt-nfkc.model', import.meta.url))).normalizer
    .charsmap,
);
const RULES = nmtNfkcRules();
const OURS = new Charsmap(compileCharsmap(RULES));

/** Characters that Unicode got after SentencePiece's tables were made; it changes normal forms of no others. */
const NEWER = /[\u0344\ua7f1-\ua7f4\u{10780}-\u{107bf}\u{1ccd6}-\u{1ccf9}\u{1e030}-\u{1e06d}]/u;

t.test('nmt_nfkc: every character becomes what SentencePiece makes of it', async (t) => {
  const wrong: string[] = [];
  for (let codePoint = 1; codePoint < 0x30000; codePoint++) {
    if (codePoint >= 0xd800 && codePoint < 0xe000) continue;
    const character = String.fromCodePoint(codePoint);
    if (!NEWER.test(character) && OURS.single(codePoint) !== THEIRS.single(codePoint)) wrong.push(character);
  }
  t.same(wrong, []);
});

t.test('nmt_nfkc: sequences that compose', async (t) => {
  const sequences = [...RULES].filter(([source]) => [...source].length > 1);
  t.same(
    sequences.filter(([source, target]) => source.normalize('NFKC') !== target),
    [],
    'as Unicode has them',
  );
  const missing: string[] = [];
  for (let codePoint = 1; codePoint < 0x30000; codePoint++) {
    if (codePoint >= 0xd800 && codePoint < 0xe000) continue;
    const parts = String.fromCodePoint(codePoint).normalize('NFD');
    const theirs = apply(THEIRS, parts);
    if (theirs !== undefined && apply(OURS, parts) !== theirs) missing.push(parts);
  }
  t.same(missing, [], 'all that SentencePiece has for characters taken apart');
  for (const [source, target] of [
    ['か\u3099', 'が'],
    ['ｶﾞ', 'ガ'],
    ['e\u0301', 'é'],
    ['A\u0302\u0301', 'Ấ'],
    ['\u1112\u1161\u11ab', '한'],
    ['㍿', '株式会社'],
    ['～', undefined],
    ['\u0007', ''],
    ['\u200b', ' '],
  ] as const) {
    t.equal(apply(OURS, source), target, source);
  }
});

t.test('any rules can be looked up, and nothing else', async () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'é', 'あ', 'い', '𠮷', '😀'), minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 40 }), text, (pairs, other) => {
      const rules = new Map(pairs);
      const map = new Charsmap(compileCharsmap(rules));
      return (
        [...rules].every(([source, target]) => apply(map, source) === target) && apply(map, other) === rules.get(other)
      );
    }),
    { numRuns: 500 },
  );
});

t.test('what newer releases of SentencePiece ask of the array', async (t) => {
  const blob = compileCharsmap(RULES);
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const size = view.getUint32(0, true) / 4;
  t.equal(size % 256, 0);
  const unit = (index: number) => view.getUint32(4 + 4 * index, true);
  const isLeaf = (value: number) => value >= 2 ** 31;
  const offset = (value: number) => (value >>> 10) << ((value & 0x200) >>> 6);
  t.ok(offset(unit(0)) > 0 && offset(unit(0)) < 512, 'the root has an offset');
  const texts = blob.length - 4 - 4 * size;
  let bad = 0;
  for (let index = 0; index < size; index++) {
    const value = unit(index);
    if (isLeaf(value)) bad += Number(value - 2 ** 31 >= texts);
    else {
      const children = index ^ offset(value);
      bad += Number((children | 0xff) >= size);
      if ((value & 0x100) !== 0) bad += Number(!isLeaf(unit(children)));
    }
  }
  t.equal(bad, 0);
});
