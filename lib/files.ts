import { randomBytes } from 'node:crypto';
import { constants, copyFile, type FileHandle, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import { type ErrorCode, KotodamaError, messageOf } from './errors.js';
import { parseJson } from './json.js';

/** Writes a file under its name, as {@link writeAtomically} does at once and {@link StagedFiles} do later. */
export type WriteFile = (path: string, write: (file: FileHandle) => Promise<void>) => Promise<void>;

/**
 * Writes a file so that a crash at any moment leaves either the old content or the new: to a temporary name in the same
 * folder, synced, renamed, and the folder synced.
 *
 * @throws KotodamaError `ERR_IO` when the system refuses; the old file is untouched then, unless only the folder could not be
 *   synced.
 */
export async function writeAtomically(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  await replace(path, (temporary) => writeSynced(temporary, write));
}

/** Files that get their names only when all of them are written. */
export class StagedFiles {
  /** Where the files lie, by the names that they get, in the order of writing. */
  private readonly temporaries = new Map<string, string>();

  /** The files that wait for their names, and where they lie until then. */
  get waiting(): [path: string, temporary: string][] {
    return [...this.temporaries];
  }

  /** As {@link writeAtomically}, but the file of this name stays what it is until {@link StagedFiles.place}. */
  readonly write: WriteFile = async (path, write) => {
    this.temporaries.set(path, await stage(path, (temporary) => writeSynced(temporary, write)));
  };

  /** Gives a file its name; to make that durable is left to the caller. */
  async place(path: string): Promise<void> {
    await rename(this.temporaries.get(path) as string, path);
    this.temporaries.delete(path);
  }

  /** Removes the files that have not got their names. */
  async discard(): Promise<void> {
    for (const temporary of this.temporaries.values()) await rm(temporary, { force: true }).catch(() => {});
  }
}

/**
 * Copies a file of any size, as {@link writeAtomically} writes one. Where the file system can (Btrfs, XFS, APFS), both share
 * their blocks until one is changed.
 */
export async function copyAtomically(source: string, target: string): Promise<void> {
  await replace(target, async (temporary) => {
    await copyFile(source, temporary, constants.COPYFILE_FICLONE);
    await sync(temporary);
  });
}

/** Whether a name is one that {@link writeAtomically} and {@link copyAtomically} write under. */
export function isTemporaryName(name: string): boolean {
  return /^\..+\.[0-9a-f]{12}\.tmp$/.test(name);
}

/** @param make leaves the new file under the temporary name that it is given, synced. */
async function replace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  await stage(path, async (temporary) => {
    await make(temporary);
    await rename(temporary, path);
    await syncFolder(dirname(path));
  });
}

/**
 * Makes what will be a file under a temporary name, which is given to `make` and back; what fails leaves none.
 *
 * @throws KotodamaError `ERR_IO` that names the file
 */
async function stage(path: string, make: (temporary: string) => Promise<void>): Promise<string> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    await make(temporary);
    return temporary;
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw ioError(cause, `${path} could not be written`);
  }
}

async function writeSynced(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await write(file);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Makes a folder and the ones above it; one that is there already is fine. Node's own recursive `mkdir` never returns where
 * the system says that an existing folder is not there, as Linux does below /proc.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return;
    const parent = dirname(resolve(path));
    if (code !== 'ENOENT' || parent === resolve(path)) throw error;
    await makeFolder(parent);
    // Another process may have been quicker.
    await mkdir(path).catch(async (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EEXIST') throw cause;
    });
  }
}

/** Makes renames inside a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  await sync(path);
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes text as UTF-8, atomically. */
export async function writeTextFile(path: string, text: string): Promise<void> {
  await writeAtomically(path, (file) => file.writeFile(text, 'utf8'));
}

/** Writes indented JSON with a final newline, atomically. */
export async function writeJsonFile(path: string, value: unknown): Promise<void> {
  await writeTextFile(path, jsonText(value));
}

/** What {@link writeJsonFile} writes. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

/** Copies a file into a folder under its own name, atomically; a file of that name is replaced. */
export async function copyIntoFolder(source: string, folder: string): Promise<void> {
  const target = join(folder, basename(source));
  if (resolve(target) === resolve(source)) return;
  await writeAtomically(target, async (file) => file.writeFile(await readFile(source)));
}

/**
 * Reads a JSON file.
 *
 * @param code the error's code when the text is not JSON.
 * @throws KotodamaError `code`, or `ERR_IO` when the file cannot be read.
 */
export async function readJsonFile(path: string, code: ErrorCode): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw ioError(cause, `${path} could not be read`);
  }
  try {
    return parseJson(text);
  } catch (cause) {
    throw new KotodamaError(code, `${path} is not JSON (${messageOf(cause)})`, { cause });
  }
}

/** Why the system refused, in its own words: `permission denied`. */
export function reasonOf(error: unknown): string {
  const { errno } = error as NodeJS.ErrnoException;
  return (errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1]) ?? messageOf(error);
}

const HINTS: Record<string, string> = {
  ENOENT: 'check the path',
  EISDIR: 'give a file, not a folder',
  ENOTDIR: 'a part of the path is a file, not a folder',
  ENOSPC: 'the disk is full: free some space',
  EDQUOT: 'the disk quota is used up: free some space',
  EACCES: 'check the permissions',
  EPERM: 'check the permissions',
  EROFS: 'the file system is read-only: choose another folder',
};

/** An error of the operating system as `ERR_IO` with a hint; a KotodamaError stays what it is. */
export function ioError(cause: unknown, message: string): KotodamaError {
  if (cause instanceof KotodamaError) return cause;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const hint = code === undefined ? undefined : HINTS[code];
  return new KotodamaError(
    'ERR_IO',
    `${message} (${messageOf(cause)})`,
    hint === undefined ? { cause } : { hint, cause },
  );
}
