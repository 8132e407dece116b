import { h } from './dom.js';
import { percent, spoken, type Word, written } from './words.js';

export interface Bar {
  token: Word;
  /** 0 to 1 */
  share: number;
  /** Stands after the number. */
  note?: string | undefined;
}

/** A list of tokens with a bar each. */
export function bars(kind: 'heat' | 'look', list: readonly Bar[]): HTMLElement {
  const largest = Math.max(1e-9, ...list.map(({ share }) => share));
  const rows = list.map(({ token, share, note }) => {
    const bar = h('span', { class: 'bar', 'aria-hidden': 'true' });
    bar.style.setProperty('--share', String(share / largest));
    return h(
      'li',
      note === undefined ? {} : { class: 'noted' },
      h('span', { class: 'unseen' }, spoken(token)),
      h(
        'span',
        { class: 'word', dir: 'auto', translate: 'no', 'aria-hidden': 'true' },
        ...written(token),
        token.text === '' && token.partial ? h('span', { class: 'dim' }, `#${token.id}`) : undefined,
      ),
      bar,
      h('span', { class: 'number' }, percent(share)),
      note === undefined ? undefined : h('span', { class: 'note' }, note),
    );
  });
  return h('ol', { class: `bars ${kind}` }, ...rows);
}
