/**
 * Applies `work` to each item, in order, beginning with up to `ahead` of them before the first result is taken; 1 means
 * that nothing is begun early. When the items or the work fail, the results before the failure come first.
 */
export async function* readAhead<T, R>(
  items: AsyncIterable<T>,
  ahead: number,
  work: (item: T) => R | Promise<R>,
): AsyncGenerator<R, void> {
  const iterator = items[Symbol.asyncIterator]();
  /** Results under way; undefined at the end. */
  const pending: Promise<{ result: R } | undefined>[] = [];
  let stopped = false;
  let lastRead: Promise<unknown> = Promise.resolve();
  const begin = async () => {
    // One read after the other, so that those not begun yet can be left out at a stop.
    const read = lastRead.then(() => (stopped ? undefined : iterator.next()));
    lastRead = read.catch(() => {});
    const next = await read;
    return next === undefined || next.done === true ? undefined : { result: await work(next.value) };
  };
  try {
    for (;;) {
      while (pending.length < ahead) {
        const promise = begin();
        // Whoever takes it sees the failure; until then it must not count as unhandled.
        promise.catch(() => {});
        pending.push(promise);
      }
      const next = await pending.shift();
      if (next === undefined) return;
      yield next.result;
    }
  } finally {
    stopped = true;
    await iterator.return?.();
  }
}
