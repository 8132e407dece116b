import fc from 'fast-check';
import t from 'tap';
import { PackedTrie } from '../../dist/tokenizer/sentencepiece/packed-trie.js';
import { PieceTrie } from '../../dist/tokenizer/sentencepiece/piece-trie.js';

const packed = (texts: readonly string[]) => new PackedTrie(new PieceTrie(texts.map((text, id) => [text, id])));

/** The ids of all texts that `text` begins with, shortest first. */
function prefixes({ codes, edges, ids }: PackedTrie, text: string): number[] {
  const found: number[] = [];
  let node = codes[text.charCodeAt(0)] as number;
  for (let i = 1; ; i++) {
    const edge = edges[2 * node] as number;
    if ((edge & 1) === 1) found.push(ids[node] as number);
    if (i >= text.length) return found;
    const child = (edge >> 1) + (codes[text.charCodeAt(i)] as number);
    if (edges[2 * child + 1] !== node) return found;
    node = child;
  }
}

t.test('finds the texts that a text begins with, and no others', async () => {
  const letter = fc.constantFrom('a', 'b', 'c', 'か', '猫', '\ud83d', '\udc31');
  const word = fc.array(letter, { minLength: 1, maxLength: 6 }).map((letters) => letters.join(''));
  fc.assert(
    fc.property(fc.uniqueArray(word, { minLength: 1, maxLength: 60 }), word, (texts, text) => {
      const expected = texts.flatMap((known, id) => (text.startsWith(known) ? [[known.length, id] as const] : []));
      expected.sort(([a], [b]) => a - b);
      return prefixes(packed(texts), text).join() === expected.map(([, id]) => id).join();
    }),
    { numRuns: 300 },
  );
});

t.test('words of a language leave few places empty', async (t) => {
  // Syllables make many nodes with the same children, as words do.
  const syllables = ['か', 'き', 'く', 'さ', 'し', 'す', 'た', 'ち', 'つ', 'な', 'に', 'ぬ'];
  const texts = syllables.flatMap((a) => syllables.flatMap((b) => [a + b, ...syllables.map((c) => a + b + c)]));
  const trie = packed(texts);
  const nodes = 12 + 12 ** 2 + 12 ** 3;
  t.ok(trie.ids.length < 1.1 * nodes, `${trie.ids.length} places for ${nodes} nodes`);
  t.same(
    texts.map((text) => prefixes(trie, text).at(-1)),
    texts.map((_, id) => id),
  );
});

t.test('texts that would leave most places empty are refused', async (t) => {
  // Nodes with a thousand of 16,000 possible children each: no two of them fit between each other.
  let state = 1;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const texts = new Set<string>();
  for (let first = 0; first < 40; first++) {
    for (let i = 0; i < 1000; i++) texts.add(String.fromCharCode(0x4e00 + first, 0x5000 + random(16_000)));
  }
  t.throws(() => packed([...texts]), { name: 'KotodamaError', code: 'ERR_TOKENIZER' });
});
