import type { PageToken } from '../explanation-data.js';
import { h } from './dom.js';

/** What is shown and said of a token. */
export type Word = Pick<PageToken, 'id' | 'text' | 'partial'>;

/** Characters that cannot be seen, as something that can. */
const VISIBLE: Readonly<Record<string, string>> = {
  ' ': '·',
  '\n': '↵',
  '\t': '⇥',
  '\r': '␍',
  '\u3000': '□',
  '\u00a0': '⍽',
};

/** Their names, for those who listen. */
const SPOKEN: Readonly<Record<string, string>> = { ' ': 'space', '\n': 'new line', '\t': 'tab', '\r': 'return' };

/** Spaces and controls. The latter would not show, and some turn the direction of what follows. */
const UNSEEN = /([\p{Cc}\p{Cf}\p{Zs}\p{Zl}\p{Zp}])/u;

/** A token's text; what stands for something else is dim. */
export function written({ id, text, partial }: Word): HTMLElement[] {
  const shown = text
    .split(UNSEEN)
    .filter((part) => part !== '')
    .map((part) => (UNSEEN.test(part) ? dim(VISIBLE[part] ?? codePoint(part)) : h('span', {}, part)));
  if (partial) shown.push(dim('…'));
  return shown.length === 0 ? [dim(`#${id}`)] : shown;
}

function dim(text: string): HTMLElement {
  return h('span', { class: 'dim' }, text);
}

function codePoint(character: string): string {
  return `U+${(character.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, '0')}`;
}

/** A token in quotes, as a screen reader should say it. */
export function spoken(token: Word): string {
  if (token.text === '') return token.partial ? 'a part of a character' : `token ${token.id}`;
  const named = token.text.replace(/^[ \n\t\r]+$/, (spaces) => [...spaces].map((c) => SPOKEN[c]).join(' '));
  return `“${named}”`;
}

/** 0.1234 as `12 %`, 0.0123 as `1.2 %`, 0.00001 as `0.001 %`. */
export function percent(share: number): string {
  const value = 100 * share;
  return `${value >= 9.95 ? value.toFixed(0) : value >= 0.0995 ? value.toFixed(1) : value === 0 ? '0' : Number(value.toPrecision(1))} %`;
}

/** How well a token was foreseen, in a sentence. */
export function judgement({ loss, probability, rank }: PageToken, vocabulary: number): string {
  if (loss === null || probability === null || rank === null)
    return 'Nothing comes before it, so nothing was expected.';
  const place =
    rank === 1 ? 'the first guess' : `guess ${rank.toLocaleString('en')} of ${vocabulary.toLocaleString('en')}`;
  return `Expected with ${percent(probability)}, ${place}: a loss of ${loss.toFixed(2)} nats.`;
}
