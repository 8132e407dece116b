import { type Bar, bars } from './bars.js';
import { h } from './dom.js';
import type { View } from './view.js';
import { judgement, percent, spoken, written } from './words.js';

/** Tokens that a head is said to look at. */
const MOST_LOOKS = 8;

/** The shown token: how well it was foreseen, what is expected after it, and what one head looks at. */
export function details(view: View): HTMLElement {
  const facts = h('div', { class: 'card facts' });
  const expected = h('section', { class: 'card', 'aria-labelledby': 'expected' });
  const heard = h('p', { class: 'unseen', role: 'status' });
  const draw = () => {
    const token = view.data.tokens[view.token];
    if (token === undefined) return;
    facts.replaceChildren(
      h('h2', { dir: 'auto', translate: 'no' }, ...written(token)),
      h('p', {}, judgement(token, view.vocabulary), firstGuess(view)),
      h('p', { class: 'hint' }, `token ${view.token + 1} of ${view.data.tokens.length}, id ${token.id}`),
    );
    expected.replaceChildren(h('h3', { id: 'expected' }, 'What it expects next'), bars('heat', nextBars(view)));
    expected.append(...came(view));
    if (view.token === view.chosen) {
      const [likely] = nextBars(view);
      heard.textContent =
        likely === undefined ? '' : `Next it expects ${spoken(likely.token)} with ${percent(likely.share)}.`;
    }
  };
  view.onChange(draw);
  return h('div', { class: 'details' }, facts, expected, heard);
}

function firstGuess({ data, token }: View): string {
  const guess = data.tokens[token - 1]?.next[0];
  if (guess === undefined || data.tokens[token]?.rank === 1) return '';
  const [id, text, probability] = guess;
  return ` The first guess was ${spoken({ id, text, partial: text === '' })} with ${percent(probability)}.`;
}

function nextBars({ data, token }: View): Bar[] {
  const following = data.tokens[token + 1];
  return (data.tokens[token]?.next ?? []).map(([id, text, share]) => ({
    token: { id, text, partial: text === '' },
    share,
    ...(id === following?.id && { note: '✓', said: 'this came' }),
  }));
}

/** What came, when it is not in the list. */
function came({ data, token }: View): HTMLElement[] {
  const following = data.tokens[token + 1];
  if (following === undefined) return [h('p', { class: 'hint' }, 'The text ends here.')];
  if (data.tokens[token]?.next.some(([id]) => id === following.id)) return [h('p', { class: 'hint' }, '✓ came next.')];
  return [h('p', { class: 'hint' }, `What came: ${spoken(following)}, with ${percent(following.probability ?? 0)}.`)];
}

/** What the shown head looks at from the shown token, the most first. */
export function looks(view: View): HTMLElement {
  const place = h('div');
  view.onChange(() => {
    const weights = view.weights();
    const list = view.data.tokens
      .slice(0, view.token + 1)
      .map((token, index): Bar => {
        const distance = view.token - index;
        return { token, share: weights.at(view.token, index), note: distance === 0 ? 'itself' : `${distance} back` };
      })
      .filter(({ share }) => share > 0)
      .sort((a, b) => b.share - a.share);
    place.replaceChildren(bars('look', list.slice(0, MOST_LOOKS)));
  });
  return place;
}
