import { KotodamaError, messageOf } from '../../errors.js';

/** A URL as messages and saved states may show it: without name, password and query, which can hold secrets. */
export function publicUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

/**
 * The bytes behind an http(s) URL. Redirections are followed; what the server compressed for the way is unpacked.
 *
 * @param onUnpacked called before the first bytes if that is so
 */
export async function* readUrlBytes(url: string, onUnpacked: () => void): AsyncGenerator<Uint8Array, void> {
  const name = publicUrl(url);
  const leave = new AbortController();
  try {
    const response = await fetch(url, { signal: leave.signal }).catch((cause: unknown) => {
      throw new KotodamaError('ERR_IO', `${name} cannot be reached (${reasonOf(cause)})`, {
        hint: 'check the address and the network, or download it and give the file',
        cause,
      });
    });
    if (!response.ok) throw refused(name, response);
    // The header stays when `fetch` unpacks.
    if (!['identity', null].includes(response.headers.get('content-encoding'))) onUnpacked();
    if (response.body === null) return;
    const pieces = response.body.getReader();
    for (let received = 0; ; ) {
      const { done, value } = await pieces.read().catch((cause: unknown) => {
        throw new KotodamaError('ERR_IO', `${name} broke off after ${received} bytes (${reasonOf(cause)})`, {
          hint: 'try again, or download it first and give the file: it can then be continued anywhere',
          cause,
        });
      });
      if (done) return;
      received += value.length;
      yield value;
    }
  } finally {
    leave.abort();
  }
}

function refused(name: string, { status, statusText }: Response): KotodamaError {
  const hints: { [status: number]: string } = {
    401: 'the server wants a password or token',
    403: 'the server does not give it to everyone',
    404: 'there is nothing at this address: check its spelling',
    429: 'the server is busy: try again later',
  };
  return new KotodamaError('ERR_IO', `${name} cannot be read`, {
    expected: 'the status 200',
    received: `${status} ${statusText}`.trim(),
    hint: hints[status] ?? (status >= 500 ? 'the server failed: try again later' : 'check the address'),
  });
}

/** `fetch failed` says nothing; its cause does. */
function reasonOf(error: unknown): string {
  return error instanceof Error && error.cause instanceof Error ? messageOf(error.cause) : messageOf(error);
}
