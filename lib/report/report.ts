import { count, duration } from './format.js';
import { escapeHtml, htmlPage } from './html-page.js';
import type { NamedRun, PageData } from './page-data.js';
import type { RunRecord, RunState } from './run-record.js';

/** Digits of the numbers in a page's curves: more than its pixels. */
const DIGITS = 6;

/** A falling curve. */
const ICON = '<path d="M3 4q2 7 10 8" fill="none" stroke="white" stroke-width="2" stroke-linecap="round"/>';

/** Runs as one self-contained HTML page: curves, samples, configuration. */
export function reportPage(runs: readonly { name: string; record: RunRecord }[]): string {
  const named = runs.map(({ name, record }, index) => namedRun(String(index), name, record));
  const title = runs.map(({ name }) => name).join(', ');
  const text = runs.map(({ name, record }) => `${name}: ${headline(record)}`).join('\n');
  return page(title, text, { live: false, control: false, runs: named });
}

/** A run as a page takes it: the numbers of its curves rounded. */
export function namedRun(id: string, name: string, record: RunRecord): NamedRun {
  const state = record.toJSON();
  const columns = Object.entries(state.history.columns).map(([column, values]) => [column, values.map(rounded)]);
  return {
    id,
    name,
    state: { ...state, history: { ...state.history, columns: Object.fromEntries(columns) } } as RunState,
  };
}

function rounded(value: number): number {
  return Number.isInteger(value) ? value : Number(value.toPrecision(DIGITS));
}

/** @param text what a reader without JavaScript sees. */
export function page(title: string, text: string, data: PageData): string {
  const noscript = `<pre>${escapeHtml(text)}</pre>`;
  return htmlPage({ title, icon: ICON, assets: 'page', data, noscript, live: data.live });
}

/** The run in a line. */
function headline({ now, best }: RunRecord): string {
  const { start, end, last } = now;
  const parts = [
    end === null ? 'unfinished' : end.reason,
    last === null ? '' : `step ${last.step}${start?.totalSteps ? ` of ${start.totalSteps}` : ''}`,
    last === null ? '' : `loss ${last.loss.toFixed(4)}`,
    best === undefined ? '' : `best validation loss ${best.loss.toFixed(4)}`,
    end === null ? '' : `${count(end.tokens)} tokens, ${duration(end.seconds)}`,
  ];
  return parts.filter(Boolean).join(', ');
}
