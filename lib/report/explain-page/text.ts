import { h } from './dom.js';
import type { View } from './view.js';
import { judgement, spoken, written } from './words.js';

/** The text: each token on the colour of its loss, with a bar below it for how much the shown token looks at it (the longest: most). */
export function text(view: View): HTMLElement {
  const { tokens, guessLoss } = view.data;
  const labels = tokens.map((token, index) => {
    const input = h('input', {
      type: 'radio',
      name: 'token',
      class: 'unseen',
      'aria-label': `${spoken(token)}. ${judgement(token, view.vocabulary)}`,
      change: () => view.choose(index),
    });
    input.checked = index === view.chosen;
    const label = h('label', { class: 'token', title: judgement(token, view.vocabulary) }, input, ...written(token));
    label.style.setProperty('--loss', String(Math.min(1, (token.loss ?? 0) / guessLoss)));
    label.addEventListener('pointerenter', ({ pointerType }) => {
      if (pointerType === 'mouse') view.show(index);
    });
    return label;
  });
  view.onChange(() => {
    const weights = labels.map((_, index) => (view.data.heads.length > 0 ? view.weights().at(view.token, index) : 0));
    const largest = Math.max(...weights);
    for (const [index, label] of labels.entries()) {
      label.classList.toggle('shown', index === view.token);
      label.style.setProperty('--weight', String(largest > 0 ? (weights[index] as number) / largest : 0));
      const input = label.firstElementChild as HTMLInputElement;
      if (index === view.chosen) input.checked = true;
    }
  });
  // A new line stays a new line.
  const line = labels.flatMap((label, index) => (tokens[index]?.text.includes('\n') ? [label, h('br')] : [label]));
  return h(
    'fieldset',
    { class: 'text card', dir: 'auto', translate: 'no', pointerleave: () => view.show() },
    h('legend', { class: 'unseen' }, 'Tokens of the text'),
    ...line,
  );
}

/** What the colours and the bars mean. */
export function legend(view: View): HTMLElement {
  return h(
    'p',
    { class: 'legend' },
    h('span', {}, 'certain'),
    h('span', { class: 'ramp', 'aria-hidden': 'true' }),
    h(
      'span',
      {},
      `like guessing among ${view.vocabulary.toLocaleString('en')} (${view.data.guessLoss.toFixed(1)} nats)`,
    ),
    view.data.heads.length > 0
      ? h('span', { class: 'looks' }, h('i', { 'aria-hidden': 'true' }), 'how much the shown token looks at it')
      : undefined,
  );
}
