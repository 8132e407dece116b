import type { Json } from './data/types.js';

/** A copy without `undefined`, which JSON does not know. */
export function plain(value: object): { [key: string]: Json } {
  return JSON.parse(JSON.stringify(value));
}

/** A copy of a state as it will be saved: whoever gave it may go on with the value itself. */
export function copyOf(state: Json): Json {
  const text: string | undefined = JSON.stringify(state);
  return text === undefined ? null : JSON.parse(text);
}

/** The numbers, texts and so on inside a value, by their paths: `{ a: { b: 1 }, c: [2] }` has `a.b` and `c.0`. */
export function leaves(value: Json, path = ''): Map<string, null | boolean | number | string> {
  if (typeof value !== 'object' || value === null) return new Map([[path, value]]);
  const found = new Map<string, null | boolean | number | string>();
  for (const [key, item] of Object.entries(value)) {
    for (const [name, leaf] of leaves(item, path === '' ? key : `${path}.${key}`)) found.set(name, leaf);
  }
  return found;
}

/**
 * Parses the text of a JSON file; a byte order mark, which some editors put before it, is no part of it.
 *
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  return JSON.parse(text.replace(/^\uFEFF/, ''));
}
