import { get as getHttp, type IncomingMessage } from 'node:http';
import { get as getHttps } from 'node:https';
import { KotodamaError, messageOf } from '../../errors.js';
import { proxyHint } from '../../proxy.js';
import { unpack } from './compression.js';
import { followedBy } from './lines.js';
import type { Compression } from './names.js';
import { publicName } from './public-name.js';

/** As many as `fetch` and browsers follow. */
const MOST_REDIRECTIONS = 20;

const REDIRECTIONS = [301, 302, 303, 307, 308];

/** Milliseconds to wait for a connection. */
const LONGEST_CONNECTING = 10_000;

/** Milliseconds to wait for a server that says nothing. */
const LONGEST_SILENCE = 300_000;

/**
 * A storage server can hold packed objects that it would unpack for whoever does not take them packed, `.gz` in their names
 * or not.
 */
const HEADERS = { accept: '*/*', 'accept-encoding': 'gzip', 'user-agent': 'kotodama' };

/** What a server may call the packing of the way; null: it is not read. Other words that stand there are no packing. */
const PACKINGS = new Map<string, Compression | null>([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['zstd', 'zstd'],
  ['br', null],
  ['deflate', null],
  ['compress', null],
  ['x-compress', null],
]);

/**
 * The bytes behind an http(s) URL. Redirections are followed, a login in the URL is sent, and what the server packed for the
 * way is unpacked. `fetch` would do all that too, but takes packed data that is cut off for whole.
 *
 * @param onUnpacked called before the first bytes if they were packed for the way
 * @param closed ends the connection when it aborts; the reading fails
 * @throws KotodamaError `ERR_IO` when the server cannot be reached, refuses or breaks off, `ERR_DATA` for damaged packed data
 */
export async function* readUrlBytes(
  url: string,
  onUnpacked: () => void,
  closed?: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const name = publicName(url);
  const response = await open(new URL(url), closed).catch((cause: unknown) => {
    throw new KotodamaError('ERR_IO', `${name} cannot be reached (${reasonOf(cause)})`, {
      hint: `check the address and the network, or download it and give the file${proxyHint(url)}`,
      cause,
    });
  });
  try {
    const { statusCode: status = 0, headers } = response;
    if (status < 200 || status > 299) throw refused(name, response);
    const packings = packingsOf(headers['content-encoding'], name);
    let bytes = bodyOf(response, name);
    if (packings.length > 0) {
      onUnpacked();
      const first = await bytes.next();
      // An empty text is sent as nothing at all, whatever its packing.
      if (first.done === true) return;
      bytes = followedBy(first.value, bytes);
    }
    // The last one named was done last.
    for (const packing of packings.reverse()) bytes = unpack(bytes, packing, name);
    yield* bytes;
  } finally {
    response.destroy();
  }
}

/** What answers at last, after all redirections. */
async function open(begin: URL, closed: AbortSignal | undefined): Promise<IncomingMessage> {
  let url = begin;
  for (let count = 0; count <= MOST_REDIRECTIONS; count++) {
    const response = await request(url, closed);
    const { location } = response.headers;
    if (location === undefined || !REDIRECTIONS.includes(response.statusCode as number)) return response;
    response.destroy();
    // Headers are read byte by byte, and servers write UTF-8 there.
    const next = new URL(Buffer.from(location, 'latin1').toString('utf8'), url);
    // The login is for this server alone.
    if (next.origin === url.origin && next.username === '' && next.password === '') {
      next.username = url.username;
      next.password = url.password;
    }
    url = next;
  }
  throw new Error(`there are more than ${MOST_REDIRECTIONS} redirections`);
}

async function request(url: URL, closed: AbortSignal | undefined): Promise<IncomingMessage> {
  const get = url.protocol === 'https:' ? getHttps : getHttp;
  // A login in the URL becomes the header `authorization`.
  const sent = get(url, { headers: HEADERS, ...(closed !== undefined && { signal: closed }) });
  const connected = new Promise<void>((resolve, reject) => {
    sent.on('error', reject).on('socket', (socket) => {
      // One that is used again is connected already.
      if (socket.connecting) socket.once('connect', resolve);
      else resolve();
    });
  });
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    sent.on('response', resolve).on('error', reject);
  });
  // What fails before there is a connection fails both.
  answer.catch(() => {});
  await unlessLonger(LONGEST_CONNECTING, connected, sent);
  return await unlessLonger(LONGEST_SILENCE, answer, sent);
}

function packingsOf(encoding: string | undefined, name: string): Compression[] {
  const words = (encoding ?? '').toLowerCase().split(',');
  return words.flatMap((word) => {
    const packing = PACKINGS.get(word.trim());
    if (packing !== null) return packing ?? [];
    throw new KotodamaError('ERR_IO', `${name} cannot be unpacked`, {
      expected: 'the content-encoding gzip or zstd, or none',
      received: word.trim(),
      hint: 'download it first and give the file',
    });
  });
}

async function* bodyOf(response: IncomingMessage, name: string): AsyncGenerator<Uint8Array, void> {
  const pieces: AsyncIterator<Uint8Array> = response[Symbol.asyncIterator]();
  for (let received = 0; ; ) {
    const next = await unlessLonger(LONGEST_SILENCE, pieces.next(), response).catch((cause: unknown) => {
      throw new KotodamaError('ERR_IO', `${name} broke off after ${received} bytes (${reasonOf(cause)})`, {
        hint: 'try again, or download it first and give the file: it can then be continued anywhere',
        cause,
      });
    });
    if (next.done === true) return;
    received += next.value.length;
    yield next.value;
  }
}

/** Waits for a server, but not for ever. The time in which nobody waits for it does not count. */
async function unlessLonger<T>(
  milliseconds: number,
  waiting: Promise<T>,
  stream: { destroy(reason: Error): unknown },
): Promise<T> {
  const silence = new Error(`nothing came for ${milliseconds / 1000} seconds`);
  const timer = setTimeout(() => stream.destroy(silence), milliseconds);
  try {
    return await waiting;
  } finally {
    clearTimeout(timer);
  }
}

function refused(name: string, { statusCode, statusMessage = '' }: IncomingMessage): KotodamaError {
  const status = statusCode as number;
  const hints: { [status: number]: string } = {
    401: 'the server wants a password or token',
    403: 'the server does not give it to everyone',
    404: 'there is nothing at this address: check its spelling',
    429: 'the server is busy: try again later',
  };
  return new KotodamaError('ERR_IO', `${name} cannot be read`, {
    expected: 'the status 200',
    received: `${status} ${statusMessage}`.trim(),
    hint: hints[status] ?? (status >= 500 ? 'the server failed: try again later' : 'check the address'),
  });
}

/** Where several addresses of a server were tried, the error has no message of its own. */
function reasonOf(error: unknown): string {
  return messageOf(error) || String((error as NodeJS.ErrnoException).code);
}
