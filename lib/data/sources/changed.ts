import { KotodamaError } from '../../errors.js';

/** A saved state that does not fit what is read now. */
export function changed(what: string): KotodamaError {
  return new KotodamaError('ERR_CHECKPOINT', `${what}, where the saved state continues`, {
    hint: 'give the same files as before, unchanged and in the same order',
  });
}
