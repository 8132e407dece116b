import type { OptionTable } from '../option-table.js';

/** One of the program's commands. */
export interface Command {
  /** One line for the list of commands. */
  summary: string;
  /** What follows `kotodama` on the command line. */
  usage: string;
  options: OptionTable;
  /** Examples for `--help`, whole command lines. */
  examples: readonly string[];
  /** @param words the command line after the command. @returns the exit code. */
  run(words: readonly string[]): Promise<number>;
}

/** Exit code after Ctrl-C: 128 + SIGINT, as shells have it. */
export const EXIT_INTERRUPTED = 130;
