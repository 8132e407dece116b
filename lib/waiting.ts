/** What a wait gives when it was given up. */
export const GAVE_UP = Symbol('gave up');

/** Whether `error` tells that a signal ended the work: `signal`, or one that whoever threw it listens to. */
export function isAbort(error: unknown, signal: AbortSignal | undefined): boolean {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  return code === 'ERR_ABORTED' || name === 'AbortError' || (signal?.aborted === true && error === signal.reason);
}

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

/** The items of `items`, until one does not come as {@link unlessAborted} has it. Whoever reads looks at `signal` after each. */
export async function* untilAborted<T>(
  items: AsyncIterable<T> | Iterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void> {
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  // Until it ends or fails it has to be told that nobody asks any more.
  let open = true;
  let asking = false;
  try {
    for (;;) {
      asking = true;
      const next = await unlessAborted(Promise.resolve(iterator.next()), signal);
      if (next === GAVE_UP) return;
      asking = false;
      open = next.done !== true;
      if (!open) return;
      yield next.value as T;
    }
  } catch (error) {
    open = false;
    throw error;
  } finally {
    const ended = open ? Promise.resolve(iterator.return?.()) : undefined;
    // A source that waits for something may never return.
    if (asking) ended?.catch(() => {});
    else await ended;
  }
}
