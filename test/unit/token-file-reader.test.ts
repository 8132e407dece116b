import { truncateSync } from 'node:fs';
import t from 'tap';
import { encodeHeader, inspectTokenFile } from '../../dist/data/token-file.js';
import { TokenFileReader } from '../../dist/data/token-file-reader.js';
import { temporaryFile } from './helpers/blocks.js';

const IDS = Uint16Array.from({ length: 1000 }, (_, index) => (index * 7) % 900);
const fileOf = (ids: Uint16Array) =>
  temporaryFile(Buffer.concat([encodeHeader('uint16', ids.length), new Uint8Array(ids.buffer)]), 'a.bin');

/** A clock for which every read takes so many milliseconds, and the number of times it was looked at. */
function clockOf(each: number) {
  const clock = { looks: 0, now: () => each * ++clock.looks };
  return clock;
}

t.test('what comes late is read in other threads for a while, and is the same', async (t) => {
  const files = [await inspectTokenFile(fileOf(IDS.slice(0, 300))), await inspectTokenFile(fileOf(IDS.slice(300)))];
  const firsts = [900, 0, 290, 555];
  const expected = Int32Array.from(firsts.flatMap((first) => [...IDS.subarray(first, first + 40)]));
  for (const each of [0.01, 1]) {
    const clock = clockOf(each);
    const reader = new TokenFileReader(files, 1000, clock.now);
    const looks: number[] = [];
    for (let call = 0; call < 40; call++) {
      const before = clock.looks;
      const target = new Int32Array(expected.length);
      t.same(await reader.read(firsts, 40, target), new Array(4).fill(undefined));
      t.same(target, expected);
      looks.push((clock.looks - before) / 2);
    }
    // The range at 290 lies in both files, which makes five reads.
    const patient = [2, ...new Array(32).fill(0), 2, ...new Array(6).fill(0)];
    t.same(looks, each < 0.2 ? new Array(40).fill(5) : patient, `${each} ms each`);
    await reader.close();
  }
});

t.test('a file that became shorter, and one that is gone, in either way', async (t) => {
  for (const each of [0.01, 1]) {
    const [short, gone] = [await inspectTokenFile(fileOf(IDS)), await inspectTokenFile(fileOf(IDS))];
    const reader = new TokenFileReader([short, { ...gone, path: `${gone.path}.not` }], 1000, clockOf(each).now);
    truncateSync(short.path, 1024 + 2 * 500);
    const target = new Int32Array(60);
    const failures = await reader.read([0, 10, 20, 480, 490, 1500], 10, target);
    t.same(failures.slice(0, 3), [undefined, undefined, undefined]);
    t.same(failures[3], undefined, 'up to the new end');
    t.same(target.subarray(0, 10), IDS.subarray(0, 10));
    t.match((await reader.read([0, 10, 20, 495], 10, target))[3], { code: 'ERR_DATA', message: /became shorter/ });
    t.match(failures[5], { code: 'ERR_IO', message: /cannot be read/ });
    await reader.close();
  }
});

t.test('other work gets its turn between two calls', async (t) => {
  const reader = new TokenFileReader([await inspectTokenFile(fileOf(IDS))], 1000);
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  // Reads are counted, not milliseconds: those may all go by in one turn when the machine is busy.
  for (let reads = 0; turns <= 5 && reads < 10_000; reads++) await reader.read([0], 10, new Int32Array(10));
  clearInterval(timer);
  t.ok(turns > 5, `${turns} turns`);
  await reader.close();
});
