import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { GPT2, KotodamaError } from '../../dist/index.js';
import { printedSeed } from '../unit/helpers/seed.js';

const seed = printedSeed(t);

const fixtures = 'test/unit/fixtures/interchange';
const folder = t.testdir();

interface Mutation {
  kind: 'set' | 'flip' | 'insert' | 'remove' | 'cut' | 'double';
  position: number;
  byte: number;
}

/** Damage near the beginning, where a file says what it is, more often than in its numbers. */
function mutations(length: number, head: number): fc.Arbitrary<Mutation[]> {
  return fc.array(
    fc.record({
      kind: fc.constantFrom(
        'set' as const,
        'flip' as const,
        'insert' as const,
        'remove' as const,
        'cut' as const,
        'double' as const,
      ),
      position: fc.oneof({ weight: 4, arbitrary: fc.nat(head - 1) }, fc.nat(length - 1)),
      byte: fc.oneof(
        fc.nat(255),
        fc.constantFrom(0, 1, 127, 128, 255),
        fc.constantFrom(...Buffer.from('0123456789-[]{}",:.eE')),
      ),
    }),
    { minLength: 1, maxLength: 4 },
  );
}

function damage(original: Buffer, list: readonly Mutation[]): Buffer {
  let bytes = Buffer.from(original);
  for (const { kind, position, byte } of list) {
    const at = Math.min(position, bytes.length);
    const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
    if (kind === 'set' && after.length > 0) bytes[at] = byte;
    else if (kind === 'flip' && after.length > 0) bytes[at]! ^= 1 << (byte & 7);
    else if (kind === 'insert') bytes = Buffer.concat([before, Buffer.of(byte), after]);
    else if (kind === 'remove') bytes = Buffer.concat([before, after.subarray(1)]);
    else if (kind === 'cut') bytes = Buffer.from(before);
    else if (kind === 'double') bytes = Buffer.concat([before, after, after]);
  }
  return bytes;
}

/** A model is loaded and can be used, or there is an error that names the problem; nothing else happens. */
async function load(path: string): Promise<'loaded' | 'refused'> {
  let model: GPT2;
  try {
    model = await GPT2.fromPretrained(path, { device: 'cpu', threads: 1 });
  } catch (error) {
    if (error instanceof KotodamaError && error.code !== 'ERR_NATIVE') return 'refused';
    throw error;
  }
  await model.forward({ inputIds: [[0]] });
  await model.dispose();
  return 'loaded';
}

const model = join(fixtures, 'model');
const shards = join(folder, 'shards');
mkdirSync(shards);
const whole = await GPT2.fromPretrained(model, { device: 'cpu', threads: 1 });
await whole.savePretrained(shards, { maxShardBytes: 8000 });
await whole.dispose();
mkdirSync(join(folder, 'damaged'));

const cases: { name: string; source: string; file: string; head: number }[] = [
  { name: "llm.c's float32", source: join(fixtures, 'v3.bin'), file: '', head: 36 },
  { name: "llm.c's bfloat16", source: join(fixtures, 'v5.bin'), file: '', head: 36 },
  { name: 'config.json', source: model, file: 'config.json', head: 600 },
  { name: 'model.safetensors', source: model, file: 'model.safetensors', head: 2500 },
  { name: 'the index', source: shards, file: 'model.safetensors.index.json', head: 2000 },
  { name: 'one of several files', source: shards, file: 'model-00001-of-00003.safetensors', head: 800 },
];

for (const { name, source, file, head } of cases) {
  t.test(`${name}, damaged`, async (t) => {
    const path = file === '' ? join(folder, 'damaged.bin') : join(folder, 'damaged', name);
    if (file !== '') cpSync(source, path, { recursive: true });
    const target = file === '' ? path : join(path, file);
    const original = readFileSync(file === '' ? source : target);
    const count = { loaded: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(mutations(original.length, Math.min(head, original.length)), async (list) => {
        writeFileSync(target, damage(original, list));
        count[await load(path)]++;
      }),
      { numRuns: 300, seed },
    );
    t.ok(count.refused > 100, `${count.refused} refused, ${count.loaded} loaded`);
  });
}
