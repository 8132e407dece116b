import type { Json } from '../types.js';

/** Whether a name of texts is a URL. */
export function isUrl(name: string): boolean {
  return /^https?:\/\//i.test(name);
}

/** A login that a `/`, `?` or `#` in it cuts short: what it begins with passes for the host, and its rest follows. */
const CUT_LOGIN = /^https?:\/\/[^/?#@]*(:[^/?#@]*\/[^?#]*|[?#].*)@/is;

/** A name of texts as others may see it: of a URL without login, query and fragment, which can hold secrets. */
export function publicName(name: string): string {
  if (!isUrl(name)) return name;
  // Where its parts cannot be told apart, nothing is shown of any.
  if (!URL.canParse(name) || CUT_LOGIN.test(name)) return `${name.slice(0, name.indexOf('//'))}//...`;
  const { origin, pathname } = new URL(name);
  return `${origin}${pathname}`;
}

/** A value with all the texts in it as {@link publicName} has them. */
export function publicNames<T extends Json>(value: T): T {
  return JSON.parse(JSON.stringify(value), (_, item) => (typeof item === 'string' ? publicName(item) : item));
}
