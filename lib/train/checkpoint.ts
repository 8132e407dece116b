import { existsSync } from 'node:fs';
import { lstat, readdir, realpath, rename, rm, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { listedFiles, replaceListed, settleChecksums, verifyChecksums, writeChecksums } from '../checksums.js';
import type { Json } from '../data/types.js';
import { KotodamaError, messageOf } from '../errors.js';
import {
  copyAtomically,
  ioError,
  isTemporaryName,
  jsonText,
  makeFolder,
  readJsonFile,
  syncFolder,
  writeJsonFile,
} from '../files.js';
import type { GPT2Config } from '../model/config.js';
import { readConfig } from '../model/pretrained.js';
import type { StreamPosition } from './batch-stream.js';
import type { SpikeWindows } from './spike-guard.js';

/** Raised when a reader of old checkpoints must know about a change. */
export const STATE_VERSION = 1;

export const STATE_FILE = 'trainer_state.json';
export const OPTIMIZER_FILE = 'optimizer.safetensors';

/** Among the checkpoints, a link to the best one. */
const BEST_LINK = 'best';

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
  /** Peak learning rate that replaced the option's during the run; absent or null when none did. */
  peakLearningRate?: number | null;
  /** The warmup, as resolved; absent in older ones. */
  warmupSteps?: number;
  /** The one with the lowest loss, and how many came after it. */
  best: { step: number; loss: number; since: number } | null;
  /** What evaluations measure: marks of the validation data, and how many of its batches; absent where an older release wrote. */
  measured?: { data: Json; batches: number } | null;
  /** Steps that were best on validation data the run had before: their checkpoints stay. Absent in older states. */
  formerBests?: number[];
  /** What the step still owes: an interrupted run does it when it is continued. */
  owed: ('eval' | 'sample')[];
  /** Updates left out since the last one. */
  skipped: number;
  /** Losses and gradient norms of the last steps. */
  spikes: SpikeWindows;
  /** Every training option as resolved. */
  options: { [key: string]: Json };
  /** What computed it. */
  device: string;
  /** What a resumed run must have in common with this one. */
  identity: { [key: string]: Json };
}

/** A checkpoint that was found whole. */
export interface Checkpoint {
  path: string;
  state: TrainerState;
}

/** The folder of a run's checkpoints. */
export function checkpointsFolder(out: string): string {
  return join(out, 'checkpoints');
}

function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

function pathOf(out: string, step: number): string {
  return join(checkpointsFolder(out), checkpointName(step));
}

/** What `removeLeftovers` removes. */
function temporaryOf(out: string, step: number): string {
  return join(checkpointsFolder(out), `.${checkpointName(step)}.tmp`);
}

/** A checkpoint that was written. */
export interface SavedCheckpoint {
  path: string;
  /** Of all its files. */
  bytes: number;
  /** What the system refused after the checkpoint was safe. */
  problems: KotodamaError[];
}

/**
 * Writes a checkpoint: into a folder with a temporary name, every file and the folder synced, then renamed. Only after
 * that are the run's newest weights replaced and old checkpoints pruned, so a crash or a full disk at any moment leaves
 * the last one whole. `SHA256SUMS` is written over all files.
 *
 * @param write puts weights, tokenizer and moments into the folder that it is given; each file synced.
 * @param keep how many checkpoints stay, beside the best one (see `prune`).
 * @throws KotodamaError `ERR_IO` when the system refuses; what was written in part is gone then.
 */
export async function saveCheckpoint(
  out: string,
  state: TrainerState,
  write: (folder: string) => Promise<void>,
  keep: number,
): Promise<SavedCheckpoint> {
  const parent = checkpointsFolder(out);
  const path = pathOf(out, state.step);
  const temporary = temporaryOf(out, state.step);
  let bytes: number;
  try {
    if (existsSync(path)) throw new KotodamaError('ERR_CHECKPOINT', `${path} is there already`);
    await rm(temporary, { recursive: true, force: true });
    await makeFolder(temporary);
    await write(temporary);
    await writeJsonFile(join(temporary, STATE_FILE), state);
    bytes = await writeChecksums(temporary);
    await syncFolder(temporary);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw because(`The checkpoint of step ${state.step} could not be saved; the one before is untouched`, cause);
  }
  const problems: KotodamaError[] = [];
  const attempt = async (what: string, work: () => Promise<void>) => {
    await work().catch((cause) => problems.push(because(`The checkpoint ${path} was written, but ${what}`, cause)));
  };
  await attempt('a power cut now may undo that', () => syncFolder(parent));
  // As long as the new one is not safe, the old ones are needed.
  if (problems.length === 0) await attempt('older ones could not be removed', () => prune(out, keep, state));
  await attempt(`its weights could not be put into ${out}`, () => publish(path, out));
  return { path, bytes, problems };
}

/**
 * Adds to a checkpoint what has happened at its step since it was saved; it is whole at any moment. Does nothing where there is
 * none, because it could not be saved.
 *
 * @throws KotodamaError `ERR_IO` when the system refuses.
 */
