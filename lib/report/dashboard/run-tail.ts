import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEvent } from '../metrics.js';
import type { LiveRun } from './live-run.js';

/** Bytes that are read at once. */
const CHUNK = 2 ** 20;
const NEWLINE = 0x0a;

/** Reads what another process appends to a run's `metrics.jsonl`. */
export class RunTail {
  private position = 0;
  /** The beginning of a line whose end is not there yet. */
  private rest = Buffer.alloc(0);

  constructor(
    private readonly folder: string,
    private readonly run: LiveRun,
  ) {}

  /** Reads what is new. A run that was resumed has cut what it repeats: it is read again from the start. */
  async poll(): Promise<void> {
    const file = await open(join(this.folder, 'metrics.jsonl'), 'r').catch(() => undefined);
    if (file === undefined) return;
    try {
      const { size, mtimeMs } = await file.stat();
      if (size < this.position) this.restart();
      if (await this.read(file, mtimeMs)) return;
      // In the middle of a line that was not there before: the past has changed. Or a line is damaged, and left out.
      this.restart();
      await this.read(file, mtimeMs, true);
    } finally {
      await file.close();
    }
  }

  private restart(): void {
    this.position = 0;
    this.rest = Buffer.alloc(0);
    this.run.reset();
  }

  /** Reads to the end of the file; false at a line that is no event, unless these are to be left out. */
  private async read(file: FileHandle, writtenAt: number, leaveOut = false): Promise<boolean> {
    const buffer = Buffer.alloc(CHUNK);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK, this.position);
      if (bytesRead === 0) return true;
      this.position += bytesRead;
      let text = Buffer.concat([this.rest, buffer.subarray(0, bytesRead)]);
      for (let end = text.indexOf(NEWLINE); end >= 0; end = text.indexOf(NEWLINE)) {
        const event = parseEvent(text.toString('utf8', 0, end));
        if (event !== undefined) this.run.add(event, writtenAt);
        else if (!leaveOut) return false;
        text = text.subarray(end + 1);
      }
      this.rest = text;
    }
  }
}
