import type { FileHandle } from 'node:fs/promises';

/**
 * Appends to a file while the caller goes on: nobody waits for the disk but those who flush. Bytes that the disk refuses are
 * kept and written again with the next ones, at the same place, so that nothing is left there in part.
 */
export class AppendLog {
  private waiting: Buffer[] = [];
  private writing: Promise<void> | undefined;
  private refusal: unknown;

  /** @param position where the first byte goes. */
  constructor(
    private readonly file: FileHandle,
    private position: number,
  ) {}

  /** @throws what the disk refused earlier with; these bytes are kept all the same. */
  append(bytes: Buffer): void {
    this.waiting.push(bytes);
    const { refusal } = this;
    this.refusal = undefined;
    this.write();
    if (refusal !== undefined) throw refusal;
  }

  /** Waits until everything is with the system. @throws what the disk refuses with. */
  async flush(): Promise<void> {
    await this.writing;
    this.refusal = undefined;
    await this.write();
    const refusal: unknown = this.refusal;
    this.refusal = undefined;
    if (refusal !== undefined) throw refusal;
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
      } catch (error) {
        this.waiting.unshift(bytes);
        this.refusal = error;
        return;
      }
    }
  }
}
