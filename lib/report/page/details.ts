import type { ControlEvent, StartEvent } from '../../train/events.js';
import { flopsPerToken, peakFlops } from '../flops.js';
import { bytes, count, duration, quantity, rate } from '../format.js';
import type { TimeSpent } from '../run-record.js';
import { memoryUse } from '../words.js';
import { swatch } from './curve.js';
import { h } from './dom.js';
import type { Model, PageRun } from './model.js';

/** Digits of a setting. */
const DIGITS = 12;

const TIMES: readonly [name: keyof TimeSpent, text: string, colour: string][] = [
  ['compute', 'forward and backward', 'var(--c0)'],
  ['update', 'optimizer', 'var(--c2)'],
  ['data', 'waiting for data', 'var(--c1)'],
  ['evaluate', 'evaluation', 'var(--c3)'],
  ['sample', 'samples', 'var(--c4)'],
  ['save', 'checkpoints', 'var(--c5)'],
];

/** Where the time of whole runs went. */
export function times(model: Model): HTMLElement {
  const box = h('div', { class: 'card' });
  const section = h('section', {}, h('h2', {}, 'Where the time goes'), box);
  model.onChange(() => {
    const runs = model.shown.filter(({ record }) => record.seconds > 0);
    section.hidden = runs.length === 0;
    box.replaceChildren(...runs.flatMap((run) => timeBar(run, model.several)));
  });
  return section;
}

function timeBar({ name, record }: PageRun, several: boolean): HTMLElement[] {
  const { time } = record.now;
  const parts = TIMES.map(([key, text, colour]) => ({
    text,
    colour,
    seconds: time[key],
    share: time[key] / record.seconds,
  })).filter(({ share }) => share > 0.0005);
  const bars = parts.map(({ colour, share }) => {
    const bar = h('i');
    bar.style.background = colour;
    bar.style.width = `${100 * share}%`;
    return bar;
  });
  const texts = parts.map(({ text, colour, seconds, share }) =>
    h(
      'li',
      {},
      swatch(colour),
      text,
      h('b', {}, ` ${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`),
      ` ${exact(seconds)}`,
    ),
  );
  const title = several ? [h('h3', {}, name)] : [];
  return [
    ...title,
    h('div', { class: 'shares', 'aria-hidden': 'true' }, ...bars),
    h('ul', { class: 'legend' }, ...texts),
  ];
}

function exact(seconds: number): string {
  return seconds < 10 ? `${seconds.toFixed(1)}s` : duration(seconds);
}

/** Configuration and machine, a column for each run; rows that differ stand out. */
export function configuration(model: Model): HTMLElement {
  const box = h('div', { class: 'groups' });
  const differences = h('input', { type: 'checkbox', change: () => draw(true) });
  const choice = h('label', { hidden: true }, differences, ' differences alone');
  const section = h('section', {}, h('h2', {}, 'Configuration and machine'), choice, box);
  let drawn = '';
  const draw = (anew = false) => {
    const runs = model.shown;
    const key = runs.map(({ id, record }) => `${id} ${record.now.start?.time} ${record.now.start?.step}`).join();
    if (key === drawn && !anew) return;
    drawn = key;
    choice.hidden = runs.length < 2;
    box.classList.toggle('several', runs.length > 1);
    box.replaceChildren(...GROUPS.flatMap(([title, facts]) => group(title, facts, runs, differences.checked)));
  };
  model.onChange(() => draw());
  return section;
}

type Facts = readonly (readonly [name: string, value: string])[];

const GROUPS: readonly (readonly [title: string, facts: (start: StartEvent) => Facts])[] = [
  ['Machine', machineFacts],
  ['Model', modelFacts],
  ['Training', ({ configuration }) => flatten(configuration.training)],
  ['Data and files', dataFacts],
];

function group(
  title: string,
  facts: (start: StartEvent) => Facts,
  runs: readonly PageRun[],
  differencesAlone: boolean,
): HTMLElement[] {
  const tables = runs.map(({ record }) => new Map(record.now.start === null ? [] : facts(record.now.start)));
  const names = [...new Set(tables.flatMap((table) => [...table.keys()]))];
  const rows = names.flatMap((name) => {
    const values = tables.map((table) => table.get(name) ?? '-');
    const differ = new Set(values).size > 1;
    if (differencesAlone && !differ && runs.length > 1) return [];
    const cells = values.map((value) => h('td', {}, value));
    return [h('tr', differ ? { class: 'differ' } : {}, h('th', { scope: 'row' }, name), ...cells)];
  });
  if (rows.length === 0) return [];
  const heads = runs.map((run) => h('th', { scope: 'col' }, swatch(run.colour, run.dashes.training), run.name));
  const head = runs.length > 1 ? [h('thead', {}, h('tr', {}, h('td'), ...heads))] : [];
  return [
    h(
      'div',
      { class: 'card scroll' },
      h('h3', {}, title),
      h('table', { class: 'facts' }, ...head, h('tbody', {}, ...rows)),
    ),
  ];
}

