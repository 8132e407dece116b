import type { FileHandle } from 'node:fs/promises';

/**
 * Appends to a file while the caller goes on: nobody waits for the disk but those who flush. Bytes that the disk refuses are
 * kept and written again with the next ones, at the same place, so that nothing is left there in part.
 */
export class AppendLog {
  private waiting: Buffer[] = [];
  private writing: Promise<void> | undefined;
  /** What the disk refuses with, until it takes the bytes. */
  private refusal: unknown;

  /** @param position where the first byte goes. */
  constructor(
    private readonly file: FileHandle,
    private position: number,
  ) {}

  /** @throws what the disk refused earlier bytes with that are not there yet; these are kept all the same. */
  append(bytes: Buffer): void {
    this.waiting.push(bytes);
    this.write();
    this.check();
  }

  /** @throws what the disk refused bytes with that are not there yet. */
  check(): void {
    if (this.refusal !== undefined) throw this.refusal;
  }

  /** Waits until everything is with the system. @throws what the disk refuses with. */
  async flush(): Promise<void> {
    await this.writing;
    await this.write();
    this.check();
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.file.close();
    }
  }

  private write(): Promise<void> {
    this.writing ??= this.drain().finally(() => {
      this.writing = undefined;
    });
    return this.writing;
  }

  private async drain(): Promise<void> {
    while (this.waiting.length > 0) {
      const bytes = Buffer.concat(this.waiting);
      this.waiting = [];
      try {
        for (let done = 0; done < bytes.length; ) {
          done += (await this.file.write(bytes, done, bytes.length - done, this.position + done)).bytesWritten;
        }
        this.position += bytes.length;
        this.refusal = undefined;
      } catch (error) {
        this.waiting.unshift(bytes);
        this.refusal = error;
        return;
      }
    }
  }
}
