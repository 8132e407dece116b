import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { XxHash64 } from '../../dist/data/sources/xxhash64.js';
import { unzstd } from '../../dist/data/sources/zstd.js';
import { ZstdError } from '../../dist/data/sources/zstd-tables.js';
import { temporaryFile } from './helpers/blocks.js';
import { textsAndFailure } from './helpers/sources.js';

const fixture = (name: string) => readFileSync(fileURLToPath(new URL(`./fixtures/sources/${name}`, import.meta.url)));

function hashOf(...pieces: Uint8Array[]): string {
  const hash = new XxHash64();
  for (const piece of pieces) hash.update(piece);
  return hash.low().toString(16).padStart(8, '0');
}

/** What make_fixtures.py has packed to learn the checksums of the zstd program. */
const CONTENT = Uint8Array.from({ length: 300_001 }, (_, i) => (i * i + (i >> 3)) & 255);
const CHECKSUMS = JSON.parse(fixture('checksums.json').toString()) as { [length: string]: string };

t.test('the low half of XXH64: published values, and what zstd has for every length', async (t) => {
  // Of the 64 bits ef46db3751d8e999, d24ec4f1a98c6e5b, 44bc2cf5ad770999 and fbcea83c8a378bf1.
  t.equal(hashOf(), '51d8e999');
  t.equal(hashOf(Buffer.from('a')), 'a98c6e5b');
  t.equal(hashOf(Buffer.from('abc')), 'ad770999');
  t.equal(hashOf(Buffer.from('Nobody inspects the spammish repetition')), '8a378bf1');
  for (const [length, expected] of Object.entries(CHECKSUMS)) {
    t.equal(hashOf(CONTENT.subarray(0, Number(length))), expected, `${length} bytes`);
  }
});

t.test('the pieces of the bytes, and where they lie in memory, do not matter', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(100)), (cuts) => {
      let at = 0;
      const pieces = [];
      for (const length of cuts) {
        pieces.push(CONTENT.subarray(at, at + length));
        at += length;
      }
      return hashOf(...pieces) === hashOf(CONTENT.slice(0, at));
    }),
  );
});

async function unpacked(bytes: Uint8Array): Promise<Buffer> {
  async function* pieces() {
    yield bytes;
  }
  const parts = [];
  for await (const part of unzstd(pieces())) parts.push(part);
  return Buffer.concat(parts);
}

t.test('a bit that flips in a frame with a checksum is refused, or changes nothing', async (t) => {
  for (const [name, step] of [
    ['texts.jsonl', 1],
    ['lines-19.txt', 661],
    ['lines-sized.txt', 661],
  ] as const) {
    const whole = fixture(`${name}.zst`);
    const content = await unpacked(whole);
    let [flips, unchanged] = [0, 0];
    for (let bit = 0; bit < whole.length * 8; bit += step, flips++) {
      const damaged = Uint8Array.from(whole);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const found = await unpacked(damaged).catch((error: unknown) => error);
      if (found instanceof ZstdError) continue;
      t.ok(found instanceof Buffer && found.equals(content), `${name}: bit ${bit}`);
      unchanged++;
    }
    t.ok(unchanged < flips / 20, `${name}: ${unchanged} of ${flips} without effect`);
  }
});

t.test('the message names both checksums, and text before it still comes', async (t) => {
  const damaged = Uint8Array.from(fixture('texts.jsonl.zst'));
  damaged[damaged.length - 1]! ^= 1;
  const { texts, failure } = await textsAndFailure(temporaryFile(damaged, 'a.jsonl.zst'));
  t.equal(texts.length, 60);
  t.match(failure, { code: 'ERR_DATA', message: /a frame has the checksum [0-9a-f]{8}, and its content [0-9a-f]{8}/ });
});
