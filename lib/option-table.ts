import type { OptionReader, Range } from './validate.js';

/** How one option is read, checked and explained: the same for the API, the command line and a configuration file. */
export type OptionSpec = {
  /** One line for `--help`, without the default. */
  help: string;
  /** What an absent value becomes; `undefined`: nothing (see `derived`). */
  default?: number | string | boolean;
  /** How an absent value is found, when it depends on other options. */
  derived?: string;
  /** What stands for the value in `--help`. */
  placeholder?: string;
  /** What the flag means on a command line without a value. */
  bare?: number;
  /** True when a resumed run must keep the value: another one would make it another run. */
  fixed?: boolean;
} & (
  | { kind: 'integer' | 'number'; range: Range }
  | { kind: 'boolean' | 'string' | 'strings' | 'duration' }
  | { kind: 'choice'; choices: readonly [string, ...string[]] }
);

export type OptionTable = Readonly<Record<string, OptionSpec>>;

/** Reads one option by its spec; a problem is noted in `reader`. */
export function readOption(reader: OptionReader, name: string, spec: OptionSpec): unknown {
  if (!reader.has(name)) return spec.default;
  switch (spec.kind) {
    case 'integer':
      return reader.integer(name, spec.range);
    case 'number':
      return reader.number(name, spec.range);
    case 'boolean':
      return reader.boolean(name);
    case 'choice':
      return reader.choice(name, spec.choices);
    case 'string':
      return reader.string(name);
    case 'duration':
      return reader.duration(name);
    case 'strings':
      return reader.strings(name);
  }
}
