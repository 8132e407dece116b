import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { publicNames } from '../data/sources/public-name.js';
import type { Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { type Comparison, compareRuns, type Pair, type RunFacts, summarize } from '../report/compare.js';
import { count } from '../report/format.js';
import { METRICS_FILE, readRunFile } from '../train/run-folder.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { COMPARE_OPTIONS, flagOf, parseFlags, readOptions } from './options.js';
import { readRunEvents } from './read-run.js';

/** Widest value that a table shows whole, and how much of a wider one before it differs from the other. */
const WIDEST = 40;
const LEAD = 16;

export const compare: Command = {
  summary: 'shows what differs between two runs, and how their losses do',
  usage: 'compare RUN RUN [--json]',
  options: COMPARE_OPTIONS,
  examples: ['kotodama compare runs/a runs/b'],
  async run(words) {
    const folders = words.filter((word) => !word.startsWith('--'));
    const reader = new OptionReader(
      parseFlags(
        words.filter((word) => word.startsWith('--')),
        COMPARE_OPTIONS,
      ),
      flagOf,
    );
    const { json } = readOptions(reader, COMPARE_OPTIONS, 'compare') as { json: boolean };
    const [a, b, ...more] = folders;
    if (a === undefined || b === undefined || more.length > 0) {
      reader.problems.add('arguments', 'two folders of runs', folders.join(' ') || 'nothing');
    }
    reader.finish('kotodama compare cannot begin');
    const names = { a: a as string, b: b as string };
    const comparison = compareRuns(await readRun(names.a), await readRun(names.b));
    process.stdout.write(json ? `${JSON.stringify(comparison)}\n` : `${show(comparison, names)}\n`);
    return 0;
  },
};

async function readRun(folder: string) {
  if (!existsSync(join(folder, METRICS_FILE))) {
    throw new KotodamaError('ERR_IO', `${folder} holds no run`, {
      expected: `a folder with ${METRICS_FILE}, as kotodama train writes it`,
      hint: 'give the folder that was --out',
    });
  }
  return summarize(publicNames((await readRunFile(folder)) ?? {}), readRunEvents(folder));
}

function show(comparison: Comparison, names: Pair<string>): string {
  const { runs, different, same, commonSteps, firstDifference, losses, evaluations } = comparison;
  const parts = [
    table([
      ['', names.a, names.b],
      ...FACTS.map(([name, of]): [string, string, string] => [name, of(runs.a), of(runs.b)]),
    ]),
    different.length === 0
      ? `settings: all ${same} are the same`
      : `settings: ${same} are the same, ${different.length} differ\n${table(
          different.map(({ name, a, b }) => [`  ${name}`, ...valueTexts(a, b)]),
        )}`,
    equality(commonSteps, firstDifference),
  ];
  if (losses.length > 0) parts.push(lossTable('mean loss up to step', names, losses));
  if (evaluations.length > 0) parts.push(lossTable('validation at step', names, evaluations));
  return parts.join('\n\n');
}

const FACTS: [string, (run: RunFacts) => string][] = [
  ['steps', ({ steps }) => String(steps)],
  ['ended', ({ reason }) => reason ?? 'no'],
  ['last loss', ({ loss }) => loss?.toFixed(4) ?? '-'],
  ['best validation', ({ best }) => (best === null ? '-' : `${best.loss.toFixed(4)} at step ${best.step}`)],
  ['tokens per second', ({ tokensPerSecond }) => (tokensPerSecond === null ? '-' : count(tokensPerSecond))],
];

function equality(steps: number, first: Comparison['firstDifference']): string {
  if (steps === 0) return 'losses: there is no step that both have';
  if (first === null) return `losses: equal bit for bit in all ${steps} common steps`;
  return `losses: of ${steps} common steps, step ${first.step} is the first that differs (${first.a} and ${first.b})`;
}

function lossTable(title: string, names: Pair<string>, rows: Comparison['losses']): string {
  return table([
    [title, names.a, names.b, 'difference'],
    ...rows.map(({ step, a, b }) => [`  ${step}`, a.toFixed(4), b.toFixed(4), signed(b - a)]),
  ]);
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(4)}`;
}

/** Two values that differ, so that it shows where. */
function valueTexts(...values: [Json, Json]): string[] {
  const [a, b] = values.map((value) => (value === null ? '-' : String(value))) as [string, string];
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  const begin = same + LEAD < WIDEST ? 0 : same - LEAD;
  return [a, b].map((text) => (text.length > WIDEST ? excerpt(text, begin) : text));
}

function excerpt(text: string, begin: number): string {
  const end = begin + WIDEST;
  return `${begin === 0 ? '' : '...'}${text.slice(begin, end)}${end < text.length ? '...' : ''}`;
}

/** Columns of equal width. */
function table(rows: readonly string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] as number))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
