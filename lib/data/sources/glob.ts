import { type Dirent, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ioError } from '../../files.js';
import { alternativesIn, matcherOf } from '../../pattern.js';

/**
 * Whether a name is a pattern: it holds `*`, `?`, `[...]` or `{a,b}`, and no file has just this name. Where the system does
 * not say whether one has, it is a pattern, so that {@link filesMatching} says what stands in the way.
 */
export function isPattern(name: string): boolean {
  return /[*?]|\[[^\]]+\]|\{[^{}]*,[^{}]*\}/.test(name) && !exists(name);
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * The files a pattern matches, sorted by the UTF-16 units of their paths: the same order on every machine. `*` and `?`
 * match within a name, `**` any folders, `[a-c]` and `[!a-c]` one character, `{a,b}` alternatives. Names that begin with a
 * dot, and `lost+found`, must be asked for.
 *
 * @throws KotodamaError `ERR_IO` for a folder or a match that cannot be looked at: texts would be missing without a word.
 */
export function filesMatching(pattern: string): string[] {
  return [...new Set(alternativesIn(pattern).flatMap((single) => matchesOf(single)))].sort();
}

function matchesOf(pattern: string): string[] {
  const parts = pattern.split('/').filter((part, index) => part !== '' || index === 0);
  const absolute = parts[0] === '';
  return search(absolute ? '/' : '', absolute ? parts.slice(1) : parts);
}

function search(folder: string, [part, ...rest]: string[]): string[] {
  if (part === undefined) return [];
  if (part === '**') {
    const deeper = entriesOf(folder)
      .filter((entry) => entry.isDirectory() && isMeant(entry.name))
      .flatMap(({ name }) => search(join(folder, name), [part, ...rest]));
    return [...search(folder, rest.length > 0 ? rest : ['*']), ...deeper];
  }
  const matches = matcherOf(part);
  const names =
    matches === undefined
      ? [part]
      : entriesOf(folder)
          .map(({ name }) => name)
          .filter((name) => matches.test(name) && (part.startsWith('.') || isMeant(name)));
  return names.flatMap((name) => {
    const path = join(folder, name);
    if (rest.length > 0) return search(path, rest);
    return isFile(path) ? [path] : [];
  });
}

/** Every ext4 file system has a `lost+found`, closed to all but root; what fsck puts there is nobody's data. */
function isMeant(name: string): boolean {
  return !name.startsWith('.') && name !== 'lost+found';
}

function isFile(path: string): boolean {
  return orMissing(path, () => statSync(path).isFile()) ?? false;
}

function entriesOf(folder: string): Dirent[] {
  const path = folder === '' ? '.' : folder;
  return orMissing(path, () => readdirSync(path, { withFileTypes: true })) ?? [];
}

/** What is found at a path; undefined where nothing is, or a file where a folder would have to be. */
function orMissing<T>(path: string, look: () => T): T | undefined {
  try {
    return look();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw ioError(cause, `${path} could not be looked at for a pattern`);
  }
}
