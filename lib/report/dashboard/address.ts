import { hostname } from 'node:os';

/** Where a dashboard is served unless someone says otherwise. */
export const DASHBOARD_PORT = 7788;

/**
 * Whether a request's Host names this server by an address or by a name of this machine. A page of another site can make a
 * browser send requests here, through a name of its own that leads to this address (DNS rebinding), and then has that name
 * in Host; it cannot have an address there.
 *
 * @param host what the server was told to listen on.
 */
export function isOwnHost(header: string | undefined, host: string): boolean {
  const name = /^(\[[\da-f:.]+\]|[^:]+)(:\d+)?$/i.exec(header ?? '')?.[1]?.toLowerCase();
  if (name === undefined) return false;
  const isAddress = /^\d{1,3}(\.\d{1,3}){3}$/.test(name) || name.startsWith('[');
  // With .local others of the same network ask for this machine (RFC 6762).
  const [machine = ''] = hostname().toLowerCase().split('.');
  return isAddress || ['localhost', hostname().toLowerCase(), `${machine}.local`, host.toLowerCase()].includes(name);
}

/** Whether a request may come from where it says: from a page of this server, or from no page at all. */
export function isOwnOrigin(origin: string | undefined, host: string | undefined, site: string | undefined): boolean {
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
  return origin === undefined || origin === `http://${host}` || origin === `https://${host}`;
}