export async function amendCheckpoint(out: string, state: TrainerState): Promise<void> {
  const path = pathOf(out, state.step);
  if (!existsSync(path)) return;
  await replaceListed(path, STATE_FILE, jsonText(state)).catch((cause) => {
    throw because(`The checkpoint ${path} is whole, but may lack what happened since it was saved`, cause);
  });
}

/** An error of the system with a message of ours around its own; any other stays what it is. */
function because(message: string, cause: unknown): KotodamaError {
  const error = ioError(cause, message);
  if (error !== cause || error.code !== 'ERR_IO') return error;
  const [reason] = error.message.split('\n', 1);
  const { hint } = error;
  return new KotodamaError('ERR_IO', `${message} (${reason})`, hint === undefined ? { cause } : { hint, cause });
}

/** Steps of the checkpoints in a run's folder, ascending; they may be damaged. */
export async function listCheckpoints(out: string): Promise<number[]> {
  const names = await readdir(checkpointsFolder(out)).catch(() => []);
  const steps = names.flatMap((name) => /^step-(\d{8,})$/.exec(name)?.[1] ?? []);
  return steps.map(Number).sort((a, b) => a - b);
}

/**
 * The configuration of the model that a run is continued with; undefined before its first checkpoint. All checkpoints of a
 * run have the same one: it is read from the newest where it can be.
 */
export async function checkpointConfig(out: string): Promise<GPT2Config | undefined> {
  for (const step of (await listCheckpoints(out)).reverse()) {
    const config = await readConfig(pathOf(out, step)).catch(() => undefined);
    if (config !== undefined) return config;
  }
  return undefined;
}

/** A checkpoint that cannot be continued from, and why. */
export interface DamagedCheckpoint {
  path: string;
  problem: string;
}

/**
 * The newest whole checkpoint of a run, or undefined when there is none; and the newer ones that are damaged.
 *
 * @throws KotodamaError `ERR_IO` when one cannot be read, and `ERR_CHECKPOINT` when another release wrote it: it may be whole.
 */
export async function newestCheckpoint(
  out: string,
): Promise<{ checkpoint: Checkpoint | undefined; damaged: DamagedCheckpoint[] }> {
  const damaged: DamagedCheckpoint[] = [];
  for (const step of (await listCheckpoints(out)).reverse()) {
    const path = pathOf(out, step);
    try {
      await verifyChecksums(path);
      return { checkpoint: { path, state: await readState(path) }, damaged };
    } catch (error) {
      if (mayBeWhole(error)) throw error;
      damaged.push({ path, problem: messageOf(error) });
    }
  }
  return { checkpoint: undefined, damaged };
}

/** Whether an error says nothing of a checkpoint: the system does not let us read it, or another release could. */
function mayBeWhole(error: unknown): boolean {
  if (error instanceof OtherVersionError) return true;
  if (!(error instanceof KotodamaError) || error.code !== 'ERR_IO') return false;
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException;
  return code !== 'ENOENT' && code !== 'ENOTDIR';
}

/** A run is not begun again where there is work of it: a copy may be whole, and a file may still be mended. */
export function allDamaged(out: string, damaged: readonly DamagedCheckpoint[]): KotodamaError {
  return new KotodamaError('ERR_CHECKPOINT', `${out} holds no whole checkpoint`, {
    expected: 'one that is as its SHA256SUMS says',
    received: damaged.map(({ path, problem }) => `${path}: ${problem.split('\n', 1)}`).join('\n'),
    hint: 'bring one back from a copy; a run in another folder can begin with its weights (--init-from FOLDER)',
  });
}

/** Gives a damaged checkpoint another name: it must not count among those that are kept, nor be in a new one's way. */
export async function setAside({ path }: DamagedCheckpoint): Promise<string> {
  try {
    return await renameFreely(path, `damaged-${basename(path)}`);
  } catch (cause) {
    throw ioError(cause, `${path} is damaged and could not be renamed`);
  }
}

/** Gives a folder this name, with a number where that is taken. */
async function renameFreely(path: string, name: string): Promise<string> {
  const wanted = join(dirname(path), name);
  let free = wanted;
  for (let number = 2; existsSync(free); number++) free = `${wanted}-${number}`;
  await rename(path, free);
  return free;
}

/** Names of a run's own under which something is written or removed, beside those of single files. */
const TEMPORARY = /^\.(step-\d{8,}|best|kotodama-\d+)\.tmp$/;

/** Removes what a run that was killed while saving left behind; a hidden file of another name is somebody else's. */
export async function removeLeftovers(out: string): Promise<void> {
  for (const folder of [out, checkpointsFolder(out)]) {
    const names = await readdir(folder).catch(() => []);
    const leftovers = names.filter((name) => TEMPORARY.test(name) || isTemporaryName(name));
    await Promise.all(leftovers.map((name) => rm(join(folder, name), { recursive: true, force: true })));
  }
  // What is damaged, or cannot be written, is told where it is read.
  for (const step of await listCheckpoints(out)) await settleChecksums(pathOf(out, step)).catch(() => {});
}

