import { isatty } from 'node:tty';

/** Turns Ctrl-C into an AbortSignal while it is in scope. */
export interface Interrupt extends Disposable {
  readonly signal: AbortSignal;
  /** Does what the first signal does. */
  interrupt(): void;
}

/**
 * A terminal sends Ctrl-C to all that run in it, and npm (npx too) passes its own on to the command that it runs: two signals
 * of one press. Milliseconds in which the second one comes.
 */
const ONE_PRESS = process.env.npm_command === undefined ? 0 : 500;

/** Asked at the start: a terminal that was closed is none any more. */
const showsOutput = isatty(1);

/** Whether a person sees what is written: nohup, on any system, leaves no output a terminal. */
export const inTerminal = showsOutput || isatty(2);

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', ...(inTerminal ? (['SIGHUP'] as const) : [])];

/**
 * The first SIGINT or SIGTERM aborts the signal and calls `onFirst`; the second one ends the process at once, as it would
 * have without us. A terminal that is closed (SIGHUP, often several of them) is like the first to what runs in it.
 */
export function catchInterrupt(onFirst: () => void): Interrupt {
  const controller = new AbortController();
  const { signal } = controller;
  let pressed: number | undefined;
  const interrupt = () => {
    if (signal.aborted) return;
    controller.abort();
    onFirst();
  };
  const handle = (name: NodeJS.Signals) => {
    const now = performance.now();
    if (name === 'SIGHUP') interrupt();
    else if (pressed === undefined) {
      pressed = now;
      interrupt();
    } else if (now - pressed >= ONE_PRESS) {
      release();
      process.kill(process.pid, name);
    }
  };
  const release = () => {
    for (const name of SIGNALS) process.off(name, handle);
  };
  for (const name of SIGNALS) process.on(name, handle);
  return { signal, interrupt, [Symbol.dispose]: release };
}

/** Whether stdout failed since nobody reads it any more: a pipe without a reader, a terminal that was closed. */
export function isReaderGone({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EPIPE' || (code === 'EIO' && showsOutput);
}
