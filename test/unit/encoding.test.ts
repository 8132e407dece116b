import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { checkHolds, decode, ENCODINGS } from '../../dist/model/encoding.js';
import { transposed } from '../../dist/model/tensor-source.js';
import { halfToNumber, transpose } from './helpers/model-readers.js';
import { printedSeed } from './helpers/seed.js';

const seed = printedSeed(t);

/** Bits of one number when it is stored. */
function bitsOf(type: 'f16' | 'bf16', value: number): number {
  const [low = 0, high = 0] = ENCODINGS[type].encode(Float32Array.of(value));
  return low | (high << 8);
}

/** A float32 next to another, away from zero or towards it. */
function neighbour(value: number, step: 1 | -1): number {
  const words = new Uint32Array(Float32Array.of(value).buffer);
  words[0]! += step;
  return new Float32Array(words.buffer)[0]!;
}

const TYPES = {
  f16: { infinity: 0x7c00, widen: halfToNumber },
  bf16: { infinity: 0x7f80, widen: (bits: number) => decode('bf16', Uint8Array.of(bits & 0xff, bits >> 8))[0]! },
} as const;

for (const [type, { infinity, widen }] of Object.entries(TYPES) as ['f16' | 'bf16', (typeof TYPES)['f16']][]) {
  t.test(`${type}: every number, the middle between two, and just beside it`, async (t) => {
    const wrong: string[] = [];
    const check = (value: number, wanted: number) => {
      for (const sign of [0, 0x8000]) {
        const found = bitsOf(type, sign === 0 ? value : -value);
        if (found !== (wanted | sign)) wrong.push(`${value}: ${found}, not ${wanted | sign}`);
      }
    };
    for (let bits = 0; bits < infinity; bits++) {
      const [low, high] = [widen(bits), bits + 1 === infinity ? 2 * widen(bits) - widen(bits - 1) : widen(bits + 1)];
      check(low, bits);
      // Exact in float32, which has more bits than both.
      const middle = low / 2 + high / 2;
      if (Math.fround(middle) !== middle) continue;
      check(middle, bits + (bits & 1));
      check(neighbour(middle, 1), bits + 1);
      check(neighbour(middle, -1), bits);
    }
    check(Number.POSITIVE_INFINITY, infinity);
    check(3.4e38, type === 'f16' ? infinity : bitsOf('bf16', 3.4e38));
    t.same(wrong.slice(0, 5), []);
    t.ok(Number.isNaN(widen(bitsOf(type, Number.NaN))));
  });
}

t.test('bf16: a NaN of any payload stays one', async (t) => {
  const words = Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff);
  const halves = new Uint16Array(ENCODINGS.bf16.encode(new Float32Array(words.buffer)).buffer);
  for (const half of halves) t.ok((half & 0x7fff) > 0x7f80, half.toString(16));
});

t.test("q8_0: the bytes of ggml's reference", async (t) => {
  const fixture = new URL('fixtures/interchange/expected.json', import.meta.url);
  const { values, bytes } = JSON.parse(readFileSync(fixture, 'utf8')).q8;
  t.equal(Buffer.from(ENCODINGS.q8_0.encode(Float32Array.from(values))).toString('hex'), bytes);
});

t.test('q8_0: within half a step, whatever the numbers', async (t) => {
  const numbers = fc.float32Array({ minLength: 32, maxLength: 32, noNaN: true, max: 1000, min: -1000 });
  const property = fc.property(numbers, (values) => {
    const bytes = Buffer.from(ENCODINGS.q8_0.encode(values));
    const scale = halfToNumber(bytes.readUInt16LE(0));
    const largest = Math.max(...values.map(Math.abs));
    // A scale below binary16's smallest normal number is coarse, or 0.
    const step = Math.max(largest / 127, 2 ** -14);
    return values.every(
      (value, index) => Math.abs(value - scale * bytes.readInt8(2 + index)) <= 0.57 * step + 2 ** -14,
    );
  });
  t.doesNotThrow(() => fc.assert(property, { seed, numRuns: 500 }));
});

t.test('what a type cannot hold', async (t) => {
  const values = (value: number) => Float32Array.of(0, value);
  t.doesNotThrow(() => checkHolds('f16', 'a', values(65519.99)));
  t.doesNotThrow(() => checkHolds('q8_0', 'a', values(8e6)));
  t.doesNotThrow(() => checkHolds('bf16', 'a', values(3e38)));
  t.doesNotThrow(() => checkHolds('f32', 'a', values(Number.NaN)));
  for (const [type, value] of [
    ['f16', 65520],
    ['f16', -1e9],
    ['f16', Number.NaN],
    ['q8_0', 8.4e6],
    ['q8_0', Number.POSITIVE_INFINITY],
  ] as const) {
    t.throws(() => checkHolds(type, 'a', values(value)), { code: 'ERR_NON_FINITE', message: /'a'.*element 1/ });
  }
});

t.test('a matrix turned over', async (t) => {
  for (const [rows, columns] of [
    [1, 1],
    [1, 70],
    [70, 1],
    [33, 65],
    [64, 32],
  ] as const) {
    const values = Float32Array.from({ length: rows * columns }, (_, index) => index);
    t.same(Array.from(transposed(values, rows, columns)), transpose(Array.from(values), rows));
  }
});
