import type { Explanation } from '../../../dist/index.js';

/** Text that would do harm as markup. */
export const HOSTILE = '</script><script>window.harmed = true</script><img src=x onerror="window.harmed = true">';

/** An explanation of the given tokens whose numbers follow from their places: two layers of two heads. */
export function explanationOf(texts: readonly string[]): Explanation {
  const tokens = texts.map((text, index) => ({
    ...{ id: 100 + index, text, partial: text === '' },
    ...(index === 0
      ? { loss: null, probability: null, rank: null }
      : { loss: index, probability: Math.exp(-index), rank: index }),
    next: [
      { id: 101 + index, text: texts[index + 1] ?? HOSTILE, probability: 0.5 },
      { id: 7, text: ` other ${index}`, probability: 0.25 },
      { id: 8, text: '', probability: 0.0004 },
    ],
  }));
  const heads = [0, 1].flatMap((layer) => [0, 1].map((head) => ({ layer, head })));
  const attention = heads.map(({ layer, head }) => ({
    layer,
    head,
    // Head 0 looks at itself, head 1 at the first token with 0.8.
    weights: Float32Array.from(
      texts.flatMap((_, row) =>
        Array.from({ length: row + 1 }, (__, column) => {
          if (row === 0) return 1;
          if (head === 0) return column === row ? 1 : 0;
          return column === 0 ? 0.8 : column === row ? 0.2 : 0;
        }),
      ),
    ),
  }));
  const losses = tokens.slice(1).map((_, index) => index + 1);
  const loss = losses.length === 0 ? null : losses.reduce((sum, value) => sum + value, 0) / losses.length;
  return { tokens, loss, guessLoss: Math.log(2048), attention };
}
