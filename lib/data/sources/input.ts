import { KotodamaError } from '../../errors.js';
import type { PlacedText } from './text-source.js';

/** One of the places that a source reads, one after the other. */
export interface Input {
  /** The texts from an offset on, some at a time. Those before a failure come first. */
  read(from: number): AsyncGenerator<readonly PlacedText[], void>;
  /** The place of the text at an offset as a person would count it, e.g. line 12. */
  locate(offset: number): Promise<{ unit: string; number: number }>;
}

/** A saved state that does not fit what is read now. */
export function changed(what: string): KotodamaError {
  return new KotodamaError('ERR_CHECKPOINT', `${what}, where the saved state continues`, {
    hint: 'give the same files as before, unchanged and in the same order',
  });
}
