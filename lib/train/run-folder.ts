import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { ioError, readJsonFile, writeJsonFile } from '../files.js';
import { CONFIG_FILE, checkHoldsNoOther, differentTokenizerFiles, type SavedTokenizer } from '../model/save.js';
import { checkpointsFolder, listCheckpoints, removeLeftovers } from './checkpoint.js';
import { checkRunIsOver, lockRunFolder } from './run-lock.js';

/** Names inside a run's folder. */
export const RUN_FILE = 'run.json';
export const METRICS_FILE = 'metrics.jsonl';
export const REPORT_FILE = 'report.html';

/** True when the folder holds a run, finished or not. */
export function holdsRun(out: string): boolean {
  return [RUN_FILE, METRICS_FILE].some((name) => existsSync(join(out, name))) || existsSync(checkpointsFolder(out));
}

/** True when the folder holds the weights of a model. */
function holdsModel(out: string): boolean {
  return ['model.safetensors', 'model.safetensors.index.json'].some((name) => existsSync(join(out, name)));
}

/** @throws KotodamaError `ERR_CHECKPOINT` when the folder holds no run that could be continued. */
export function checkHoldsRun(out: string): void {
  if (holdsRun(out)) return;
  throw new KotodamaError('ERR_CHECKPOINT', `${out} holds no run to continue`, {
    hint: 'check the path, or leave --resume (API: resume: true) out to begin a new run',
  });
}

/**
 * Checks that a fresh run replaces no file that somebody else put into the folder. A tokenizer's own folder may become the
 * run's: its files stay what they are.
 *
 * @param tokenizer undefined while it is not read yet: then its files are not looked for.
 * @throws KotodamaError `ERR_CHECKPOINT` that names the files, `ERR_TOKENIZER` as {@link checkHoldsNoOther}.
 */
export async function checkReplacesNothing(out: string, tokenizer?: SavedTokenizer): Promise<void> {
  const names = [CONFIG_FILE, REPORT_FILE].filter((name) => existsSync(join(out, name)));
  if (tokenizer !== undefined) {
    checkHoldsNoOther(out, tokenizer);
    names.push(...(await differentTokenizerFiles(out, tokenizer)));
  }
  if (names.length === 0) return;
  throw new KotodamaError('ERR_CHECKPOINT', `${out} holds ${names.join(', ')}, which a run would replace`, {
    hint: 'choose another folder for the run',
  });
}

/**
 * Checks that a run can be in this folder, and leaves everything as it is.
 *
 * @param tokenizer as for {@link checkReplacesNothing}.
 * @throws KotodamaError `ERR_CHECKPOINT` when a fresh run would overwrite another, a model or somebody's files, or a resumed
 *   one is not there or has lost its checkpoints; `ERR_BUSY` when another process trains there; `ERR_IO` when nothing can be
 *   written.
 */
export async function checkRunFolder(out: string, resume: boolean, tokenizer?: SavedTokenizer): Promise<void> {
  if (!resume && holdsRun(out)) {
    throw new KotodamaError('ERR_CHECKPOINT', `${out} holds another run`, {
      hint: 'continue it with --resume (API: resume: true), or choose another folder',
    });
  }
  if (!resume && holdsModel(out)) {
    throw new KotodamaError('ERR_CHECKPOINT', `${out} holds a model, which a run would replace`, {
      hint: 'choose another folder for the run',
    });
  }
  if (!resume) await checkReplacesNothing(out, tokenizer);
  if (resume) {
    checkHoldsRun(out);
    await checkCheckpoints(out);
  }
  await checkRunIsOver(out);
  try {
    await checkWritable(out);
  } catch (cause) {
    throw ioError(cause, `${out} cannot be used as a run's folder`);
  }
}

/** Without a model there was none yet: the run begins again. With one it would be lost. */
async function checkCheckpoints(out: string): Promise<void> {
  if (!holdsModel(out) || (await listCheckpoints(out)).length > 0) return;
  throw new KotodamaError('ERR_CHECKPOINT', `${out} holds a model, but no checkpoint to continue from`, {
    expected: `a folder such as ${join(checkpointsFolder(out), 'step-00000500')}`,
    received: 'none',
    hint: `bring it back from a copy, or begin another run with these weights: --init-from ${out}, and another --out`,
  });
}

/**
 * Makes a run's folder ready: creates it for a fresh run, cleans up after a crash for a resumed one.
 *
 * @returns gives the folder free again, see {@link lockRunFolder}.
 * @throws what {@link checkRunFolder} does.
 */
export async function openRunFolder(
  out: string,
  resume: boolean,
  tokenizer?: SavedTokenizer,
): Promise<() => Promise<void>> {
  await checkRunFolder(out, resume, tokenizer);
  const release = await lockRunFolder(out);
  try {
    if (resume) await removeLeftovers(out);
    return release;
  } catch (cause) {
    await release();
    throw ioError(cause, `${out} cannot be used as a run's folder`);
  }
}

/** Only trying tells: permissions say nothing of read-only or remote file systems. */
async function checkWritable(out: string): Promise<void> {
  let folder = resolve(out);
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
  // `removeLeftovers` would remove it, too.
  const path = join(folder, `.kotodama-${process.pid}.tmp`);
  await writeFile(path, '');
  await rm(path, { force: true });
}

/** Writes `run.json`: the whole resolved configuration of a run. */
export async function writeRunFile(out: string, configuration: { [key: string]: Json }): Promise<void> {
  await writeJsonFile(join(out, RUN_FILE), configuration);
}

/** Reads `run.json`, or gives undefined when the run was killed before it was written. */
export async function readRunFile(out: string): Promise<{ [key: string]: Json } | undefined> {
  const path = join(out, RUN_FILE);
  if (!existsSync(path)) return undefined;
  const value = await readJsonFile(path, 'ERR_CHECKPOINT');
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as { [key: string]: Json };
  throw new KotodamaError('ERR_CHECKPOINT', `${path} is damaged`, { expected: 'a JSON object' });
}
