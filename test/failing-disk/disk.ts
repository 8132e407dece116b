import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';

/** What happens at the chosen call; the numbers are those of shim.cc. */
export const MODES = { once: 0, forever: 1, kill: 2, short: 3 } as const;

export type Mode = keyof typeof MODES;

/** Compiles shim.cc into `folder`. */
export function buildShim(folder: string): string {
  const library = join(folder, 'failing-disk.so');
  const words = ['-std=c++17', '-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-o', library];
  const { status, stderr } = spawnSync('c++', [...words, 'test/failing-disk/shim.cc', '-ldl'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the shim does not compile:\n${stderr}`);
  return library;
}

/** A folder whose disk can be told to fail in the programs that run with `env`. */
export class FailingDisk {
  readonly env: { [name: string]: string };
  readonly control: string;

  /** @param folder absolute; made when it is missing. */
  constructor(
    shim: string,
    readonly folder: string,
  ) {
    mkdirSync(folder, { recursive: true });
    this.control = `${folder}.control`;
    this.arm(0);
    this.env = { LD_PRELOAD: shim, FAILING_DISK_FOLDER: `${folder}/`, FAILING_DISK_CONTROL: this.control };
  }

  /** Makes the n-th call fail that changes something in the folder; 0: none does. */
  arm(n: number, mode: Mode = 'once', error: keyof typeof constants.errno = 'EIO'): void {
    const numbers = new BigInt64Array([BigInt(n), BigInt(MODES[mode]), BigInt(constants.errno[error]), 0n]);
    // Never truncated: a program may have the file mapped, and would end with SIGBUS.
    writeFileSync(this.control, Buffer.from(numbers.buffer), { flag: existsSync(this.control) ? 'r+' : 'w' });
  }
}
