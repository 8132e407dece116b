import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { KotodamaError } from '../../dist/errors.js';
import { SafetensorsFile, writeSafetensors } from '../../dist/model/safetensors.js';

const fixtures = 'test/unit/fixtures/model-files';
const folder = await mkdtemp(join(tmpdir(), 'kotodama-safetensors-'));
t.teardown(() => rm(folder, { recursive: true }));

/** A file with this header and so many data bytes; `length` may lie. */
function file(header: unknown, dataBytes: number, length?: bigint): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.length));
  return Buffer.concat([prefix, json, Buffer.alloc(dataBytes)]);
}

const POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 548105171\n`;

async function openBytes(bytes: Uint8Array): Promise<SafetensorsFile> {
  const path = join(folder, 'case.safetensors');
  await writeFile(path, bytes);
  return SafetensorsFile.open(path);
}

function f32(shape: unknown, begin: unknown, end: unknown) {
  return { dtype: 'F32', shape, data_offsets: [begin, end] };
}

t.test('refuses what breaks the format, and names it', async (t) => {
  const cases: [string, Uint8Array, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /file size.*received 0/],
    ['a file of 7 bytes', Buffer.alloc(7), /file size/],
    ['a header longer than the file', file({}, 0, 3n), /length of the header/],
    ['a header of 2^64 - 1 bytes', file({}, 0, 2n ** 64n - 1n), /received 18446744073709551615/],
    ['a header that is not JSON', file('{"a":', 0), /JSON in UTF-8/],
    ['a header that is not UTF-8', Buffer.concat([file('', 0, 4n), Buffer.from([0x22, 0xff, 0xfe, 0x22])]), /UTF-8/],
    ['a pointer of Git LFS', Buffer.from(POINTER), /is a pointer of Git LFS.*\n.*git lfs pull/],
    ['an empty header', file('', 0), /JSON/],
    ['a header that is an array', file([], 0), /a JSON object/],
    ['a header that is null', file('null', 0), /a JSON object/],
    ['an entry that is a number', file({ a: 1 }, 0), /tensor 'a'.*object.*received 1/],
    ['metadata that is not strings', file({ __metadata__: { a: 1 } }, 0), /metadata 'a'/],
    ['an unknown type', file({ a: { ...f32([1], 0, 4), dtype: 'F31' } }, 4), /dtype of tensor 'a'.*'F31'/],
    ['a type of the prototype', file({ a: { ...f32([1], 0, 4), dtype: 'toString' } }, 4), /dtype of tensor 'a'/],
    ['a missing type', file({ a: { shape: [1], data_offsets: [0, 4] } }, 4), /dtype of tensor 'a'/],
    ['a negative size', file({ a: f32([-1], 0, 4) }, 4), /shape of tensor 'a'/],
    ['a size with a fraction', file({ a: f32([0.5], 0, 2) }, 2), /shape of tensor 'a'/],
    ['a shape that is a string', file({ a: f32('1', 0, 4) }, 4), /shape of tensor 'a'/],
    ['sizes whose product overflows', file({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4), /bytes of tensor 'a'/],
    ['three offsets', file({ a: { ...f32([1], 0, 4), data_offsets: [0, 4, 4] } }, 4), /data_offsets of tensor 'a'/],
    ['a negative offset', file({ a: f32([1], -4, 0) }, 4), /data_offsets of tensor 'a'/],
    ['offsets in reverse', file({ a: f32([1], 4, 0) }, 4), /data_offsets of tensor 'a'.*received 4 and 0/],
    ['an end beyond the file', file({ a: f32([2], 0, 8) }, 4), /data_offsets of tensor 'a'.*4 \(bytes in the file\)/],
    ['fewer bytes than the shape needs', file({ a: f32([2], 0, 4) }, 4), /bytes of tensor 'a'.*expected 8.*received 4/],
    ['overlapping tensors', file({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12), /tensor 'b' overlaps/],
    ['the same bytes twice', file({ a: f32([1], 0, 4), b: f32([1], 0, 4) }, 4), /tensor 'b' overlaps/],
    ['a gap between tensors', file({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), /tensor 'b' leaves a gap/],
    ['bytes that belong to nobody', file({ a: f32([1], 0, 4) }, 8), /bytes after the header.*expected 4.*received 8/],
  ];
  for (const [name, bytes, message] of cases) {
    await t.rejects(openBytes(bytes), { code: 'ERR_MODEL_FILE', message }, name);
  }
  await t.rejects(SafetensorsFile.open(join(folder, 'nowhere')), { code: 'ERR_IO', message: /nowhere.*ENOENT/ });
  await t.rejects(SafetensorsFile.open(folder), { code: 'ERR_IO', message: /EISDIR/ });
});

t.test('reads an empty file, empty tensors and scalars', async (t) => {
  const empty = await openBytes(file({}, 0));
  t.equal(empty.tensors.size, 0);
  await t.rejects(empty.read('a'), { code: 'ERR_MODEL_FILE', message: /no tensor 'a'/ });
  await empty.close();
  const odd = await openBytes(file({ none: f32([0, 3], 0, 0), one: f32([], 0, 4), __proto__: {} }, 4));
  t.same(await odd.read('none'), new Float32Array(0));
  t.same(await odd.read('one'), new Float32Array(1));
  await odd.close();
});

t.test('tells a type that it cannot read from the others', async (t) => {
  const opened = await openBytes(file({ a: { dtype: 'I64', shape: [1], data_offsets: [0, 8] } }, 8));
  await t.rejects(opened.read('a'), { code: 'ERR_MODEL_FILE', message: /type of tensor 'a'.*F32, F16, BF16.*I64/ });
  await opened.close();
  const double = await openBytes(file({ a: { dtype: 'F64', shape: [1], data_offsets: [0, 8] } }, 8));
  await t.rejects(double.read('a'), { code: 'ERR_MODEL_FILE', message: /received F64\n.*float\(\)/ });
  await double.close();
});

t.test('widens F16 and BF16 exactly', async (t) => {
  // Every binary16 there is, widened by the definition of IEEE 754.
  const halves = Uint16Array.from({ length: 2 ** 16 }, (_, index) => index);
  const bytes = Buffer.from(halves.buffer);
  for (const dtype of ['F16', 'BF16']) {
    const header = { a: { dtype, shape: [2 ** 16], data_offsets: [0, 2 ** 17] } };
    const opened = await openBytes(Buffer.concat([file(header, 0), bytes]));
    const values = await opened.read('a');
    await opened.close();
    const [exponentBits, fractionBits] = dtype === 'F16' ? [5, 10] : [8, 7];
    const bias = 2 ** (exponentBits - 1) - 1;
    const wrong = halves.findIndex((half, index) => {
      const sign = half >> 15 === 1 ? -1 : 1;
      const exponent = (half >> fractionBits) & (2 ** exponentBits - 1);
      const fraction = half & (2 ** fractionBits - 1);
      const special = fraction === 0 ? sign * Infinity : Number.NaN;
      const normal = sign * 2 ** (exponent - bias) * (1 + fraction / 2 ** fractionBits);
      const subnormal = sign * 2 ** (1 - bias) * (fraction / 2 ** fractionBits);
      const expected = exponent === 2 ** exponentBits - 1 ? special : exponent === 0 ? subnormal : normal;
      return !Object.is(values[index], expected);
    });
    t.equal(wrong, -1, dtype);
  }
});

t.test('writes what it reads, in the bytes of the format', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.record({ name: fc.string(), shape: fc.array(fc.nat(4), { maxLength: 3 }) }), {
        selector: ({ name }) => name,
        maxLength: 5,
      }),
      fc.dictionary(fc.string(), fc.string()),
      async (specifications, metadata) => {
        const own = specifications.filter(({ name }) => name !== '__metadata__' && name !== '__proto__');
        const tensors = own.map(({ name, shape }, index) => {
          const values = new Float32Array(shape.reduce((a, b) => a * b, 1)).map((_, i) => index + i / 7);
          return { name, shape, values, read: async () => values };
        });
        Reflect.deleteProperty(metadata, '__proto__');
        const path = join(folder, 'written.safetensors');
        await writeSafetensors(path, tensors, metadata);
        const bytes = await readFile(path);
        t.equal(bytes.readBigUInt64LE() % 8n, 0n, 'tensor data is aligned to 8 bytes');
        const opened = await SafetensorsFile.open(path);
        t.same(opened.metadata, metadata);
        t.same([...opened.tensors.keys()].sort(), tensors.map(({ name }) => name).sort());
        for (const { name, shape, values } of tensors) {
          t.same(opened.tensors.get(name)?.shape, shape);
          t.same(await opened.read(name), values);
        }
        await opened.close();
      },
    ),
    { numRuns: 50 },
  );
});

t.test('a failed write leaves the old file and nothing else', async (t) => {
  const inner = await mkdtemp(join(folder, 'inner-'));
  const path = join(inner, 'a.safetensors');
  const good = { name: 'a', shape: [2], read: () => Float32Array.of(1, 2) };
  await writeSafetensors(path, [good]);
  const before = await readFile(path);
  await t.rejects(writeSafetensors(path, [{ ...good, read: () => Float32Array.of(1) }]), { code: 'ERR_MODEL_FILE' });
  const failing = { ...good, read: () => Promise.reject(new Error('no values')) };
  await t.rejects(writeSafetensors(path, [good, { ...failing, name: 'b' }]), { message: /no values/ });
  t.same(await readFile(path), before);
  t.same(await readdir(inner), ['a.safetensors']);
  await t.rejects(writeSafetensors(join(inner, 'none', 'a'), [good]), { code: 'ERR_IO', hint: 'check the path' });
});

t.test('a mutated file is either read or refused with its name, never anything else', async (t) => {
  const original = await readFile(join(fixtures, 'hf-f16/model.safetensors'));
  const headerEnd = 8 + Number(original.readBigUInt64LE());
  const mutation = fc.record({
    // Most damage goes to the header: a flipped data byte is just another number.
    position: fc.oneof({ weight: 9, arbitrary: fc.nat(headerEnd) }, fc.nat(original.length - 1)),
    byte: fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('0123456789-[]{}",:eE.'))),
    kind: fc.constantFrom('set', 'insert', 'remove', 'cut'),
  });
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (mutations) => {
      let bytes = Buffer.from(original);
      for (const { position, byte, kind } of mutations) {
        if (kind === 'set') bytes[Math.min(position, bytes.length - 1)] = byte;
        else if (kind === 'cut') bytes = bytes.subarray(0, Math.max(1, position));
        else {
          const rest = bytes.subarray(kind === 'remove' ? position + 1 : position);
          bytes = Buffer.concat([bytes.subarray(0, position), Buffer.from(kind === 'insert' ? [byte] : []), rest]);
        }
      }
      try {
        const opened = await openBytes(bytes);
        try {
          for (const name of opened.tensors.keys()) await opened.read(name);
        } finally {
          await opened.close();
        }
      } catch (error) {
        if (!(error instanceof KotodamaError) || error.code !== 'ERR_MODEL_FILE') throw error;
        if (!error.message.includes('case.safetensors')) throw error;
        refused++;
      }
    }),
    { numRuns: 1000 },
  );
  t.ok(refused > 500, `refused ${refused} of 1000`);
});
