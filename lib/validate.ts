import { KotodamaError } from './errors.js';
import { plain, synonymOf, synonymsOf } from './synonyms.js';

/** One thing that is wrong with some options. */
export interface Problem {
  /** The option, e.g. `nHead`. */
  name: string;
  /** What would be right, e.g. `an integer of at least 1`. */
  expected: string;
  /** What was found; a string, already printable (see {@link describe}). */
  received: string;
  /** What to do about it. */
  hint?: string;
}

/** Collects everything that is wrong before complaining once. */
export class Problems {
  readonly list: Problem[] = [];

  add(name: string, expected: string, received: string, hint?: string): void {
    this.list.push(hint === undefined ? { name, expected, received } : { name, expected, received, hint });
  }

  /** @throws KotodamaError `ERR_OPTIONS` that lists every problem under `title`, when there is one. */
  throwIfAny(title: string): void {
    const [first, ...others] = this.list;
    if (first === undefined) return;
    if (others.length === 0) {
      throw new KotodamaError('ERR_OPTIONS', `${title}: ${first.name}`, first);
    }
    throw new KotodamaError('ERR_OPTIONS', `${title}: ${this.list.length} problems\n${this.list.map(line).join('\n')}`);
  }
}

function line({ name, expected, received, hint }: Problem): string {
  return `  ${name}: expected ${expected}, received ${received}${hint === undefined ? '' : ` (${hint})`}`;
}

/** Limits of a number; each is optional. */
export interface Range {
  /** Smallest value allowed. */
  min?: number;
  /** The value must be larger than this. */
  above?: number;
  /** Largest value allowed. */
  max?: number;
  /** The value must be smaller than this. */
  below?: number;
}

/**
 * Reads typed values out of an options object and notes what is wrong with them. Every check returns a value of the right
 * type even after a problem, so that reading goes on; `finish` then throws. An absent value (`undefined`) is the fallback,
 * or a problem when no fallback is given.
 */
export class OptionReader {
  readonly problems = new Problems();
  /** The options as given. */
  readonly values: Readonly<Record<string, unknown>>;
  private readonly label: (name: string) => string;

  /** @param label how a name is shown to the person, e.g. `nLayer` as `--n-layer`. */
  constructor(options: unknown, label: (name: string) => string = (name) => name) {
    this.label = label;
    this.values = isRecord(options) ? options : {};
    if (!isRecord(options) && options !== undefined) this.problems.add('options', 'an object', describe(options));
  }

  /** Whether a value was given. */
  has(name: string): boolean {
    return this.values[name] !== undefined;
  }

  /**
   * Notes every key that is not among `names`, with those that may be meant.
   *
   * @param elsewhere hints for keys that belong somewhere else
   * @param list where all names can be read, for a list that is too long for a message
   */
  onlyKnown(names: readonly string[], elsewhere: Readonly<Record<string, string>> = {}, list?: string): void {
    const given = Object.keys(this.values).filter((key) => this.values[key] !== undefined);
    const unknown = given.filter((key) => !names.includes(key));
    const kind = classOf(this.values);
    if (kind !== undefined && unknown.length > given.length / 2) {
      // A tokenizer, say, where { tokenizer } is meant: the names of its fields help nobody. Where most names are known,
      // it is a class of options.
      this.problems.add('options', `an object with some of ${names.map(this.label).join(', ')}`, `a ${kind}`);
      return;
    }
    for (const key of unknown) {
      const close = meant(key, names).map(this.label);
      const mean = close.length === 0 ? undefined : `did you mean ${alternatives(close)}?`;
      const hint = (Object.hasOwn(elsewhere, key) ? elsewhere[key] : mean) ?? list;
      const expected = hint === undefined ? `one of ${names.map(this.label).join(', ')}` : 'a known name';
      this.problems.add(this.label(key), expected, 'an unknown name', hint);
    }
  }

  integer(name: string, range: Range): number;
  integer<F>(name: string, range: Range, fallback: F): number | F;
  integer<F>(name: string, range: Range, ...fallback: F[]): number | F {
    const expected = () => {
      const value = this.values[name];
      // Larger ones are no longer exact; only who gives one needs to know.
      const isInexact = typeof value === 'number' && value > Number.MAX_SAFE_INTEGER;
      return `an integer${rangeText(isInexact ? { max: Number.MAX_SAFE_INTEGER, ...range } : range)}`;
    };
    const holds = (value: unknown) => isInteger(value) && inside(value, range);
    return this.read(name, expected, holds, { placeholder: Number.NaN, fallback });
  }

