import type { ExplanationData } from '../explanation-data.js';
import { attention } from './attention.js';
import { details } from './details.js';
import { h } from './dom.js';
import { table } from './table.js';
import { legend, text } from './text.js';
import { View } from './view.js';

const view = new View(JSON.parse(document.getElementById('data')?.textContent ?? '') as ExplanationData);

document.body.prepend(
  h('header', {}, h('h1', {}, view.data.model), h('p', { class: 'brand' }, 'kotodama explain')),
  h(
    'main',
    {},
    h('p', { class: 'lead' }, summary()),
    text(view),
    legend(view),
    h('div', { class: 'columns' }, details(view), attention(view)),
    table(view),
  ),
);
view.changed();

function summary(): string {
  const { tokens, loss } = view.data;
  if (loss === null) return 'One token: what the model expects after it.';
  const judged = tokens.filter((token) => token.rank !== null);
  const right = judged.filter(({ rank }) => rank === 1).length;
  return (
    `${tokens.length} tokens, a mean loss of ${loss.toFixed(2)} nats: as unsure as between ` +
    `${perplexity(Math.exp(loss))} equally likely tokens. The first guess came ${right} of ${judged.length} times. ` +
    'Choose a token to see what the model expects after it, and what its heads look at.'
  );
}

function perplexity(value: number): string {
  if (value >= 1e6) return value.toExponential(2);
  return value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en');
}
