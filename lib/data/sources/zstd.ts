import { Decompress } from 'fzstd';

/** Unpacks Zstandard data (RFC 8878), also of several frames. What was unpacked before a failure comes first. */
export async function* unzstd(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let unpacked: Uint8Array[] = [];
  const stream = new Decompress((piece) => unpacked.push(piece));
  for await (const piece of pieces) {
    stream.push(piece);
    yield* unpacked;
    unpacked = [];
  }
  stream.push(new Uint8Array(0), true);
}
