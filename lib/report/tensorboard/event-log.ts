import { type FileHandle, open, readdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { makeFolder } from '../../files.js';
import type { TrainEvent } from '../../train/events.js';
import { AppendLog } from '../append-log.js';
import { maskedCrc32c } from './crc32c.js';
import { fileVersion, isOurs, sessionStart, stepOf, summaryEvent } from './event.js';

/** Milliseconds that steps may wait until the disk sees them. */
const WRITE_EVERY = 1000;

/** Bytes around a record's data: its length and two CRCs. */
const HEAD = 12;
const FOOT = 4;

/** Longest record that is believed: more would be a damaged length. */
const MAX_RECORD = 2 ** 28;

/** Writes a run's events for TensorBoard: TFRecord files of Event messages. */
export class TensorBoardLog {
  /** Records since the last ones that went to the disk. */
  private waiting: Buffer[] = [];
  private writtenAt = Number.NEGATIVE_INFINITY;

  private constructor(
    private readonly log: AppendLog,
    private readonly now: () => number,
  ) {}

  /**
   * Opens a new file in `folder` for a run that stands at `step`. A resumed run repeats the steps after its checkpoint, so
   * they are cut from the files of earlier starts, and a TensorBoard that has read them is told to forget them.
   *
   * @param now milliseconds since 1970.
   */
  static async open(folder: string, step: number, now: () => number = Date.now): Promise<TensorBoardLog> {
    await makeFolder(folder);
    const names = (await readdir(folder)).filter((name) => name.startsWith('events.out.tfevents.'));
    for (const name of names) await cutAfter(join(folder, name), step);
    const file = await create(folder, now());
    const log = new TensorBoardLog(new AppendLog(file, 0), now);
    log.waiting.push(record(fileVersion(now() / 1000)));
    if (step > 0) log.waiting.push(record(sessionStart(now() / 1000, step + 1)));
    return log;
  }

  /**
   * Steps go to the disk once a second, and do not wait for it; whatever else happens does, at once.
   *
   * @throws what the disk refuses with; the event is kept, and written with the next ones.
   */
  write(event: TrainEvent): Promise<void> | undefined {
    const time = this.now();
    const content = summaryEvent(time / 1000, event);
    if (content !== undefined) this.waiting.push(record(content));
    const isStep = event.type === 'step';
    if (isStep && time - this.writtenAt < WRITE_EVERY) {
      this.log.check();
      return undefined;
    }
    this.writtenAt = time;
    try {
      this.pass();
    } catch (error) {
      if (isStep) throw error;
    }
    return isStep ? undefined : this.log.flush();
  }

  async close(): Promise<void> {
    try {
      this.pass();
    } finally {
      await this.log.close();
    }
  }

  private pass(): void {
    const bytes = Buffer.concat(this.waiting);
    this.waiting = [];
    this.log.append(bytes);
  }
}

/** An event as TFRecord files hold it: length, its CRC, data, its CRC. */
function record(data: Buffer): Buffer {
  const head = Buffer.alloc(HEAD);
  head.writeBigUInt64LE(BigInt(data.length));
  head.writeUInt32LE(maskedCrc32c(head.subarray(0, 8)), 8);
  const foot = Buffer.alloc(FOOT);
  foot.writeUInt32LE(maskedCrc32c(data));
  return Buffer.concat([head, data, foot]);
}

/** TensorBoard reads the files of a folder by their names' order, so each is named after the time. */
async function create(folder: string, time: number): Promise<FileHandle> {
  for (let number = 0; ; number++) {
    const seconds = String(Math.floor(time / 1000)).padStart(10, '0');
    const name = `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.${number}`;
    try {
      return await open(join(folder, name), 'wx');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/**
 * Cuts a file before its first event beyond `step`, or before what a crash left of a record. What another program wrote
 * stays as it is.
 */
async function cutAfter(path: string, step: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    let kept = 0;
    for (;;) {
      const head = await read(file, kept, HEAD);
      if (head === undefined || head.readUInt32LE(8) !== maskedCrc32c(head.subarray(0, 8))) break;
      const length = Number(head.readBigUInt64LE());
      const data = length > MAX_RECORD ? undefined : await read(file, kept + HEAD, length + FOOT);
      if (kept === 0 && data !== undefined && !isOurs(data)) break;
      if (data === undefined || stepOf(data.subarray(0, length)) > step) break;
      kept += HEAD + length + FOOT;
    }
    if (kept > 0) await file.truncate(kept);
  } finally {
    await file.close();
  }
}

async function read(file: FileHandle, position: number, length: number): Promise<Buffer | undefined> {
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await file.read(bytes, 0, length, position);
  return bytesRead < length ? undefined : bytes;
}
