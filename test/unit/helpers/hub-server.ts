import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';

/** A repository as the server has it. */
export interface Repository {
  /** Commit by branch or tag. */
  revisions: { [revision: string]: string };
  files: { [name: string]: Buffer };
  /** Names of files that are in Git LFS. */
  lfs?: string[];
  /** Who asks without this token hears what the hub says of private models. */
  token?: string;
  gated?: boolean;
}

/** What the server was asked. */
export interface Asked {
  method: string;
  path: string;
  range: string | undefined;
  authorization: string | undefined;
}

/** A hub on this machine that speaks the routes of huggingface.co which are needed to download models. */
export interface HubServer extends AsyncDisposable {
  readonly endpoint: string;
  readonly asked: Asked[];
  /** By name, `owner/name`. */
  readonly repositories: { [name: string]: Repository };
  /** Answers before the server does: true when it has. */
  before: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
}

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

/** As `git hash-object` has it. */
export function gitHash(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

export function etagOf(repository: Repository, name: string): string {
  const content = repository.files[name];
  return repository.lfs?.includes(name) ? sha256(content) : gitHash(content);
}

export async function startHub(repositories: { [name: string]: Repository }): Promise<HubServer> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url as string, 'http://hub').pathname);
    const { range, authorization } = request.headers;
    asked.push({ method: request.method as string, path, range, authorization });
    if (hub.before?.(request, response) !== true) answer(repositories, path, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const hub: HubServer = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    repositories,
    before: undefined,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return hub;
}

/** Starts a hub that is the only one until the test ends, with an empty cache. */
export async function onlyHub(
  t: Pick<Test, 'teardown' | 'testdir'>,
  repositories: { [name: string]: Repository },
): Promise<{ hub: HubServer; cacheDir: string }> {
  const hub = await startHub(repositories);
  t.teardown(() => hub[Symbol.asyncDispose]());
  const keep = { ...process.env };
  t.teardown(() => {
    process.env = keep;
  });
  for (const name of Object.keys(keep).filter((name) => /^(?:HF_|HUGGING|TRANSFORMERS_)/.test(name))) {
    delete process.env[name];
  }
  const home = t.testdir();
  Object.assign(process.env, { HF_ENDPOINT: hub.endpoint, HF_HOME: home });
  return { hub, cacheDir: join(home, 'hub') };
}

/** Routes: `/api/models/ID/revision/REV`, `/api/models/ID/tree/REV`, `/ID/resolve/REV/FILE`. */
const ROUTES = /^(?:\/api\/models)?\/(?<id>[^/]+\/[^/]+)\/(?<kind>revision|tree|resolve)\/(?<rest>.+)$/;

function answer(
  repositories: { [name: string]: Repository },
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): ServerResponse {
  const { id, kind, rest } = ROUTES.exec(path)?.groups ?? {};
  const repository = repositories[id];
  const stranger = request.headers.authorization === undefined;
  if (repository === undefined) return refuse(response, stranger ? 401 : 404, 'RepoNotFound');
  if (repository.token !== undefined && request.headers.authorization !== `Bearer ${repository.token}`) {
    return refuse(response, stranger ? 401 : 404, 'RepoNotFound');
  }
  if (repository.gated) return refuse(response, 403, 'GatedRepo');
  const known = Object.entries(repository.revisions).find(([name, sha]) =>
    [name, sha].some((revision) => rest === revision || (kind === 'resolve' && rest.startsWith(`${revision}/`))),
  );
  if (known === undefined) return refuse(response, 404, 'RevisionNotFound');
  const sha = known[1];
  if (kind === 'revision') return json(response, { _id: '1', id, sha, private: false, lastModified: '2024-01-01' });
  if (kind === 'tree') {
    const tree = Object.entries(repository.files).map(([name, content]) => entry(repository, name, content));
    return json(response, [{ type: 'directory', oid: gitHash(Buffer.from('')), size: 0, path: 'onnx' }, ...tree]);
  }
  const name = rest.slice(rest.lastIndexOf('/') + 1);
  const content = repository.files[name];
  if (content === undefined) return refuse(response, 404, 'EntryNotFound', { 'x-repo-commit': sha });
  return sendFile(request, response, content, { sha, etag: etagOf(repository, name) });
}

function entry(repository: Repository, path: string, content: Buffer) {
  const lfs = repository.lfs?.includes(path) ? { oid: sha256(content), size: content.length, pointerSize: 134 } : {};
  // Git itself has only a pointer to a file in LFS.
  const oid = gitHash('oid' in lfs ? Buffer.from(`pointer to ${lfs.oid}`) : content);
  return { type: 'file', oid, size: content.length, path, ...('oid' in lfs && { lfs }) };
}

/** With the headers that Python's huggingface_hub asks for. */
function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  content: Buffer,
  { sha, etag }: { sha: string; etag: string },
): ServerResponse {
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
  const start = Number(from ?? 0);
  if (start >= content.length && from !== undefined) return refuse(response, 416, 'InvalidRange');
  response.writeHead(from === undefined ? 200 : 206, {
    'x-repo-commit': sha,
    'x-linked-etag': `"${etag}"`,
    'x-linked-size': content.length,
    etag: `"${etag}"`,
    'accept-ranges': 'bytes',
    'content-length': content.length - start,
    ...(from !== undefined && { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` }),
  });
  return response.end(request.method === 'HEAD' ? undefined : content.subarray(start));
}

function json(response: ServerResponse, value: unknown): ServerResponse {
  response.writeHead(200, { 'content-type': 'application/json' });
  return response.end(JSON.stringify(value));
}

export function refuse(response: ServerResponse, status: number, code: string, headers: object = {}): ServerResponse {
  response.writeHead(status, { 'x-error-code': code, 'content-type': 'application/json', ...headers });
  return response.end(JSON.stringify({ error: code }));
}
