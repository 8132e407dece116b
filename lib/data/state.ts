import { KotodamaError } from '../errors.js';
import type { BlockSource, Json } from './types.js';

/** A saved state is an object with a `kind`. */
export type StateObject = { [key: string]: Json };

/** Whether something gives its items again and again, and says where it stands: as a dataset does, or a loader. */
export function isRestartable(value: unknown): value is object {
  const { blockSize, state, restore, [Symbol.asyncIterator]: iterate } = (value ?? {}) as Partial<BlockSource>;
  return Number.isInteger(blockSize) && [state, restore, iterate].every((method) => typeof method === 'function');
}

/** Checks that a saved state is one of `kind`. */
export function readState(state: Json, kind: string): StateObject {
  if (typeof state !== 'object' || state === null || Array.isArray(state) || state.kind !== kind) {
    const found = typeof state === 'object' && state !== null && !Array.isArray(state) ? state.kind : state;
    throw badState(`a state of kind '${kind}'`, JSON.stringify(found)?.slice(0, 60) ?? String(found));
  }
  return state;
}

/** A whole number of at least 0. */
export function readCount(state: StateObject, key: string): number {
  const value = state[key];
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw badState(`a count as '${key}'`, JSON.stringify(value) ?? 'nothing');
}

export function badState(expected: string, received: string): KotodamaError {
  return new KotodamaError('ERR_CHECKPOINT', 'This saved state does not fit the data pipeline', {
    expected,
    received,
    hint: 'build the pipeline from the same parts as when the state was saved',
  });
}
