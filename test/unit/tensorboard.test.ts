import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { recorded } from '../../dist/report/record.js';
import { crc32c } from '../../dist/report/tensorboard/crc32c.js';
import { TensorBoardLog } from '../../dist/report/tensorboard/event-log.js';
import type { TrainEvent } from '../../dist/train/events.js';
import {
  all,
  checkpointEvent,
  endEvent,
  evalEvent,
  from,
  sampleEvent,
  startEvent,
  stepEvent,
} from './helpers/events.js';

// A reader of its own: nothing of it comes from the writer.

/** CRC-32C bit by bit, from its definition. */
function slowCrc(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const odd = (crc ^ (byte >> bit)) & 1;
      crc = (crc >>> 1) ^ (odd ? 0x82f63b78 : 0);
    }
  }
  return ~crc >>> 0;
}

function unmask(masked: number): number {
  const rotated = (masked - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}

function records(file: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at));
    if (unmask(file.readUInt32LE(at + 8)) !== slowCrc(file.subarray(at, at + 8))) throw new Error(`length at ${at}`);
    const data = file.subarray(at + 12, at + 12 + length);
    if (unmask(file.readUInt32LE(at + 12 + length)) !== slowCrc(data)) throw new Error(`data at ${at}`);
    found.push(data);
    at += 16 + length;
  }
  return found;
}

/** A record around some data. */
function framed(data: Buffer): Buffer {
  const mask = (bytes: Buffer) => {
    const crc = slowCrc(bytes);
    return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  };
  const record = Buffer.alloc(16 + data.length);
  record.writeBigUInt64LE(BigInt(data.length));
  record.writeUInt32LE(mask(record.subarray(0, 8)), 8);
  data.copy(record, 12);
  record.writeUInt32LE(mask(data), 12 + data.length);
  return record;
}

type Message = Map<number, (number | Buffer)[]>;

/** Fields of a protocol buffer message: numbers, or bytes whose meaning the caller knows. */
function parse(data: Buffer): Message {
  const message: Message = new Map();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = data[at++] as number;
      value += (byte % 128) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < data.length) {
    const key = varint();
    const field = key >> 3;
    let value: number | Buffer;
    if ((key & 7) === 0) value = varint();
    else {
      const size = { 1: 8, 2: -1, 5: 4 }[key & 7] as number;
      const length = size < 0 ? varint() : size;
      value = size === 8 ? data.readDoubleLE(at) : size === 4 ? data.readFloatLE(at) : data.subarray(at, at + length);
      at += length;
    }
    message.set(field, [...(message.get(field) ?? []), value]);
  }
  return message;
}

const one = (message: Message, field: number) => message.get(field)?.[0];
const sub = (message: Message, field: number) => parse(one(message, field) as Buffer);
const string = (message: Message, field: number) => String(one(message, field));
const doubles = (bytes: Buffer) =>
  Array.from({ length: bytes.length / 8 }, (_, index) => bytes.readDoubleLE(8 * index));

interface Seen {
  time: number;
  step: number;
  version?: string;
  session?: number;
  values: { tag: string; value: unknown }[];
}

function readValue(value: Message): unknown {
  if (value.has(2)) return one(value, 2);
  if (value.has(5)) {
    const histogram = sub(value, 5);
    const [min, max, num, sum, sumSquares] = [1, 2, 3, 4, 5].map((field) => one(histogram, field));
    const [limits, counts] = [6, 7].map((field) => doubles(one(histogram, field) as Buffer));
    return { min, max, num, sum, sumSquares, limits, counts };
  }
  const tensor = sub(value, 8);
  const size = sub(sub(tensor, 2), 2);
  const plugin = string(sub(sub(value, 9), 1), 1);
  return { dtype: one(tensor, 1), size: one(size, 1), text: string(tensor, 8), plugin };
}

function read(folder: string): Seen[][] {
  return readdirSync(folder)
    .sort()
    .map((name) =>
      records(readFileSync(join(folder, name))).map((data) => {
        const event = parse(data);
        const summary = event.has(5) ? sub(event, 5) : new Map();
        return {
          time: one(event, 1) as number,
          step: (one(event, 2) ?? 0) as number,
          ...(event.has(3) && { version: string(event, 3) }),
          ...(event.has(7) && { session: one(sub(event, 7), 1) as number }),
          values: (summary.get(1) ?? []).map((bytes: Buffer) => {
            const value = parse(bytes);
            return { tag: string(value, 1), value: readValue(value) };
          }),
        };
      }),
    );
}

async function write(folder: string, step: number, events: TrainEvent[], seconds: number): Promise<void> {
  const log = await TensorBoardLog.open(folder, step, () => 1000 * seconds);
  for (const event of events) await log.write(event);
  await log.close();
}

t.test('CRC-32C: the examples of RFC 3720, and the definition', async (t) => {
  // Section B.4: 32 zeros, 32 ones, 0 to 31, 31 to 0; the check value of the polynomial's catalogue.
  t.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  t.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  t.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e);
  t.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => 31 - index)), 0x113fdb5c);
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => crc32c(bytes) === slowCrc(bytes)));
});

