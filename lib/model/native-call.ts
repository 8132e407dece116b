import { type ErrorCode, KotodamaError, messageOf } from '../errors.js';

/**
 * Runs a call into the addon. Its errors come back as KotodamaError with the engine's code and a stack that leads to the
 * JavaScript caller.
 */
export async function callNative<T>(call: () => Promise<T> | T): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw fromNative(cause);
  }
}

/** The same for calls that do not wait. */
export function callNativeSync<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw fromNative(cause);
  }
}

function fromNative(cause: unknown): unknown {
  const code = (cause as { code?: unknown } | undefined)?.code;
  if (cause instanceof KotodamaError || typeof code !== 'string' || !code.startsWith('ERR_')) return cause;
  const [message = '', hint] = messageOf(cause).split('\n  hint: ', 2);
  return new KotodamaError(code as ErrorCode, message, hint === undefined ? { cause } : { hint, cause });
}