  /** A finite number. */
  number(name: string, range: Range): number;
  number<F>(name: string, range: Range, fallback: F): number | F;
  number<F>(name: string, range: Range, ...fallback: F[]): number | F {
    const expected = () => `a number${rangeText(range)}`;
    const holds = (value: unknown) => isFiniteNumber(value) && inside(value, range);
    return this.read(name, expected, holds, { placeholder: Number.NaN, fallback });
  }

  boolean(name: string): boolean;
  boolean<F>(name: string, fallback: F): boolean | F;
  boolean<F>(name: string, ...fallback: F[]): boolean | F {
    return this.read(name, 'true or false', (value) => typeof value === 'boolean', { placeholder: false, fallback });
  }

  /** A string that is not empty. */
  string(name: string): string;
  string<F>(name: string, fallback: F): string | F;
  string<F>(name: string, ...fallback: F[]): string | F {
    const holds = (value: unknown) => typeof value === 'string' && value.length > 0;
    return this.read(name, 'a string that is not empty', holds, { placeholder: '', fallback });
  }

  /** Seconds above 0, as a number, or as text with units: `8h`, `1h30m`, `45s`, `2d`. */
  duration(name: string): number;
  duration<F>(name: string, fallback: F): number | F;
  duration<F>(name: string, ...fallback: F[]): number | F {
    const holds = (value: unknown) => Number.isFinite(secondsOf(value)) && secondsOf(value) > 0;
    const given = this.read(name, 'a time such as 8h, 1h30m or 45s', holds, { placeholder: Number.NaN, fallback });
    return this.values[name] === undefined ? given : secondsOf(given);
  }

  /** A list of at least one string, none of them empty. */
  strings(name: string): string[];
  strings<F>(name: string, fallback: F): string[] | F;
  strings<F>(name: string, ...fallback: F[]): string[] | F {
    const holds = (value: unknown) =>
      Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string' && item.length > 0);
    return this.read(name, 'a list of strings that are not empty', holds, { placeholder: [] as string[], fallback });
  }

  /** One of a few strings. */
  choice<C extends string>(name: string, choices: readonly [C, ...C[]]): C;
  choice<C extends string, F>(name: string, choices: readonly [C, ...C[]], fallback: F): C | F;
  choice<C extends string, F>(name: string, choices: readonly [C, ...C[]], ...fallback: F[]): C | F {
    const holds = (value: unknown) => typeof value === 'string' && (choices as readonly string[]).includes(value);
    const hint = (value: unknown) => {
      const close = typeof value === 'string' ? nearest(value, choices) : undefined;
      return close === undefined ? undefined : `did you mean '${close}'?`;
    };
    const expected = () => alternatives(choices.map((choice) => `'${choice}'`));
    return this.read(name, expected, holds, { placeholder: choices[0], fallback, hint });
  }

  /** An AbortSignal, or nothing. */
  signal(name: string): AbortSignal | undefined {
    const holds = (value: unknown) => value instanceof AbortSignal;
    return this.read<AbortSignal | undefined, undefined>(name, 'an AbortSignal', holds, {
      placeholder: undefined,
      fallback: [undefined],
    });
  }

  /** Notes a problem that the simple checks cannot see. */
  problem(name: string, expected: string, received: unknown, hint?: string): void {
    this.problems.add(this.label(name), expected, describe(received), hint ?? hintAbout(name, received));
  }

  /** @throws KotodamaError `ERR_OPTIONS` with every problem found. */
  finish(title: string): void {
    this.problems.throwIfAny(title);
  }

  /** Texts that take time to make are functions: a training step reads its options here too. */
  private read<T, F>(
    name: string,
    expected: string | (() => string),
    holds: (value: unknown) => boolean,
    rest: { placeholder: T; fallback: F[]; hint?: (value: unknown) => string | undefined },
  ): T | F {
    const value = this.values[name];
    if (value === undefined && rest.fallback.length > 0) return rest.fallback[0] as F;
    if (holds(value)) return value as T;
    const right = typeof expected === 'string' ? expected : expected();
    this.problems.add(this.label(name), right, value === undefined ? 'nothing' : describe(value), rest.hint?.(value));
    return rest.placeholder;
  }
}

const UNIT_SECONDS: Record<string, number> = { d: 86_400, h: 3_600, m: 60, s: 1 };

