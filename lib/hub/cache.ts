import { randomBytes } from 'node:crypto';
import { readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../files.js';
import { isCommit } from './hub-id.js';

/**
 * One repository in the cache that Python's huggingface_hub uses too:
 *
 *     models--owner--name/
 *       refs/main                          the commit that main was last seen at
 *       blobs/<etag>                       contents
 *       snapshots/<commit>/config.json     links to blobs
 */
export class RepositoryCache {
  private readonly folder: string;

  /** @param repository `owner/name` */
  constructor(cacheDir: string, repository: string) {
    this.folder = join(cacheDir, `models--${repository.replace('/', '--')}`);
  }

  blob(etag: string): string {
    return join(this.folder, 'blobs', etag);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  /** Makes the folders for a snapshot. */
  async prepare(commit: string): Promise<void> {
    await makeFolder(this.blob(''));
    await makeFolder(this.snapshot(commit));
  }

  /** The commit of a revision when it was last fetched. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const commit = (await readFile(this.ref(revision), 'utf8').catch(() => '')).trim();
    return isCommit(commit) ? commit : undefined;
  }

  /** Notes what {@link commitOf} is to answer. */
  async remember(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return;
    const path = this.ref(revision);
    await makeFolder(dirname(path));
    const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
    await writeFile(temporary, commit);
    await rename(temporary, path);
  }

  /** Names of the files in a snapshot whose content is there, sorted. */
  async names(commit: string): Promise<string[]> {
    const folder = this.snapshot(commit);
    const names = await readdir(folder).catch(() => []);
    const sizes = await Promise.all(names.map((name) => sizeOf(join(folder, name))));
    return names.filter((_, index) => sizes[index] !== undefined).sort();
  }

  /** Lets a file of a snapshot be a blob, as a relative link: the cache may be moved as a whole. */
  async link(commit: string, name: string, etag: string): Promise<void> {
    const path = join(this.snapshot(commit), name);
    const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      await symlink(join('..', '..', 'blobs', etag), temporary);
      // Replaces a link to nothing, and another process may be doing the same.
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  private ref(revision: string): string {
    return join(this.folder, 'refs', revision);
  }
}

/** Size of a file in bytes; undefined when it is not there. */
export async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    (found) => (found.isFile() ? found.size : undefined),
    () => undefined,
  );
}