/**
 * What a run that goes on from a checkpoint does anew at its step, because the checkpoint does not know of it: an evaluation,
 * a sample. And how many updates after that step the checkpoint knows to be skipped, which do not come again. Both of the
 * first and none of the latter where that cannot be read.
 */
export async function afterStep(path: string): Promise<{ anew: TrainerState['owed']; skipped: number }> {
  const state = await readState(path).catch(() => undefined);
  if (state === undefined) return { anew: ['eval', 'sample'], skipped: 0 };
  const { step, evaluation, owed, skipped } = state;
  const isMeasured = evaluation?.step === step;
  const anew = (['eval', 'sample'] as const).filter((what) => owed.includes(what) || (what === 'eval' && !isMeasured));
  return { anew, skipped };
}

class OtherVersionError extends KotodamaError {}

async function readState(path: string): Promise<TrainerState> {
  const state = (await readJsonFile(join(path, STATE_FILE), 'ERR_CHECKPOINT')) as TrainerState;
  if (state.version !== STATE_VERSION) {
    throw new OtherVersionError('ERR_CHECKPOINT', `${join(path, STATE_FILE)} has another version`, {
      expected: String(STATE_VERSION),
      received: String(state.version),
      hint: 'use the release of kotodama that wrote it',
    });
  }
  const whole =
    Number.isSafeInteger(state.step) &&
    Number.isSafeInteger(state.counters?.microStep) &&
    Number.isSafeInteger(state.position?.epoch);
  if (!whole) throw new KotodamaError('ERR_CHECKPOINT', `${STATE_FILE} is incomplete`);
  return state;
}

/**
 * Makes a checkpoint's weights the newest ones of the run. Copies, no links: whoever changes the run's files in place, as other
 * programs do that save a model where it was read, must not damage the checkpoint.
 *
 * @param unlessThere leaves files alone that are the same already.
 */
export async function publish(checkpoint: string, out: string, { unlessThere = false } = {}): Promise<void> {
  const names = await listedFiles(checkpoint, unlessThere ? out : undefined);
  for (const name of names.filter((name) => ![OPTIMIZER_FILE, STATE_FILE].includes(name))) {
    await copyAtomically(join(checkpoint, name), join(out, name));
  }
}

/**
 * Removes checkpoints but the `keep` newest, the former bests and the best one, which the link `best` names: that of the run's
 * best evaluation. Where it could not be saved, the one with the lowest loss among those that were evaluated before they were
 * saved.
 */
export async function prune(
  out: string,
  keep: number,
  { best: ofRun, formerBests = [] }: Pick<TrainerState, 'best' | 'formerBests'>,
): Promise<void> {
  const steps = await listCheckpoints(out);
  const others = steps.filter((step) => !formerBests.includes(step));
  const best = ofRun !== null && steps.includes(ofRun.step) ? ofRun.step : await bestOf(out, others);
  if (best !== undefined) await linkBest(out, best);
  for (const step of steps.slice(0, -keep)) {
    if (step === best || formerBests.includes(step)) continue;
    // What is left of it when this is cut short must not pass for a checkpoint.
    const leaving = temporaryOf(out, step);
    await rename(pathOf(out, step), leaving);
    await rm(leaving, { recursive: true, force: true });
  }
}

async function bestOf(out: string, steps: readonly number[]): Promise<number | undefined> {
  let best: { step: number; loss: number } | undefined;
  for (const step of steps) {
    const state = await readState(pathOf(out, step)).catch(() => undefined);
    const { evaluation } = state ?? { evaluation: null };
    if (evaluation?.step !== step || !Number.isFinite(evaluation.loss)) continue;
    if (best === undefined || evaluation.loss < best.loss) best = evaluation;
  }
  return best?.step;
}

/** A name that is easier to type; some file systems have no links, and nothing depends on this one. */
async function linkBest(out: string, step: number): Promise<void> {
  const link = join(checkpointsFolder(out), BEST_LINK);
  const temporary = join(checkpointsFolder(out), '.best.tmp');
  try {
    // What copies a run with its links followed (`cp -rL`, zip) makes a folder of it, which would stay what it is for ever.
    const found = await lstat(link).catch(() => undefined);
    if (found?.isDirectory() === true) await renameFreely(link, `copied-${BEST_LINK}`);
    await rm(temporary, { force: true });
    await symlink(checkpointName(step), temporary);
    await rename(temporary, link);
  } catch {
    await rm(temporary, { force: true }).catch(() => {});
  }
}

/** Where the checkpoint of a step is; undefined where there is none. */
export function checkpointOf(out: string, step: number): string | undefined {
  const path = pathOf(out, step);
  return existsSync(path) ? path : undefined;
}

/** Where the checkpoint of the best step is, under the name `best` where that leads to it; undefined where it is not there. */
export async function bestCheckpoint(out: string, step: number): Promise<string | undefined> {
  const [link, path] = [join(checkpointsFolder(out), BEST_LINK), checkpointOf(out, step)];
  if (path === undefined) return undefined;
  return (await realpath(link).catch(() => link)) === (await realpath(path)) ? link : path;
}
