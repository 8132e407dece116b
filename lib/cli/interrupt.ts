/** Turns Ctrl-C into an AbortSignal while it is in scope. */
export interface Interrupt extends Disposable {
  readonly signal: AbortSignal;
}

/**
 * The first SIGINT or SIGTERM aborts the signal and calls `onFirst`; the second one ends the process at once, as it would
 * have without us.
 */
export function catchInterrupt(onFirst: () => void): Interrupt {
  const controller = new AbortController();
  const names = ['SIGINT', 'SIGTERM'] as const;
  const release = () => {
    for (const name of names) process.off(name, handle);
  };
  const handle = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) {
      release();
      process.kill(process.pid, name);
      return;
    }
    controller.abort();
    onFirst();
  };
  for (const name of names) process.on(name, handle);
  return { signal: controller.signal, [Symbol.dispose]: release };
}
