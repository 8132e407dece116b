import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Folders below a given one that are looked into. */
const DEPTH = 3;

/** The folders that hold a `metrics.jsonl`: those given, and those below them, sorted. */
export async function findRuns(paths: readonly string[]): Promise<string[]> {
  const found = await Promise.all(paths.map((path) => search(path, DEPTH)));
  return [...new Set(found.flat())];
}

async function search(path: string, depth: number): Promise<string[]> {
  const isRun = await stat(join(path, 'metrics.jsonl')).then(
    (found) => found.isFile(),
    () => false,
  );
  if (isRun) return [path];
  if (depth === 0) return [];
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  const folders = entries.filter(
    (entry) => entry.isDirectory() && !entry.name.startsWith('.') && entry.name !== 'node_modules',
  );
  const below = await Promise.all(folders.map(({ name }) => search(join(path, name), depth - 1)));
  return below.flat().sort();
}
