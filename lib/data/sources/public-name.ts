import type { Json } from '../types.js';

/** Whether a name of texts is a URL. */
export function isUrl(name: string): boolean {
  return /^https?:\/\//i.test(name);
}

/** A name of texts as others may see it: of a URL without login, query and fragment, which can hold secrets. */
export function publicName(name: string): string {
  if (!isUrl(name)) return name;
  // It has them where a URL would.
  if (!URL.canParse(name)) return name.replace(/[?#].*$/s, '').replace(/\/\/.*@/s, '//');
  const { origin, pathname } = new URL(name);
  return `${origin}${pathname}`;
}

/** A value with all the texts in it as {@link publicName} has them. */
export function publicNames<T extends Json>(value: T): T {
  return JSON.parse(JSON.stringify(value), (_, item) => (typeof item === 'string' ? publicName(item) : item));
}
