import { readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { ioError } from '../files.js';

const LOCK_FILE = '.run.lock';

/** The process that trains in a run's folder. */
interface Holder {
  pid: number;
  host: string;
  /** When the process was started, in the system's own units; a number of a process is given again and again. */
  started: string | null;
}

/**
 * Says in a run's folder which process trains there, so that a second one does not write into its files. What a killed process
 * leaves is no obstacle, and another machine's cannot be asked: there, the newest one has the folder.
 *
 * @returns gives the folder free again.
 * @throws KotodamaError `ERR_BUSY` when another process of this machine trains there, `ERR_IO` when nothing can be written.
 */
export async function lockRunFolder(out: string): Promise<() => Promise<void>> {
  await checkRunIsOver(out);
  const path = join(out, LOCK_FILE);
  const me: Holder = { pid: process.pid, host: hostname(), started: await startOf(process.pid) };
  await writeFile(path, `${JSON.stringify(me)}\n`).catch((cause) => {
    throw ioError(cause, `${path} could not be written`);
  });
  return () => rm(path, { force: true });
}

/** @throws KotodamaError `ERR_BUSY` when another process of this machine trains in the folder. */
export async function checkRunIsOver(out: string): Promise<void> {
  const holder = await readHolder(out);
  if (holder === undefined || holder.host !== hostname() || holder.pid === process.pid) return;
  if (!isAlive(holder.pid) || (await startOf(holder.pid)) !== holder.started) return;
  throw new KotodamaError('ERR_BUSY', `Process ${holder.pid} is training in ${out}`, {
    hint: 'wait until it ends, stop it (it saves when it is interrupted), or choose another folder',
  });
}

/** Undefined when there is none, or when it was written only in part. */
async function readHolder(out: string): Promise<Holder | undefined> {
  try {
    const { pid, host, started } = JSON.parse(await readFile(join(out, LOCK_FILE), 'utf8')) as Holder;
    return Number.isSafeInteger(pid) && pid > 0 ? { pid, host, started } : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It is there, but another user's.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Field 22 of /proc/PID/stat (proc(5)), clock ticks since the machine was started; null where there is no /proc. */
async function startOf(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name of the program, in parentheses, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[19] ?? null;
}
