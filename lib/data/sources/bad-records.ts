import { type ErrorDetails, KotodamaError } from '../../errors.js';

/** What is wrong with one record, before anyone knows where it is. */
export interface Problem extends ErrorDetails {
  /** Completes "FILE, line 3, ...", e.g. `is not JSON`. */
  what: string;
}

/** Hears of each bad record that is left out; undefined makes a bad record end the pass. */
export type OnBadRecord = ((problem: KotodamaError) => void) | undefined;

/** Errors that are about one record. */
const ofRecords = new WeakSet<object>();

/** Whether an error is a bad record that ended a pass, and would not have with `skipBad`. */
export function isBadRecord(error: object): boolean {
  return ofRecords.has(error);
}

/** Ends the pass with a bad record, or reports it. */
export function reject(where: string, { what, ...details }: Problem, onBad: OnBadRecord): void {
  const hint =
    details.hint ??
    (onBad === undefined ? 'repair it, or leave such records out with --skip-bad (API: skipBad: true)' : undefined);
  const problem = new KotodamaError('ERR_DATA', `${where} ${what}`, {
    ...details,
    ...(hint !== undefined && { hint }),
  });
  if (onBad === undefined) {
    ofRecords.add(problem);
    throw problem;
  }
  onBad(problem);
}