t.test('what TensorBoard is told of a run', async (t) => {
  const folder = join(t.testdir(), 'tensorboard');
  const gradient = { name: 'transformer.wte.weight', min: -1, max: 2, sum: 3.5, sumOfSquares: 9, counts: [4, 0, 2] };
  const flat = { name: 'zero', min: 0, max: 0, sum: 0, sumOfSquares: 0, counts: [7, 0, 0] };
  const events: TrainEvent[] = [
    startEvent(),
    stepEvent(1, { loss: 7.5 }),
    { type: 'gradients', step: 1, tensors: [gradient, flat] },
    evalEvent(300, 4),
    sampleEvent(300, 'one\ntwo 言霊', 'p: '),
    checkpointEvent(300),
    endEvent(300),
  ];
  await write(folder, 0, events, 1_700_000_000.25);
  const [name] = readdirSync(folder);
  t.match(name, /^events\.out\.tfevents\.1700000000\./);
  const [seen] = read(folder);
  t.equal(seen[0].version, 'brain.Event:2');
  t.ok(seen.every(({ time }) => time === 1_700_000_000.25));
  t.notOk(seen.some(({ session }) => session !== undefined));
  const [, start, step, gradients, evaluation, sample] = seen;
  t.equal(seen.length, 6, 'the version, and an event for each that has something to show');
  t.match(start, { step: 0, values: [{ tag: 'configuration', value: { plugin: 'text', dtype: 7, size: 1 } }] });
  t.match((start.values[0].value as { text: string }).text, /^ {4}\{\n {6}"device": \{/);
  t.equal(step.step, 1);
  t.same(Object.fromEntries(step.values.map(({ tag, value }) => [tag, value])), {
    'loss/training': 7.5,
    'optimizer/learning_rate': Math.fround(6e-4),
    'optimizer/gradient_norm': Math.fround(1.234),
    'speed/tokens_per_second': 3072,
    'speed/data_wait_share': 0.25,
    'speed/step_seconds': 2,
  });
  t.same(gradients.values, [
    {
      tag: 'gradients/transformer.wte.weight',
      value: { min: -1, max: 2, num: 6, sum: 3.5, sumSquares: 9, limits: [0, 1, 2], counts: [4, 0, 2] },
    },
    { tag: 'gradients/zero', value: { min: 0, max: 0, num: 7, sum: 0, sumSquares: 0, limits: [5e-324], counts: [7] } },
  ]);
  t.match(evaluation, { step: 300, values: [{ tag: 'loss/validation', value: 4 }, { tag: 'perplexity/validation' }] });
  t.same(sample.values, [
    { tag: 'samples', value: { dtype: 7, size: 1, text: '    p: one\n    two 言霊', plugin: 'text' } },
  ]);
});

t.test('a resumed run: no step twice, earlier ones stay, and TensorBoard is told where it goes on', async (t) => {
  const folder = join(t.testdir(), 'tensorboard');
  const steps = (first: number, last: number) =>
    Array.from({ length: last - first + 1 }, (_, index) => stepEvent(first + index, { loss: first + index }));
  await write(folder, 0, [startEvent(), ...steps(1, 400)], 100);
  await write(folder, 250, [startEvent(250), ...steps(251, 300)], 100);
  const [name] = readdirSync(folder).sort();
  appendFileSync(join(folder, name), Buffer.from('half a record of a run that was killed'));
  await write(folder, 270, [startEvent(270), ...steps(271, 280)], 300);
  const files = read(folder);
  t.equal(files.length, 3);
  t.same(
    files.map((events) => events.find(({ session }) => session === 1)?.step),
    [undefined, 251, 271],
  );
  const losses = files.flat().filter(({ values }) => values[0]?.tag === 'loss/training');
  t.same(
    losses.map(({ step, values }) => [step, values[0].value]),
    Array.from({ length: 280 }, (_, index) => [index + 1, index + 1]),
  );
});

t.test('event files of other programs stay as they are', async (t) => {
  const folder = join(t.testdir(), 'tensorboard');
  await write(folder, 0, [startEvent(), stepEvent(1), stepEvent(2)], 100);
  const [name] = readdirSync(folder);
  const [version, ...events] = records(readFileSync(join(folder, name)));
  // PyTorch's writer does not say its name; the last one is no event file at all.
  const others = {
    'events.out.tfevents.1.torch.0': Buffer.concat([version.subarray(0, 24), ...events].map(framed)),
    'events.out.tfevents.2.text.0': Buffer.from('a text of somebody who liked the name of the file'),
    'events.out.tfevents.3.empty.0': Buffer.alloc(0),
  };
  for (const [other, content] of Object.entries(others)) writeFileSync(join(folder, other), content);
  await write(folder, 1, [startEvent(1), stepEvent(2)], 200);
  for (const [other, content] of Object.entries(others)) {
    t.ok(readFileSync(join(folder, other)).equals(content), other);
  }
  t.equal(records(readFileSync(join(folder, name))).length, 3, 'ours has lost its second step');
});

t.test('steps reach the disk within a second, everything else at once', async (t) => {
  const folder = join(t.testdir(), 'tensorboard');
  let now = 0;
  const log = await TensorBoardLog.open(folder, 0, () => now);
  const count = () => read(folder)[0].length;
  await log.write(startEvent());
  t.equal(count(), 2);
  for (now = 100; now <= 900; now += 100) await log.write(stepEvent(now / 100));
  t.equal(count(), 2);
  now = 1000;
  await log.write(stepEvent(10));
  // Nobody waits for the disk here: the bytes are on their way.
  for (let wait = 0; wait < 500 && count() < 12; wait++) await sleep(10);
  t.equal(count(), 12);
  await log.write(stepEvent(11));
  await log.write(evalEvent(11, 3));
  t.equal(count(), 14);
  await log.write(stepEvent(12));
  await log.close();
  t.equal(count(), 15);
});

t.test('a run is recorded for TensorBoard on request', async (t) => {
  const out = t.testdir();
  await all(recorded(from([startEvent(), stepEvent(1), endEvent(1)]), out, { tensorboard: true }));
  t.equal(read(join(out, 'tensorboard'))[0].length, 3);
});
