import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { KotodamaError, withHint } from '../errors.js';
import { nearest } from '../validate.js';
import { checkRevision, parseHubId } from './hub-id.js';
import { type HubOptions, readHubOptions } from './options.js';
import type { FileChoice } from './snapshot.js';

export { hubHint } from './hub-id.js';
export type { DownloadProgress, HubOptions } from './options.js';
export type { FileChoice } from './snapshot.js';

/**
 * The local folder that is meant by a path or by the name of a model on a hub, `owner/name` or `owner/name@revision`.
 * What exists locally always wins. Files that are not in the cache yet are fetched.
 *
 * @param choose names the files that are needed
 * @throws KotodamaError `ERR_HUB` when there is no such model, it is private, or the hub cannot be reached and the files
 *   are not in the cache; `ERR_OPTIONS`, `ERR_IO`
 */
export async function folderOf(name: string, choose: FileChoice, options: HubOptions = {}): Promise<string> {
  const id = typeof name === 'string' ? parseHubId(name) : undefined;
  if (id === undefined || existsSync(name)) return name;
  const settings = readHubOptions(options);
  if (id.revision !== undefined && settings.revision !== undefined && id.revision !== settings.revision) {
    throw new KotodamaError('ERR_OPTIONS', 'revision', {
      expected: `one revision, '${id.revision}' as in '${name}'`,
      received: `'${settings.revision}' too`,
    });
  }
  const revision = checkRevision(id.revision ?? settings.revision ?? 'main');
  // The hub's library takes a moment to load, which local folders need not wait for.
  const { fetchSnapshot } = await import('./snapshot.js');
  try {
    return await fetchSnapshot(id.name, revision, choose, settings);
  } catch (error) {
    const local = localHint(id.name);
    if (local === undefined || !(error instanceof KotodamaError && error.code === 'ERR_HUB')) throw error;
    throw withHint(error, error.hint === undefined ? local : `${local} For a name of the Hub: ${error.hint}`);
  }
}

/** Folders that a hint names. */
const NAMED = 8;

/** What `runs/firs` may mean where there is a folder `runs`. */
function localHint(name: string): string | undefined {
  const parent = dirname(name);
  let folders: string[];
  try {
    folders = readdirSync(parent, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? entry.name : []));
  } catch {
    return undefined; // No such folder: it is a name of the Hub.
  }
  const close = nearest(name.slice(parent.length + 1), folders);
  if (close !== undefined) return `did you mean ${join(parent, close)}?`;
  const found = folders.length === 0 ? 'no folder' : folders.sort().slice(0, NAMED).join(', ');
  return `in ${parent} here there is ${found}.`;
}
