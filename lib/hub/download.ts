import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { KotodamaError } from '../errors.js';
import { sizeOf } from './cache.js';
import { type HubFile, HubUnreachable } from './client.js';

/** What a download needs to know beside the file. */
export interface DownloadSource {
  /** Answers with the content from a byte on (status 206), or from the beginning (200). */
  read(from: number): Promise<Response>;
  /** An error of the connection as one with a hint. */
  unreachable(cause: unknown): HubUnreachable;
  /** Called with the bytes that are there. */
  onProgress(loadedBytes: number): void;
}

/** Attempts without a new byte before a download is given up, and the milliseconds before each but the first. */
const ATTEMPTS = 4;
const PAUSE = 300;

/**
 * Downloads a file to `path`, by way of `path.incomplete`: what is there from an interrupted download is continued. The
 * content is checked against the file's hash before it gets its name.
 *
 * Two processes may download the same file: they write the same bytes to the same places.
 *
 * @throws KotodamaError `ERR_HUB` when the connection fails for good (what came stays for the next time), or when the
 *   content does not have the hash (then it is removed)
 */
export async function download(file: HubFile, path: string, source: DownloadSource): Promise<void> {
  const partial = `${path}.incomplete`;
  const handle = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o644);
  try {
    await complete(file, handle, source);
    await handle.sync();
    const found = await hashOf(file, handle);
    if (found !== file.etag) {
      await rm(partial, { force: true });
      throw new KotodamaError('ERR_HUB', `${file.name} was damaged on its way: ${file.hash} hash`, {
        expected: file.etag,
        received: found,
        hint: 'it was removed: try again; if it stays so, a proxy or mirror changes the file',
      });
    }
  } finally {
    await handle.close();
  }
  await rename(partial, path).catch(async (cause) => {
    // Another process may have been the first.
    if ((await sizeOf(path)) !== file.size) throw cause;
  });
}

/** Fetches what is missing, again and again while that gets anywhere. */
async function complete(file: HubFile, handle: FileHandle, source: DownloadSource): Promise<void> {
  if ((await handle.stat()).size > file.size) await handle.truncate(0);
  source.onProgress((await handle.stat()).size);
  let failures = 0;
  for (;;) {
    const { size: from } = await handle.stat();
    if (from === file.size) return;
    try {
      await fetchRest(file, handle, from, source);
    } catch (error) {
      if (!(error instanceof HubUnreachable)) throw error;
      failures = (await handle.stat()).size > from ? 1 : failures + 1;
      if (failures === ATTEMPTS) throw error;
      await setTimeout(PAUSE * failures);
    }
  }
}

async function fetchRest(file: HubFile, handle: FileHandle, from: number, source: DownloadSource): Promise<void> {
  const response = await source.read(from);
  let position = response.status === 206 ? from : 0;
  const chunks = bodyOf(response)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await chunks.next().catch((cause) => {
        throw source.unreachable(cause);
      });
      if (next.done === true) break;
      if (position + next.value.length > file.size) throw tooLong(file);
      await write(handle, next.value, position);
      position += next.value.length;
      source.onProgress(position);
    }
  } finally {
    await chunks.return?.().catch(() => {});
  }
  if (position < file.size) throw source.unreachable(new Error(`the answer ended after ${position} bytes`));
}

function bodyOf(response: Response): AsyncIterable<Uint8Array> {
  // Node's streams can be iterated, which the types of fetch do not tell.
  return (response.body ?? []) as unknown as AsyncIterable<Uint8Array>;
}

async function write(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

function tooLong(file: HubFile): KotodamaError {
  return new KotodamaError('ERR_HUB', `${file.name} is longer than announced`, {
    expected: `${file.size} bytes`,
    received: 'more',
    hint: 'check HF_ENDPOINT, and whether a proxy answers in its place',
  });
}

/** The sha256 of a file, or git's hash of a blob: the SHA-1 over `blob`, its size and its content. */
async function hashOf(file: HubFile, handle: FileHandle): Promise<string> {
  const hash = createHash(file.hash === 'git' ? 'sha1' : 'sha256');
  if (file.hash === 'git') hash.update(`blob ${file.size}\0`);
  for await (const chunk of handle.createReadStream({ start: 0, autoClose: false })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
