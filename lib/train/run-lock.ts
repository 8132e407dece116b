import { randomUUID } from 'node:crypto';
import { link, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { KotodamaError } from '../errors.js';
import { ioError, makeFolder } from '../files.js';

const LOCK_FILE = '.run.lock';

/** Milliseconds in which others that found the same old lock have removed it. */
const SETTLING = 100;

/**
 * Folders in which this process trains. Its lock file alone would not tell a run that is going on from one that was left behind.
 * Runs in other threads are not among them: nobody could say whether the lock of a thread that was terminated still counts.
 */
const ours = new Set<string>();

/** The process that trains in a run's folder. */
interface Holder {
  pid: number;
  host: string;
  /** When the process was started, in the system's own units: the number of a process is given again and again. */
  started: string | null;
  /** Which folder it is: a copy of one is free. */
  folder: string;
}

/**
 * Says in a run's folder, which is made where it is missing, what process trains there, so that a second one does not write
 * into its files. What a killed process leaves is no obstacle, and another machine's process cannot be asked: there, the newest
 * one has the folder.
 *
 * @returns gives the folder free again; never fails.
 * @throws KotodamaError `ERR_BUSY` when this process or another one of this machine trains there, `ERR_IO` when nothing can be
 *   written.
 */
export async function lockRunFolder(out: string): Promise<() => Promise<void>> {
  const name = await makeFolder(out)
    .then(() => realpath(out))
    .catch((cause) => {
      throw ioError(cause, `${out} could not be made`);
    });
  if (ours.has(name)) throw trainsAlready(out);
  ours.add(name);
  try {
    const unlock = await writeLock(out);
    return () => unlock().finally(() => ours.delete(name));
  } catch (error) {
    ours.delete(name);
    throw error;
  }
}

async function writeLock(out: string): Promise<() => Promise<void>> {
  const path = join(out, LOCK_FILE);
  const id = randomUUID();
  const isOurs = async () => (await readFile(path, 'utf8').catch(() => '')).includes(id);
  try {
    const [started, folder] = [await startOf(process.pid), await identityOf(out)];
    const me: Holder & { id: string } = { pid: process.pid, host: hostname(), started, folder, id };
    // Not among the leftovers that another process may be removing.
    const temporary = `${path}.${id}`;
    await writeFile(temporary, `${JSON.stringify(me)}\n`);
    try {
      do {
        let tookOver = false;
        while (!(await place(temporary, path))) {
          await checkHolder(out);
          await rm(path, { force: true });
          tookOver = true;
        }
        // It may have been this one that another process then removed in place of the old one.
        if (tookOver) await passed(SETTLING);
      } while (!(await isOurs()));
    } finally {
      await rm(temporary, { force: true });
    }
  } catch (cause) {
    throw ioError(cause, `${path} could not be written`);
  }
  return async () => {
    // Another machine may have the folder by now.
    if (await isOurs()) await rm(path, { force: true }).catch(() => {});
  };
}

/** Gives a whole file its name unless another one has it, which several processes may try at once: then false. */
async function place(temporary: string, path: string): Promise<boolean> {
  try {
    await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    // Some file systems have no links.
    await rename(temporary, path);
  }
  return true;
}

/** @throws KotodamaError `ERR_BUSY` when this process or another one of this machine trains in the folder. */
export async function checkRunIsOver(out: string): Promise<void> {
  if (ours.has(await realpath(out).catch(() => ''))) throw trainsAlready(out);
  await checkHolder(out);
}

function trainsAlready(out: string): KotodamaError {
  return new KotodamaError('ERR_BUSY', `This process is training in ${out} already`, {
    hint: 'wait for the other run to end, or choose another folder',
  });
}

async function checkHolder(out: string): Promise<void> {
  const holder = await readHolder(out);
  if (holder === undefined || holder.host !== hostname() || holder.pid === process.pid) return;
  if (holder.folder !== (await identityOf(out))) return;
  if (!isAlive(holder.pid)) return;
  const started = await startOf(holder.pid);
  if (started !== null && started !== holder.started) return;
  throw new KotodamaError('ERR_BUSY', `Process ${holder.pid} is training in ${out}`, {
    hint:
      'wait until it ends, stop it (it saves when it is interrupted), or choose another folder; if that is some other ' +
      `program, remove ${join(out, LOCK_FILE)}`,
  });
}

/** Undefined when there is none, or none that can be read. */
async function readHolder(out: string): Promise<Holder | undefined> {
  try {
    const holder = JSON.parse(await readFile(join(out, LOCK_FILE), 'utf8')) as Holder;
    return Number.isSafeInteger(holder.pid) && holder.pid > 0 ? holder : undefined;
  } catch {
    return undefined;
  }
}

async function identityOf(folder: string): Promise<string> {
  const { dev, ino } = await stat(folder, { bigint: true });
  return `${dev}:${ino}`;
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

/**
 * When a process was started, in clock ticks since the machine was (field 22 of /proc/PID/stat, proc(5)); `ended` for one that
 * nobody has asked how it ended, null where that cannot be read.
 */
async function startOf(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // From field 3 on: the name of the program before it, in parentheses, may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : (fields[19] ?? null);
}
