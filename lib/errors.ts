/**
 * Stable identifiers of everything that can go wrong. Programs branch on these; the wording of messages may change.
 */
export type ErrorCode =
  | 'ERR_ABORTED' // an AbortSignal ended the work
  | 'ERR_BUSY' // the object is in use by another call
  | 'ERR_CHECKPOINT' // a run's folder or checkpoint cannot be used
  | 'ERR_DATA' // a text source holds something that is not valid
  | 'ERR_DEVICE' // a device is missing or failed
  | 'ERR_DISPOSED' // the object was disposed
  | 'ERR_HUB' // a model hub does not have what is asked for, or cannot be reached
  | 'ERR_IO' // the operating system refused a file operation
  | 'ERR_MEMORY' // the plan does not fit into memory
  | 'ERR_MODEL_FILE' // a model file is malformed or does not fit
  | 'ERR_NATIVE' // the native addon cannot be loaded
  | 'ERR_NON_FINITE' // a loss or a gradient is NaN or infinite
  | 'ERR_OPTIONS' // options are missing, contradictory or out of range
  | 'ERR_SPIKE' // a loss or a gradient is far above the last ones
  | 'ERR_TOKENIZER'; // a tokenizer file is malformed or does not fit

/** What a {@link KotodamaError} knows beside its message. */
export interface ErrorDetails {
  /** What was expected, e.g. `an integer from 1 to 8`. */
  expected?: string;
  /** What was found instead, e.g. `0`. */
  received?: string;
  /** What the person can do about it. */
  hint?: string;
  /** The underlying error. */
  cause?: unknown;
}

/** Every error that kotodama throws on purpose. The message already holds expectation, finding and hint. */
export class KotodamaError extends Error {
  override readonly name = 'KotodamaError';
  readonly code: ErrorCode;
  readonly expected: string | undefined;
  readonly received: string | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    const facts = [
      details.expected === undefined ? '' : `expected ${details.expected}`,
      details.received === undefined ? '' : `received ${details.received}`,
    ].filter(Boolean);
    const text =
      message +
      (facts.length > 0 ? `: ${facts.join(', ')}` : '') +
      (details.hint === undefined ? '' : `\n  hint: ${details.hint}`);
    super(text, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.expected = details.expected;
    this.received = details.received;
    this.hint = details.hint;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
