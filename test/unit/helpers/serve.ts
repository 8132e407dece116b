import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Serves until the test ends; gives the address without a path. */
export async function serve(
  t: { teardown(handler: () => void): void },
  listener: RequestListener,
  host = '127.0.0.1',
): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((listening) => server.listen(0, host, listening));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://${host}:${(server.address() as AddressInfo).port}`;
}
