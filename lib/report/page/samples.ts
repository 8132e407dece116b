import type { SampleEvent } from '../../train/events.js';
import { shortNumber } from '../scale.js';
import { swatch } from './curve.js';
import { h } from './dom.js';
import type { Model } from './model.js';

/** Samples of a run that are shown at first. */
const FEW = 6;

/** What the model wrote, from its beginnings on, side by side. */
export function samples(model: Model): HTMLElement {
  const box = h('div');
  const section = h('section', { hidden: true }, h('h2', {}, 'Samples over time'), box);
  let showAll = false;
  let drawn = '';
  const draw = () => {
    const runs = model.shown.filter(({ record }) => record.now.samples.length > 0);
    const key = JSON.stringify([
      showAll,
      runs.map(({ id, record }) => [id, record.now.samples.at(-1), record.now.samples.length]),
    ]);
    if (key === drawn) return;
    drawn = key;
    section.hidden = runs.length === 0;
    const groups = runs.flatMap((run) => {
      const all = run.record.now.samples;
      const title = model.several ? [h('h3', {}, swatch(run.colour, run.dashes.training), run.name)] : [];
      return [...title, h('div', { class: 'samples' }, ...(showAll ? all : spread(all, FEW)).map(card))];
    });
    const most = Math.max(0, ...runs.map(({ record }) => record.now.samples.length));
    const click = () => {
      showAll = !showAll;
      draw();
    };
    const more = h('button', { type: 'button', click }, showAll ? 'Show fewer' : `Show all ${most}`);
    box.replaceChildren(...groups, ...(most > FEW ? [more] : []));
  };
  model.onChange(draw);
  return section;
}

function card({ step, prompt, text }: SampleEvent): HTMLElement {
  return h(
    'article',
    { class: 'card' },
    h('h4', {}, `step ${shortNumber(step, 6)}`),
    h('p', { dir: 'auto', tabindex: 0 }, h('b', {}, prompt), text),
    // A young model often ends a text at once.
    text === '' ? h('small', {}, 'the model added nothing') : undefined,
  );
}

/** The first, the last, and some between. */
function spread<T>(items: readonly T[], most: number): T[] {
  if (items.length <= most) return [...items];
  return Array.from({ length: most }, (_, index) => items[Math.round((index * (items.length - 1)) / (most - 1))] as T);
}
