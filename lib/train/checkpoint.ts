import { link, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Json } from '../data/types.js';
import { KotodamaError, messageOf } from '../errors.js';
import { copyIntoFolder, ioError, makeFolder, readJsonFile, syncFolder, writeJsonFile } from '../files.js';
import type { StreamPosition } from './batch-stream.js';

/** Raised when a reader of old checkpoints must know about a change. */
export const STATE_VERSION = 1;

export const STATE_FILE = 'trainer_state.json';
export const OPTIMIZER_FILE = 'optimizer.safetensors';

/** `trainer_state.json`: everything of a run that is neither a weight nor a moment. */
export interface TrainerState {
  version: typeof STATE_VERSION;
  /** Optimizer steps done. */
  step: number;
  /** Tokens read. */
  tokens: number;
  /** What the engine counts: bias correction and dropout masks continue from here. */
  counters: { step: number; microStep: number };
  /** The next batch. */
  position: StreamPosition;
  /** Batches of an epoch, once counted. */
  batchesPerEpoch: number | null;
  /** Loss of the last step. */
  loss: number | null;
  /** The last one. */
  evaluation: { step: number; loss: number } | null;
  /** Every training option as resolved. */
  options: { [key: string]: Json };
  /** What a resumed run must have in common with this one. */
  identity: { [key: string]: Json };
}

/** A checkpoint that was found whole. */
export interface Checkpoint {
  path: string;
  state: TrainerState;
}

interface StateFile extends TrainerState {
  /** Bytes of each other file: a missing or shortened one shows. */
  files: { [name: string]: number };
}

/** The folder of a run's checkpoints. */
export function checkpointsFolder(out: string): string {
  return join(out, 'checkpoints');
}

function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/**
 * Writes a checkpoint: into a folder with a temporary name, every file and the folder synced, then renamed. Only after
 * that are the run's newest weights replaced and old checkpoints pruned, so a crash or a full disk at any moment leaves
 * the last one whole.
 *
 * @param write puts weights, tokenizer and moments into the folder that it is given; each file synced.
 * @param keep how many checkpoints stay.
 * @throws KotodamaError `ERR_IO` when the system refuses; what was written in part is gone then.
 */
export async function saveCheckpoint(
  out: string,
  state: TrainerState,
  write: (folder: string) => Promise<void>,
  keep: number,
): Promise<{ path: string; bytes: number }> {
  const parent = checkpointsFolder(out);
  const path = join(parent, checkpointName(state.step));
  const temporary = join(parent, `.${checkpointName(state.step)}.tmp`);
  try {
    await rm(temporary, { recursive: true, force: true });
    await makeFolder(temporary);
    await write(temporary);
    const files = await sizes(temporary);
    await writeJsonFile(join(temporary, STATE_FILE), { ...state, files } satisfies StateFile);
    await syncFolder(temporary);
    // A folder of this name is left only by a run that was damaged and went back beyond it.
    await rm(path, { recursive: true, force: true });
    await rename(temporary, path);
    await syncFolder(parent);
    await publish(path, out);
    await prune(out, keep);
    return { path, bytes: Object.values(files).reduce((sum, size) => sum + size, 0) };
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw notSaved(state.step, ioError(cause, `${parent} could not be written`));
  }
}

function notSaved(step: number, cause: KotodamaError): KotodamaError {
  if (cause.code !== 'ERR_IO') return cause;
  const [reason] = cause.message.split('\n', 1);
  const { hint } = cause;
  return new KotodamaError(
    'ERR_IO',
    `The checkpoint of step ${step} could not be saved; the one before is untouched (${reason})`,
    hint === undefined ? { cause } : { hint, cause },
  );
}

/** Steps of the checkpoints in a run's folder, ascending; they may be damaged. */
export async function listCheckpoints(out: string): Promise<number[]> {
  const names = await readdir(checkpointsFolder(out)).catch(() => []);
  const steps = names.flatMap((name) => /^step-(\d{8,})$/.exec(name)?.[1] ?? []);
  return steps.map(Number).sort((a, b) => a - b);
}

/**
 * The newest whole checkpoint of a run, or undefined when there is none.
 *
 * @param onDamaged told about each newer one that had to be passed over.
 */
export async function newestCheckpoint(
  out: string,
  onDamaged: (problem: string) => void = () => {},
): Promise<Checkpoint | undefined> {
  for (const step of (await listCheckpoints(out)).reverse()) {
    const path = join(checkpointsFolder(out), checkpointName(step));
    try {
      return { path, state: await readState(path) };
    } catch (error) {
      onDamaged(`the checkpoint ${path} is damaged and was passed over: ${messageOf(error)}`);
    }
  }
  return undefined;
}

/** Removes what a run that was killed while saving left behind. */
export async function removeLeftovers(out: string): Promise<void> {
  const parent = checkpointsFolder(out);
  const names = await readdir(parent).catch(() => []);
  const leftovers = names.filter((name) => /^\.step-\d+\.tmp$/.test(name));
  await Promise.all(leftovers.map((name) => rm(join(parent, name), { recursive: true, force: true })));
}

async function readState(path: string): Promise<TrainerState> {
  const { files, ...state } = (await readJsonFile(join(path, STATE_FILE), 'ERR_CHECKPOINT')) as StateFile;
  if (state.version !== STATE_VERSION) {
    throw new KotodamaError('ERR_CHECKPOINT', `${STATE_FILE} has another version`, {
      expected: String(STATE_VERSION),
      received: String(state.version),
      hint: 'use the release of kotodama that wrote it',
    });
  }
  const whole =
    Number.isSafeInteger(state.step) &&
    Number.isSafeInteger(state.counters?.microStep) &&
    Number.isSafeInteger(state.position?.epoch) &&
    typeof files === 'object';
  if (!whole) throw new KotodamaError('ERR_CHECKPOINT', `${STATE_FILE} is incomplete`);
  for (const [name, expected] of Object.entries(files)) {
    const { size } = await stat(join(path, name));
    if (size !== expected) {
      throw new KotodamaError('ERR_CHECKPOINT', `${name} has the wrong size`, {
        expected: `${expected} bytes`,
        received: `${size} bytes`,
      });
    }
  }
  return state;
}

/** Makes a checkpoint's weights the newest ones of the run, without a second copy of them where links work. */
async function publish(checkpoint: string, out: string): Promise<void> {
  const names = await readdir(checkpoint);
  for (const name of names.filter((name) => name !== OPTIMIZER_FILE && name !== STATE_FILE)) {
    const temporary = join(out, `.${name}.tmp`);
    try {
      await rm(temporary, { force: true });
      await link(join(checkpoint, name), temporary);
      await rename(temporary, join(out, name));
      // Renaming one link of a file onto another one does nothing, and leaves the first.
      await rm(temporary, { force: true });
    } catch {
      await copyIntoFolder(join(checkpoint, name), out);
    }
  }
  await syncFolder(out);
}

async function prune(out: string, keep: number): Promise<void> {
  const steps = await listCheckpoints(out);
  for (const step of steps.slice(0, -keep)) {
    await rm(join(checkpointsFolder(out), checkpointName(step)), { recursive: true, force: true });
  }
}

async function sizes(folder: string): Promise<{ [name: string]: number }> {
  const names = (await readdir(folder)).sort();
  const stats = await Promise.all(names.map((name) => stat(join(folder, name))));
  return Object.fromEntries(names.map((name, index) => [name, stats[index]?.size ?? 0]));
}
