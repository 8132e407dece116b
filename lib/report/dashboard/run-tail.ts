import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { METRICS_FILE } from '../../train/run-folder.js';
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
  /** The file as the last look found it. */
  private seen = { size: -1, mtimeMs: -1 };

  constructor(
    private readonly folder: string,
    private readonly run: LiveRun,
  ) {}

  /**
   * Reads what is new. A run that was resumed has cut what it repeats: it is read again from the start.
   *
   * @throws what the file cannot be read for; one that is not there is none yet. May be called again.
   */
  async poll(): Promise<void> {
    const path = join(this.folder, METRICS_FILE);
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (found === undefined) return;
    const { size, mtimeMs } = found;
    // Most runs of a folder are over.
    if (size === this.seen.size && mtimeMs === this.seen.mtimeMs) return;
    const file = await open(path, 'r');
    try {
      if (size < this.position) this.restart();
      if (!(await this.read(file, mtimeMs))) {
        // In the middle of a line that was not there before: the past has changed. Or a line is damaged, and left out.
        this.restart();
        await this.read(file, mtimeMs, true);
      }
      this.seen = { size, mtimeMs };
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
      const from = this.position;
      const { bytesRead } = await file.read(buffer, 0, CHUNK, from);
      if (bytesRead === 0) return true;
      // Where an error lets only a part be taken in, the next look begins anew.
      this.position = Number.POSITIVE_INFINITY;
      let text = Buffer.concat([this.rest, buffer.subarray(0, bytesRead)]);
      for (let end = text.indexOf(NEWLINE); end >= 0; end = text.indexOf(NEWLINE)) {
        const event = parseEvent(text.toString('utf8', 0, end));
        if (event !== undefined) this.run.add(event, writtenAt);
        else if (!leaveOut) return false;
        text = text.subarray(end + 1);
      }
      this.rest = text;
      this.position = from + bytesRead;
    }
  }
}
