import fc from 'fast-check';
import t from 'tap';
import { IdBuffer } from '../../dist/tokenizer/id-buffer.js';
import type { ModelProto } from '../../dist/tokenizer/sentencepiece/model-proto.js';
import { buildAutomaton } from '../../dist/tokenizer/sentencepiece/piece-automaton.js';
import { PieceTrie } from '../../dist/tokenizer/sentencepiece/piece-trie.js';
import { PieceOutput } from '../../dist/tokenizer/sentencepiece/segmenter.js';
import { UnigramSegmenter, unigramTables } from '../../dist/tokenizer/sentencepiece/unigram.js';
import { printedSeed } from './helpers/seed.js';

const seed = printedSeed(t);
const [NORMAL, UNKNOWN, USER_DEFINED] = [1, 2, 4];

// Few characters, so that pieces are often found in each other and in a text; one needs two units, and two share their first.
const character = fc.constantFrom('a', 'b', 'c', 'か', '🐱', '🐶');
const word = fc.array(character, { minLength: 1, maxLength: 5 }).map((characters) => characters.join(''));
const texts = fc.array(character, { minLength: 1, maxLength: 30 }).map((characters) => characters.join(''));

t.test('the automaton finds the pieces that end at each unit, the longest first', async () => {
  fc.assert(
    fc.property(fc.uniqueArray(word, { minLength: 1, maxLength: 40 }), texts, (pieces, text) => {
      const trie = new PieceTrie(pieces.map((piece, id) => [piece, id]));
      const { codes, states, pieces: table } = buildAutomaton(trie, Float64Array.from(pieces.keys()));
      const [scores, links] = [new Float64Array(table), new Int32Array(table)];
      let state = 0;
      for (let i = 0; i < text.length; i++) {
        const code = codes[text.charCodeAt(i)] as number;
        let next = code;
        while (state !== 0) {
          next = states[4 * state] + code;
          if (states[4 * next + 1] === state) break;
          state = states[4 * state + 2];
          next = code;
        }
        const found: string[] = [];
        for (let piece = states[4 * next + 3]; piece !== 0; piece = links[4 * piece + 2]) {
          found.push(`${scores[2 * piece]} ${links[4 * piece + 3]}`);
        }
        const ending = pieces.filter((piece) => text.slice(0, i + 1).endsWith(piece));
        ending.sort((a, b) => b.length - a.length);
        if (found.join() !== ending.map((piece) => `${pieces.indexOf(piece)} ${piece.length}`).join()) return false;
        state = states[4 * next] < 0 ? ~states[4 * next] : next;
      }
      return true;
    }),
    { numRuns: 300, seed },
  );
});

const units = (text: string) => Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));

interface Piece {
  text: string;
  score: number;
  type: number;
}

/** `unigram::Model::EncodeOptimized` of SentencePiece 0.1.97, line by line, on characters; runs of unknown ones are one id 0. */
function reference(pieces: readonly Piece[], text: string): number[] {
  const characters = [...text];
  const indices = new Map(pieces.map((piece, index) => [piece.text, index]));
  const normal = pieces.filter(({ type }) => type === NORMAL).map(({ score }) => score);
  const unkScore = Math.fround(Math.min(...normal) - 10);
  const highest = Math.max(2 ** -126, ...normal);
  const best = characters.map(() => ({ score: 0, start: -1, id: 0 }));
  best.push({ score: 0, start: -1, id: 0 });
  for (let start = 0; start < characters.length; start++) {
    const here = best[start].score;
    let hasSingle = false;
    for (let end = start + 1; end <= characters.length; end++) {
      const found = characters.slice(start, end).join('');
      const index = indices.get(found);
      if (index === undefined) continue;
      const { type, score: own } = pieces[index];
      const score = type === USER_DEFINED ? Math.fround(Buffer.byteLength(found) * highest) - 0.1 : own;
      const candidate = score + here;
      if (best[end].start === -1 || candidate > best[end].score) {
        best[end] = { score: Math.fround(candidate), start, id: index + 1 };
      }
      hasSingle ||= end === start + 1;
    }
    const candidate = Math.fround(unkScore + here);
    if (!hasSingle && (best[start + 1].start === -1 || candidate > best[start + 1].score)) {
      best[start + 1] = { score: candidate, start, id: 0 };
    }
  }
  const ids: number[] = [];
  for (let end = characters.length; end > 0; end = best[end].start) ids.unshift(best[end].id);
  return ids.filter((id, index) => id !== 0 || ids[index - 1] !== 0);
}

t.test('the best path, ties and unknown characters included', async () => {
  // Few scores, so that many paths are equally good before rounding or after it.
  const score = fc.constantFrom(-1, -2, -3, -1.1, -2.2, -3.3, -0.1, -1e-9, -1e4).map(Math.fround);
  const piece = fc.record({ text: word, score, type: fc.constantFrom(NORMAL, NORMAL, NORMAL, USER_DEFINED) });
  const first: Piece = { text: 'b', score: -2, type: NORMAL };
  fc.assert(
    fc.property(
      fc.uniqueArray(piece, { maxLength: 40, selector: ({ text }) => text }),
      fc.array(texts, { minLength: 1, maxLength: 3 }),
      (more, lines) => {
        const pieces = [first, ...more.filter(({ text }) => text !== first.text)];
        const model = {
          pieces: ['<unk>', ...pieces.map(({ text }) => text)],
          scores: Float32Array.of(0, ...pieces.map((own) => own.score)),
          types: Uint8Array.of(UNKNOWN, ...pieces.map(({ type }) => type)),
        } as ModelProto;
        const segmenter = new UnigramSegmenter(unigramTables(model, 0));
        const output = new PieceOutput(0, undefined);
        return lines.every((line) => {
          const ids = new IdBuffer();
          output.begin(ids);
          segmenter.segment(units(line), line.length, output);
          return ids.takeArray().join() === reference(pieces, line).join();
        });
      },
    ),
    { numRuns: 1000, seed },
  );
});
