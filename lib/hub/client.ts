import { listFiles, modelInfo } from '@huggingface/hub';
import { KotodamaError, messageOf } from '../errors.js';
import { proxyHint } from '../proxy.js';
import { isCommit } from './hub-id.js';
import type { HubSettings } from './options.js';

/** A file in the root folder of a repository. */
export interface HubFile {
  name: string;
  size: number;
  /** Its name in the cache, as the hub's ETag has it: the sha256 of large files (Git LFS), git's hash of others. */
  etag: string;
  hash: 'sha256' | 'git';
}

/** What a revision is at the moment. */
export interface Listing {
  commit: string;
  files: HubFile[];
}

/** The hub cannot be asked at the moment, so that what the cache holds is the best there is. */
export class HubUnreachable extends KotodamaError {
  constructor(message: string, hint: string, cause?: unknown) {
    super('ERR_HUB', message, { hint, cause });
  }
}

/** Milliseconds until a question about a repository counts as unanswered. */
const PATIENCE = 30_000;

/** The status of a file that has no bytes from where they are asked for, or of a mirror that gives whole files alone. */
const NO_SUCH_PART = 416;

/** Asks a hub about one repository. Everything it throws is a KotodamaError `ERR_HUB`. */
export class HubClient {
  private readonly host: string;

  constructor(
    /** `owner/name` */
    private readonly repository: string,
    private readonly settings: Pick<HubSettings, 'endpoint' | 'token'>,
  ) {
    this.host = new URL(settings.endpoint).host;
  }

  /** The commit of a revision, and the files in its root folder. */
  async list(revision: string): Promise<Listing> {
    const [name, hubUrl] = [this.repository, this.settings.endpoint];
    const request: typeof fetch = (input, init) =>
      this.request(String(input), { ...init, signal: AbortSignal.timeout(PATIENCE) }, revision);
    try {
      const { sha } = await modelInfo({ name, revision, hubUrl, fetch: request, additionalFields: ['sha'] });
      const files: HubFile[] = [];
      for await (const entry of listFiles({ repo: name, revision: commitOf(sha), hubUrl, fetch: request })) {
        if (entry.type === 'file') files.push(fileOf(entry));
      }
      return { commit: sha, files };
    } catch (cause) {
      if (cause instanceof KotodamaError) throw cause;
      throw new HubUnreachable(
        `${this.host} does not answer as a hub does (${messageOf(cause)})`,
        'check HF_ENDPOINT, and whether a proxy answers in its place',
        cause,
      );
    }
  }

  /** A file's content from a byte offset on (status 206), or all of it, where a hub has no parts. */
  async read(commit: string, file: string, from: number): Promise<Response> {
    const url = `${this.settings.endpoint}/${this.repository}/resolve/${commit}/${encodeURIComponent(file)}`;
    // A compressed answer could not be continued at a byte of the file.
    const headers = { 'accept-encoding': 'identity' };
    if (from > 0) {
      const part = await this.request(url, { headers: { ...headers, range: `bytes=${from}-` } }, commit, NO_SUCH_PART);
      if (part.status === 200 || part.headers.get('content-range')?.startsWith(`bytes ${from}-`)) return part;
      await part.body?.cancel();
    }
    return this.request(url, { headers }, commit);
  }

  /** An error of the connection as one with a hint. */
  unreachable(cause: unknown): HubUnreachable {
    if (cause instanceof HubUnreachable) return cause;
    const reason = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause;
    return new HubUnreachable(
      `'${this.repository}' is no folder here, and ${this.host} cannot be reached (${messageOf(reason) || messageOf(cause)})`,
      `check the path, or the network${proxyHint(this.settings.endpoint)}`,
      cause,
    );
  }

  /** @param accepted a status beside those of success */
  private async request(url: string, init: RequestInit, revision: string, accepted?: number): Promise<Response> {
    const headers = new Headers(init.headers);
    const { token, endpoint } = this.settings;
    // Only the hub may see the token: a list of files may point to pages elsewhere, and fetch drops it in redirects.
    if (token !== undefined && new URL(url).origin === new URL(endpoint).origin) {
      headers.set('authorization', `Bearer ${token}`);
    }
    let response: Response;
    try {
      response = await fetch(url, { ...init, headers });
    } catch (cause) {
      throw this.unreachable(cause);
    }
    if (response.ok || response.status === accepted) return response;
    await response.body?.cancel();
    throw this.refusal(response, revision);
  }

  /** Why the hub refused, as its status and its header `X-Error-Code` tell. */
  private refusal({ status, headers }: Response, revision: string): KotodamaError {
    const { repository, host } = this;
    const code = headers.get('x-error-code');
    const error = (message: string, hint: string) => new KotodamaError('ERR_HUB', message, { hint });
    const nothing = `'${repository}' is no folder here, and ${host} has no such model`;
    if (status >= 500) {
      return new HubUnreachable(`${host} failed with status ${status} for ${repository}`, 'try again later');
    }
    if (code === 'GatedRepo') {
      const page = `${this.settings.endpoint}/${repository}`;
      return error(`${repository} is gated on ${host}`, `accept its terms at ${page}, and give your token as HF_TOKEN`);
    }
    if (code === 'RevisionNotFound') {
      return error(`${repository} has no revision '${revision}' on ${host}`, 'leave it out for the newest one');
    }
    if (code === 'EntryNotFound') return error(`${repository} lacks a file on ${host}`, 'try again');
    if (status === 404) return error(nothing, 'check the spelling; a private model needs a token of its owner');
    // To strangers the hub does not tell whether a private model exists.
    if (status === 401 && this.settings.token === undefined) {
      return error(`${nothing} that is public`, 'check the spelling; for a private model give your token as HF_TOKEN');
    }
    if (status === 401) return error(`${host} does not accept the token`, 'make a new one, or give none');
    if (status === 403) return error(`${host} forbids access to ${repository}`, 'give a token that may read it');
    if (status === 429) return error(`${host} has had too many requests`, 'wait some minutes, or give a token');
    return error(`${host} answered with status ${status} for ${repository}`, 'check HF_ENDPOINT');
  }
}

/** What becomes a path in the cache is checked: a hub could lead anywhere on this machine. */
function commitOf(sha: unknown): string {
  if (typeof sha === 'string' && isCommit(sha)) return sha;
  throw new TypeError('no commit in its answer');
}

function fileOf(entry: { path: string; size: number; oid?: string; lfs?: { oid: string; size: number } }): HubFile {
  const { path: name, lfs } = entry;
  const [etag, size] = lfs === undefined ? [entry.oid, entry.size] : [lfs.oid, lfs.size];
  const length = lfs === undefined ? 40 : 64;
  const valid = typeof etag === 'string' && etag.length === length && /^[0-9a-f]+$/.test(etag);
  if (!valid || !Number.isSafeInteger(size) || size < 0 || !/^[^/\\\0]+$/.test(name) || name === '..' || name === '.') {
    throw new TypeError(`a file in its list is malformed: ${JSON.stringify(name)}`);
  }
  return { name, size, etag, hash: lfs === undefined ? 'git' : 'sha256' };
}
