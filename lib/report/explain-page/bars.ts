import { h } from './dom.js';
import { percent, spoken, type Word, written } from './words.js';

export interface Bar {
  token: Word;
  /** 0 to 1 */
  share: number;
  /** Stands after the number; what is said of it when that is no word. */
  note?: string | undefined;
  said?: string;
}

/** A list of tokens with a bar each. */
export function bars(kind: 'heat' | 'look', list: readonly Bar[]): HTMLElement {
  const largest = Math.max(1e-9, ...list.map(({ share }) => share));
  const rows = list.map(({ token, share, note, said }) => {
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
      note === undefined
        ? undefined
        : h('span', { class: 'note', 'aria-hidden': said === undefined ? undefined : 'true' }, note),
      said === undefined ? undefined : h('span', { class: 'unseen' }, said),
    );
  });
  return h('ol', { class: `bars ${kind}` }, ...rows);
}