/** Numbers stay; text is a sum of numbers with units, from the largest to the smallest. NaN for anything else. */
function secondsOf(value: unknown): number {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string' || !/^(?=.)(\d+(\.\d+)?d)?(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?$/.test(value)) {
    return Number.NaN;
  }
  const parts = value.matchAll(/([\d.]+)([dhms])/g);
  return [...parts].reduce((sum, [, count, unit]) => sum + Number(count) * (UNIT_SECONDS[unit as string] as number), 0);
}

/** @throws KotodamaError `ERR_OPTIONS` unless `path` is a string that is not empty */
export function checkPath(what: string, path: unknown, hint?: string): void {
  checkArgument(typeof path === 'string' && path !== '', what, 'a path', path, hint);
}

/** Checks one argument. @throws KotodamaError `ERR_OPTIONS` unless it `holds` */
export function checkArgument(holds: boolean, what: string, expected: string, value: unknown, hint?: string): void {
  if (!holds) throw new KotodamaError('ERR_OPTIONS', what, { expected, received: describe(value), hint });
}

/** What is done about a value that only holds the right one: trainTokenizer gives a TrainedTokenizer. */
function hintAbout(name: string, value: unknown): string | undefined {
  const { tokenizer } = (value ?? {}) as { tokenizer?: unknown };
  return name === 'tokenizer' && typeof tokenizer === 'function' ? 'call .tokenizer() on it' : undefined;
}

/** A value as a message shows it: short, and unmistakable about its type. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return value.length > 60 ? `'${value.slice(0, 57)}...'` : `'${value}'`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  if (typeof value === 'function') return 'a function';
  if (isPromise(value)) return 'a Promise (is an await missing?)';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** Whether somebody forgot to await this value. */
export function isPromise(value: unknown): boolean {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}

/** The candidate that `word` probably means, if any: another name of it, or a misspelling. */
export function nearest<C extends string>(word: string, candidates: readonly C[]): C | undefined {
  const synonym = candidates.find((candidate) => plain(candidate) === plain(word)) ?? synonymOf(word, candidates);
  if (synonym !== undefined) return synonym;
  let best: C | undefined;
  // A third of the letters may be wrong; more is a different word.
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(plain(word), plain(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** More candidates than these are no hint. */
const MOST_MEANT = 3;

/** Letters of a word that can be recognised inside another one. */
const LEAST_PART = 3;

/**
 * The candidates that `word` may mean, a few at most: its other names, else a misspelling, else those that it is a part of,
 * first those that begin with it.
 */
export function meant<C extends string>(word: string, candidates: readonly C[]): C[] {
  const close = nearest(word, candidates);
  if (close !== undefined) {
    const same = plain(close) === plain(word) ? [] : synonymsOf(word, candidates);
    return same.includes(close) && same.length <= MOST_MEANT ? same : [close];
  }
  const part = plain(word);
  if (part.length < LEAST_PART) return [];
  const found = [
    candidates.filter((candidate) => plain(candidate).startsWith(part)),
    candidates.filter((candidate) => plain(candidate).includes(part)),
  ].find(({ length }) => length > 0);
  return found === undefined || found.length > MOST_MEANT ? [] : found;
}

/** Damerau-Levenshtein distance (adjacent transpositions count once), by dynamic programming over three rows. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let distance = Math.min(at(above, j) + 1, at(row, j - 1) + 1, at(above, j - 1) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        distance = Math.min(distance, at(before, j - 2) + 1);
      }
      row.push(distance);
    }
    before = above;
    above = row;
  }
  return at(above, b.length);
}

function at(row: number[], column: number): number {
  return row[column] as number;
}

/** `a, b or c` */
export function alternatives(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

/** Whether `for await` takes it, and it is no text. */
export function isIterable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value);
}

/** Whether it is an object that may hold named values: no array, no promise. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isPromise(value);
}

/** The class of an object that is more than a list of options. */
function classOf(value: object): string | undefined {
  const name: unknown = value.constructor?.name;
  return typeof name !== 'string' || name === '' || name === 'Object' ? undefined : name;
}

function isFiniteNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function isInteger(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value);
}

function inside(value: number, { min, above, max, below }: Range): boolean {
  return (
    (min === undefined || value >= min) &&
    (above === undefined || value > above) &&
    (max === undefined || value <= max) &&
    (below === undefined || value < below)
  );
}

function rangeText({ min, above, max, below }: Range): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  const limits = [
    min === undefined ? '' : `of at least ${min}`,
    above === undefined ? '' : `above ${above}`,
    max === undefined ? '' : `of at most ${max}`,
    below === undefined ? '' : `below ${below}`,
  ].filter(Boolean);
  return limits.length === 0 ? '' : ` ${limits.join(' and ')}`;
}
