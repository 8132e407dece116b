import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { AppendLog } from '../../dist/report/append-log.js';
import { MetricsLog } from '../../dist/report/metrics.js';
import { evalEvent, stepEvent } from './helpers/events.js';

/** A file on a disk that refuses now and then, tells when it does, and takes few bytes at a time. */
function unreliable(file: FileHandle, refuse: () => boolean, refused: () => void): FileHandle {
  return {
    write: async (bytes: Buffer, from: number, length: number, position: number) => {
      if (refuse()) {
        // A part of it may be there all the same.
        await file.write(bytes, from, Math.min(2, length), position);
        refused();
        throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
      }
      return file.write(bytes, from, Math.min(3, length), position);
    },
    close: () => file.close(),
  } as unknown as FileHandle;
}

t.test('what a disk refuses comes with the next bytes, whole and in order', async (t) => {
  const path = join(t.testdir(), 'log');
  const disk = new EventEmitter();
  let full = false;
  const file = unreliable(
    await open(path, 'w'),
    () => full,
    () => disk.emit('refused'),
  );
  const log = new AppendLog(file, 0);
  log.append(Buffer.from('first '));
  await log.flush();
  full = true;
  log.append(Buffer.from('second '));
  await t.rejects(log.flush(), { code: 'ENOSPC' });
  t.throws(() => log.append(Buffer.from('third ')), { code: 'ENOSPC' }, 'told to the next one');
  await once(disk, 'refused');
  t.throws(() => log.append(Buffer.from('fourth ')), { code: 'ENOSPC' }, 'and to all until the bytes are there');
  t.throws(() => log.check(), { code: 'ENOSPC' });
  await t.rejects(log.flush(), { code: 'ENOSPC' });
  full = false;
  t.throws(() => log.append(Buffer.from('fifth')), { code: 'ENOSPC' });
  await log.flush();
  log.check();
  t.equal(readFileSync(path, 'utf8'), 'first second third fourth fifth');
  await log.close();
});

t.test('steps do not wait for the disk, and are there in order all the same', async (t) => {
  const path = join(t.testdir(), 'metrics.jsonl');
  const log = await MetricsLog.open(path, 0);
  for (let step = 1; step <= 500; step++) t.equal(log.write(stepEvent(step)), undefined);
  await log.write(evalEvent(500, 3));
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  t.same(
    lines.map((line) => JSON.parse(line).step),
    [...Array.from({ length: 500 }, (_, index) => index + 1), 500],
  );
  log.write(stepEvent(501));
  await log.close();
  t.equal(readFileSync(path, 'utf8').trimEnd().split('\n').length, 502);
});
