/** What a wait gives when it was given up. */
export const GAVE_UP = Symbol('gave up');

/**
 * What `promise` gives, or {@link GAVE_UP} when `signal` aborts and it does not come within `grace` seconds: most batches are
 * nearly there.
 */
export function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  grace = 1,
): Promise<T | typeof GAVE_UP> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const onAbort = () => {
      timer = setTimeout(() => resolve(GAVE_UP), 1000 * grace);
    };
    const release = () => {
      signal.removeEventListener('abort', onAbort);
      clearTimeout(timer);
    };
    promise.finally(release).then(resolve, reject);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
