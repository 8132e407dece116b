import { looks } from './details.js';
import { h } from './dom.js';
import { paint } from './picture.js';
import type { View } from './view.js';

/** Pixels a side of a head's small picture. */
const SMALL = 48;

/** What one head looks at, and the choice of it. */
export function attention(view: View): HTMLElement | undefined {
  const { heads } = view.data;
  if (heads.length === 0) return undefined;
  const name = h('h3', { id: 'looks' });
  view.onChange(() => {
    name.textContent = `What ${nameOf(view, view.head)} looks at`;
  });
  return h(
    'section',
    { class: 'card attention', 'aria-labelledby': 'looks' },
    h('div', { class: 'column' }, name, looks(view), heads.length > 1 ? choice(view) : undefined),
    matrix(view),
  );
}

function nameOf({ data }: View, index: number): string {
  const { layer, head } = data.heads[index] ?? { layer: 0, head: 0 };
  return `layer ${layer}, head ${head}`;
}

/** All heads as small pictures, a row for each layer. */
function choice(view: View): HTMLElement {
  const { heads, tokens } = view.data;
  const layers = [...new Set(heads.map(({ layer }) => layer))];
  const columns = heads.length / layers.length;
  const canvases: HTMLCanvasElement[] = [];
  const cells = heads.flatMap(({ layer, head }, index) => {
    const canvas = h('canvas', { 'aria-hidden': 'true' });
    canvases.push(canvas);
    const input = h('input', {
      type: 'radio',
      name: 'head',
      class: 'unseen',
      'aria-label': nameOf(view, index),
      change: () => view.chooseHead(index),
    });
    input.checked = index === view.head;
    const picture = h('label', { class: 'head', title: `layer ${layer}, head ${head}` }, input, canvas);
    return index % columns === 0
      ? [h('span', { class: 'layer', 'aria-hidden': 'true' }, String(layer)), picture]
      : [picture];
  });
  const grid = h('div', { class: 'heads' }, ...cells);
  grid.style.setProperty('--columns', String(columns));
  onScheme(() => {
    for (const [index, canvas] of canvases.entries()) paint(canvas, view.weights(index), tokens.length, SMALL);
  });
  return h('fieldset', { class: 'choice' }, h('legend', {}, 'Layers (rows) and heads (columns)'), grid);
}

/** The weights of the shown head, with the shown token's row marked. */
function matrix(view: View): HTMLElement {
  const { length } = view.data.tokens;
  const canvas = h('canvas', { role: 'img' });
  const row = h('div', { class: 'row', 'aria-hidden': 'true' });
  const rowAt = ({ offsetY }: PointerEvent) =>
    Math.max(0, Math.min(length - 1, Math.floor((offsetY / canvas.clientHeight) * length)));
  canvas.addEventListener('pointermove', (event) => {
    if (event.pointerType === 'mouse') view.show(rowAt(event));
  });
  canvas.addEventListener('pointerleave', () => view.show());
  canvas.addEventListener('click', (event) => view.choose(rowAt(event as PointerEvent)));
  let painted = -1;
  const draw = () => {
    paint(canvas, view.weights(), length, length);
    painted = view.head;
  };
  view.onChange(() => {
    if (painted !== view.head) draw();
    canvas.setAttribute('aria-label', `Weights of ${nameOf(view, view.head)}; the list beside it says the same`);
    row.style.setProperty('--row', String(view.token / length));
    row.style.setProperty('--rows', String(length));
  });
  onScheme(draw);
  return h(
    'figure',
    {},
    h('div', { class: 'matrix' }, canvas, row),
    h(
      'figcaption',
      { class: 'hint' },
      'A row for each token, from the first down; a column for each token it looks at. The stronger the colour, the more.',
    ),
  );
}

/** Paints now, and again when the page turns light or dark. */
function onScheme(draw: () => void): void {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  // The colours are known once the page is there.
  requestAnimationFrame(draw);
}
