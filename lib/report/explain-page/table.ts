import { h } from './dom.js';
import type { View } from './view.js';
import { percent, spoken, written } from './words.js';

/** All tokens as a table, made when it is opened. */
export function table(view: View): HTMLElement {
  const place = h('div', { class: 'scroll' });
  return h(
    'details',
    {
      toggle: () => {
        if (place.childElementCount === 0) place.append(rows(view));
      },
    },
    h('summary', {}, 'All tokens as a table'),
    place,
  );
}

function rows({ data }: View): HTMLElement {
  const names = ['', 'token', 'id', 'loss', 'probability', 'rank', 'first guess'];
  const body = data.tokens.map((token, index) => {
    const [id, text, probability] = data.tokens[index - 1]?.next[0] ?? [];
    const guess =
      id === undefined || text === undefined || probability === undefined
        ? ''
        : `${spoken({ id, text, partial: text === '' })} ${percent(probability)}`;
    const cells = [
      String(token.id),
      token.loss?.toFixed(3) ?? '',
      token.probability === null ? '' : percent(token.probability),
      token.rank === null ? '' : String(token.rank),
      guess,
    ];
    return h(
      'tr',
      {},
      h('td', { class: 'hint' }, String(index + 1)),
      h('th', { scope: 'row', translate: 'no' }, ...written(token)),
      ...cells.map((cell) => h('td', {}, cell)),
    );
  });
  return h(
    'table',
    {},
    h('thead', {}, h('tr', {}, ...names.map((name) => h('th', { scope: 'col' }, name)))),
    h('tbody', {}, ...body),
  );
}
