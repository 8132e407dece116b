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
  expected?: string | undefined;
  /** What was found instead, e.g. `0`. */
  received?: string | undefined;
  /** What the person can do about it. */
  hint?: string | undefined;
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
    super(message + factsOf(details), details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.expected = details.expected;
    this.received = details.received;
    this.hint = details.hint;
  }
}

/** What a message ends with. */
function factsOf({ expected, received, hint }: ErrorDetails): string {
  const facts = [
    expected === undefined ? '' : `expected ${expected}`,
    received === undefined ? '' : `received ${received}`,
  ].filter(Boolean);
  return (facts.length > 0 ? `: ${facts.join(', ')}` : '') + (hint === undefined ? '' : `\n  hint: ${hint}`);
}

/** An error that also tells where, for example in which file, with the details that it had. */
export function placed(place: string, cause: KotodamaError): KotodamaError {
  const { code, expected, received, hint } = cause;
  return new KotodamaError(code, `${place}: ${bareMessage(cause)}`, { expected, received, hint, cause });
}

/** An error with one more thing in its hint. */
export function hinted(cause: KotodamaError, more: string): KotodamaError {
  return withHint(cause, cause.hint === undefined ? more : `${cause.hint}; ${more}`);
}

/** An error with another hint. */
export function withHint(cause: KotodamaError, hint: string): KotodamaError {
  const { code, expected, received } = cause;
  return new KotodamaError(code, bareMessage(cause), { expected, received, hint, cause });
}

function bareMessage(error: KotodamaError): string {
  return error.message.slice(0, error.message.length - factsOf(error).length);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
