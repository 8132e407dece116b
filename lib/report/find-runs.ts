import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { METRICS_FILE } from '../train/run-folder.js';

/** Folders below a given one that are looked into. */
const DEPTH = 3;

/** A way to a run. */
interface Way {
  path: string;
  /** The folder itself: several ways may lead there. */
  real: string;
  /** Symbolic links on the way, of those that were found. */
  links: number;
}

/**
 * The folders that hold a `metrics.jsonl`: those given, and those below them, sorted. Symbolic links are followed; a run to
 * which several ways lead is there once, by the one with the fewest links.
 */
export async function findRuns(paths: readonly string[]): Promise<string[]> {
  const found = (await Promise.all(paths.map((path) => search(path, DEPTH, 0)))).flat();
  const names = new Map<string, string>();
  for (const { path, real } of found.toSorted((a, b) => a.links - b.links)) {
    if (!names.has(real)) names.set(real, path);
  }
  const chosen = found.filter(({ path, real }) => names.get(real) === path);
  return [...new Set(chosen.map(({ path }) => path))];
}

async function search(path: string, depth: number, links: number): Promise<Way[]> {
  const isRun = await stat(join(path, METRICS_FILE)).then(
    (found) => found.isFile(),
    () => false,
  );
  if (isRun) return [{ path, real: await realpath(path).catch(() => path), links }];
  // The depth ends loops of links, too.
  if (depth === 0) return [];
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  // Nothing is in a link to a file.
  const folders = entries.filter(
    (entry) =>
      (entry.isDirectory() || entry.isSymbolicLink()) && !entry.name.startsWith('.') && entry.name !== 'node_modules',
  );
  const below = await Promise.all(
    folders.map((entry) => search(join(path, entry.name), depth - 1, links + Number(entry.isSymbolicLink()))),
  );
  return below.flat().sort((a, b) => (a.path < b.path ? -1 : 1));
}
