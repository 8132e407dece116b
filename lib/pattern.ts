import { KotodamaError } from './errors.js';

/** `a{b,c}d` as `abd`, `acd`. */
export function alternativesIn(pattern: string): string[] {
  const found = /\{([^{}]*,[^{}]*)\}/.exec(pattern);
  if (found === null) return [pattern];
  const [before, after] = [pattern.slice(0, found.index), pattern.slice(found.index + found[0].length)];
  return (found[1] as string).split(',').flatMap((choice) => alternativesIn(before + choice + after));
}

/** One name's pattern, of `*`, `?`, `[a-c]` and `[!a-c]`, as a regular expression; undefined when it is plain. */
export function matcherOf(part: string): RegExp | undefined {
  if (!/[*?[]/.test(part)) return undefined;
  const source = part.replaceAll(/\*+|\?|\[(!?)(\]?[^\]]*)\]|[^*?[]+|\[/g, (token, not: string, set: string) => {
    if (token.startsWith('*')) return '.*';
    if (token === '?') return '.';
    if (set !== undefined) return `[${not === '!' ? '^' : ''}${set.replaceAll(/[\\\]^[]/g, '\\$&')}]`;
    return token.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  });
  try {
    return new RegExp(`^${source}$`, 'su');
  } catch (cause) {
    throw new KotodamaError('ERR_OPTIONS', `${part} is not a pattern`, {
      expected: 'ranges in order, e.g. [a-z]',
      cause,
    });
  }
}
