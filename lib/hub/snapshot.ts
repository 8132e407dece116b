import { join } from 'node:path';
import { KotodamaError, messageOf } from '../errors.js';
import { RepositoryCache, sizeOf } from './cache.js';
import { HubClient, HubUnreachable, type Listing } from './client.js';
import { download } from './download.js';
import type { HubSettings } from './options.js';

/**
 * Names the files that are needed of those in a repository. Names that it lacks are complained about.
 *
 * @param where the repository, for errors of one's own
 */
export type FileChoice = (names: readonly string[], where: string) => readonly string[];

/**
 * Fetches files of a repository that are not in the cache yet, and gives the folder in the cache that holds them. When
 * the hub cannot be reached, what it was at the last time is good enough.
 *
 * @param repository `owner/name`
 * @throws KotodamaError `ERR_HUB`, `ERR_IO` when the cache cannot be written, or what `choose` throws
 */
export async function fetchSnapshot(
  repository: string,
  revision: string,
  choose: FileChoice,
  settings: HubSettings,
): Promise<string> {
  const cache = new RepositoryCache(settings.cacheDir, repository);
  const client = new HubClient(repository, settings);
  let listing: Listing;
  try {
    if (settings.offline) throw new HubUnreachable('offline', '');
    listing = await client.list(revision);
  } catch (error) {
    if (!(error instanceof HubUnreachable)) throw error;
    const { folder, found } = await findCached(cache, repository, revision, choose);
    if (folder !== undefined) return folder;
    throw settings.offline ? notCached(repository, revision, found, settings) : error;
  }
  const names = listing.files.map(({ name }) => name);
  const chosen = choose(names, repository);
  const missing = chosen.filter((name) => !names.includes(name));
  if (missing.length > 0) {
    throw new KotodamaError('ERR_HUB', `${repository} on ${new URL(settings.endpoint).host} cannot be used`, {
      expected: missing.join(', '),
      received: names.length === 0 ? 'an empty repository' : `only ${names.slice(0, 8).join(', ')}`,
    });
  }
  try {
    await fetchFiles(listing, chosen);
    await cache.remember(revision, listing.commit);
  } catch (cause) {
    if (cause instanceof KotodamaError) throw cause;
    throw new KotodamaError('ERR_IO', `The cache ${settings.cacheDir} cannot be written (${messageOf(cause)})`, {
      hint: 'free some space, or set HF_HOME to a folder that can be written',
      cause,
    });
  }
  return cache.snapshot(listing.commit);

  async function fetchFiles({ commit, files }: Listing, chosen: readonly string[]): Promise<void> {
    await cache.prepare(commit);
    for (const file of files.filter(({ name }) => chosen.includes(name))) {
      const { name, size: totalBytes, etag } = file;
      if ((await sizeOf(join(cache.snapshot(commit), name))) === totalBytes) continue;
      if ((await sizeOf(cache.blob(etag))) !== totalBytes) {
        await download(file, cache.blob(etag), {
          read: (from) => client.read(commit, name, from),
          unreachable: (cause) => client.unreachable(cause),
          onProgress: (loadedBytes) => settings.onProgress({ repository, file: name, loadedBytes, totalBytes }),
        });
      }
      await cache.link(commit, name, etag);
    }
  }
}

/** The folder of a revision in the cache, when it has all that is needed; else what was found. */
async function findCached(
  cache: RepositoryCache,
  repository: string,
  revision: string,
  choose: FileChoice,
): Promise<{ folder?: string; found: string }> {
  const commit = await cache.commitOf(revision);
  const names = commit === undefined ? [] : await cache.names(commit);
  if (commit === undefined || names.length === 0) return { found: 'nothing of it' };
  const missing = choose(names, repository).filter((name) => !names.includes(name));
  if (missing.length > 0) return { found: `it without ${missing.join(', ')}` };
  return { folder: cache.snapshot(commit), found: '' };
}

function notCached(repository: string, revision: string, found: string, { cacheDir }: HubSettings): KotodamaError {
  return new KotodamaError('ERR_HUB', `'${repository}' is no folder here, and offline it must be in ${cacheDir}`, {
    expected: `its revision '${revision}'`,
    received: found,
    hint: 'fetch it once without HF_HUB_OFFLINE or the option offline',
  });
}
