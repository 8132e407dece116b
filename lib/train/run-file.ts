import { arch, platform, release } from 'node:os';
import type { Json } from '../data/types.js';
import { plain } from '../json.js';
import type { GPT2 } from '../model/gpt2.js';
import { packageVersion } from '../version.js';
import type { TrainingOptions } from './options.js';

/** Raised when a reader of old `run.json` files must know about a change. */
const RECORD_VERSION = 1;

/** What `run.json` is made of. */
export interface RunFileParts {
  model: GPT2;
  options: TrainingOptions;
  seed: number;
  /** What makes the run itself; `data` among it marks the texts. */
  identity: { [key: string]: Json };
  /** Marks of the validation data, when there is any. */
  valid: Json;
  /** What the caller adds. */
  configuration: { [key: string]: Json };
  /** Steps done before this start. */
  step: number;
  /** Seconds since 1970. */
  time: number;
  /** The checkpoint that it continues from. */
  resumedFrom: string | null;
}

/**
 * Everything about a run that its numbers depend on: the whole resolved configuration, versions, device, marks of the data,
 * seeds. What a later start changes is replaced; `starts` tells of all of them.
 */
export function runFileOf(parts: RunFileParts, before: { [key: string]: Json } | undefined): { [key: string]: Json } {
  const { model, options, seed, identity, valid, configuration, step, time, resumedFrom } = parts;
  const { data = null, tokenizer = null } = identity;
  const machine = {
    kotodama: packageVersion(),
    node: process.version,
    system: `${platform()} ${release()} ${arch()}`,
    device: deviceText(model),
  };
  const start = { time: new Date(1000 * time).toISOString(), step, resumedFrom, ...machine };
  const starts = Array.isArray(before?.starts) ? before.starts : [];
  return plain({
    version: RECORD_VERSION,
    ...machine,
    precision: model.precision,
    stochasticRounding: model.stochasticRounding,
    parameters: model.parameterCount,
    seed,
    ...configuration,
    model: model.config,
    training: options,
    tokenizer,
    data,
    valid,
    starts: [...starts, start],
  });
}

/** `cpu, AMD EPYC ..., avx2, 8 threads`: numbers that were made elsewhere may differ in their last digits. */
export function deviceText({ device: { device, name, detail } }: GPT2): string {
  return [device, name, detail].filter(Boolean).join(', ');
}