function machineFacts(start: StartEvent): Facts {
  const { device, configuration, time, resumedFrom } = start;
  const { kotodama, node } = configuration;
  const peak = peakFlops(start);
  return [
    ['device', [device.device, device.name].filter(Boolean).join(', ')],
    ['detail', device.detail],
    [`peak, ${start.precision}`, peak === undefined ? '-' : quantity(peak, 'FLOP/s')],
    ['memory', memoryUse(start)],
    ['kotodama', kotodama === undefined ? '-' : String(kotodama)],
    ['Node.js', node === undefined ? '-' : String(node)],
    ['begun', new Date(1000 * time).toLocaleString()],
    ['continued from', resumedFrom ?? '-'],
  ];
}

function modelFacts(start: StartEvent): Facts {
  const flops = flopsPerToken(start);
  const { batchSize, blockSize, gradAccum, tokensPerStep } = start;
  return [
    ['parameters', count(start.parameters)],
    ['precision', start.precision],
    ['tokens per step', `${batchSize} × ${blockSize} × ${gradAccum} = ${count(tokensPerStep)}`],
    ['compute per step', flops === undefined ? '-' : quantity(flops * tokensPerStep, 'FLOP')],
    ...flatten(start.configuration.model),
  ];
}

/** What else the caller recorded, without what the other groups say. */
function dataFacts({ configuration }: StartEvent): Facts {
  const { kotodama: _, node: __, model, training, options, ...rest } = configuration;
  const told = new Set([...flatten(model), ...flatten(training)].map(([name]) => name));
  return [...flatten(options).filter(([name]) => !told.has(name)), ...flatten(rest)];
}

/** `{ a: { b: 1 } }` as `a.b: 1` */
function flatten(value: unknown, prefix = ''): [string, string][] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, item]): [string, string][] => {
    const name = `${prefix}${key}`;
    if (typeof item === 'object' && item !== null && !Array.isArray(item)) return flatten(item, `${name}.`);
    return [[name, Array.isArray(item) ? item.map(plain).join(', ') : plain(item)]];
  });
}

/** A tenth of 6e-4 is 5.9999999999999995e-5 to a computer, and 0.00006 to a person. */
function plain(value: unknown): string {
  return String(typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(DIGITS)) : value);
}

/** What else happened: warnings, what was asked for, checkpoints. */
export function events(model: Model): HTMLElement {
  const list = h('ol', { class: 'events' });
  const section = h('section', { hidden: true }, h('h2', {}, 'Events'), h('div', { class: 'card scroll' }, list));
  let drawn = '';
  model.onChange(() => {
    const items = model.shown
      .flatMap(({ name, colour, dashes, record: { now } }) =>
        [
          ...now.warnings.map(({ step, message }) => ({ step, kind: 'warning', text: message })),
          ...now.controls.map((event) => ({ step: event.step, kind: 'asked', text: asked(event) })),
          ...now.checkpoints.map(({ step, path, bytes: size, seconds }) => ({
            ...{ step, kind: 'saved', text: `${path}, ${bytes(size)} in ${exact(seconds)}` },
          })),
        ].map((item) => ({ ...item, name, colour, dash: dashes.training })),
      )
      .sort((a, b) => b.step - a.step)
      .slice(0, 200);
    const key = JSON.stringify(items);
    if (key === drawn) return;
    drawn = key;
    section.hidden = items.length === 0;
    list.replaceChildren(
      ...items.map(({ step, kind, text, colour, dash }) =>
        h(
          'li',
          { class: kind },
          model.several ? swatch(colour, dash) : undefined,
          h('b', {}, `step ${step}`),
          h('em', {}, kind),
          text,
        ),
      ),
    );
  });
  return section;
}

function asked(event: ControlEvent): string {
  if (event.action === 'learningRate') return `peak learning rate ${rate(event.learningRate)}`;
  return event.action === 'sample' && event.prompt !== '' ? `sample: ${event.prompt}` : event.action;
}
