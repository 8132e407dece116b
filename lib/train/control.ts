import { OptionReader } from '../validate.js';

/** What a person may ask of a run in progress. */
export type ControlCommand =
  /** No step is begun until `resume`; the other commands are still carried out. */
  | { action: 'pause' }
  | { action: 'resume' }
  /** Measures the validation set. */
  | { action: 'evaluate' }
  /** Lets the model go on from `prompt`; an empty one begins a text. */
  | { action: 'sample'; prompt: string }
  /** Saves a checkpoint. */
  | { action: 'save' }
  /** Ends the run after the step, as an aborted signal does: it is saved and can be resumed. */
  | { action: 'stop' }
  /** Replaces the peak learning rate; the schedule's shape stays, so that all of it is scaled. */
  | { action: 'learningRate'; learningRate: number };

const ACTIONS = ['pause', 'resume', 'evaluate', 'sample', 'save', 'stop', 'learningRate'] as const;

/** Characters of a prompt: more than any context holds. */
const MAX_PROMPT = 20_000;

/**
 * Steers a run from outside: give one to `trainer.run({ control })` and send it commands. They are carried out between two
 * steps, in the order they came, and each one becomes a `control` event.
 *
 *     const control = new TrainerControl();
 *     process.on('SIGUSR1', () => control.send({ action: 'save' }));
 *     for await (const event of trainer.run({ control })) { ... }
 */
export class TrainerControl {
  private commands: ControlCommand[] = [];
  private wake: (() => void) | undefined;

  /** @throws KotodamaError `ERR_OPTIONS` when it is not a command. */
  send(command: ControlCommand): void {
    this.commands.push(checkCommand(command));
    this.wake?.();
  }

  /** The commands since the last call. @internal */
  take(): readonly ControlCommand[] {
    if (this.commands.length === 0) return NONE;
    const taken = this.commands;
    this.commands = [];
    return taken;
  }

  /** Waits for a command, for `signal` to abort, or for some time; maybe less than `seconds`. @internal */
  async wait(signal: AbortSignal | undefined, seconds: number): Promise<void> {
    if (this.commands.length > 0 || signal?.aborted === true) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', wake);
        this.wake = undefined;
        resolve();
      };
      // Without a timer a process that has nothing else to do would end.
      const timer = setTimeout(wake, Math.min(1000 * seconds, LONGEST_TIMER));
      this.wake = wake;
      signal?.addEventListener('abort', wake);
    });
  }
}

/** Milliseconds; a longer one would end at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

const NONE: readonly ControlCommand[] = [];

/** A command as it should be, without anything else that came with it. */
function checkCommand(command: ControlCommand): ControlCommand {
  const reader = new OptionReader(command as object);
  const action = reader.choice('action', ACTIONS);
  const rest: { prompt?: unknown; learningRate?: number } = {};
  if (action === 'sample') {
    const { prompt } = reader.values;
    rest.prompt = prompt;
    if (typeof prompt !== 'string') reader.problem('prompt', 'a string', prompt);
    else if (prompt.length > MAX_PROMPT) {
      reader.problem('prompt', `at most ${MAX_PROMPT} characters`, `${prompt.length} of them`);
    }
  }
  if (action === 'learningRate') rest.learningRate = reader.number('learningRate', { above: 0 });
  reader.onlyKnown(['action', ...Object.keys(rest)]);
  reader.finish('The run cannot be told this');
  return { action, ...rest } as ControlCommand;
}
