import { createGunzip, type Gunzip } from 'node:zlib';

/** Bytes given to zlib at a time: they become at most about a thousand times as many, which is what is held at once. */
const PIECE = 8 * 1024;

/**
 * Unpacks gzip data (RFC 1952), also of several members. What was unpacked before a failure comes first.
 *
 * @throws Error of zlib when the data is damaged or cut off
 */
export async function* gunzip(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const zlib = createGunzip({ chunkSize: 128 * 1024 });
  let unpacked: Uint8Array[] = [];
  zlib.on('data', (piece: Uint8Array) => unpacked.push(piece));
  // Each step hears of its failure itself; without a listener the stream would end the process.
  zlib.on('error', () => {});
  const take = () => {
    const taken = unpacked;
    unpacked = [];
    return taken;
  };
  try {
    for await (const piece of pieces) {
      for (let start = 0; start < piece.length; start += PIECE) {
        const failure = await settle(zlib, (done) => zlib.write(piece.subarray(start, start + PIECE), done));
        yield* take();
        if (failure !== undefined) throw failure;
      }
    }
    // Padding after the data has ended the stream before.
    const end = (done: () => void) => (zlib.readableEnded ? done() : zlib.once('end', done).end());
    const failure = await settle(zlib, end);
    yield* take();
    if (failure !== undefined) throw failure;
  } finally {
    zlib.destroy();
  }
}

/** Waits until a step is done; gives the failure if it failed. */
function settle(zlib: Gunzip, step: (done: (error?: Error | null) => void) => void): Promise<Error | undefined> {
  return new Promise((resolve) => {
    zlib.once('error', resolve);
    step((error) => {
      zlib.off('error', resolve);
      resolve(error ?? undefined);
    });
  });
}
