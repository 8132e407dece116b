import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { count, duration } from './format.js';
import type { NamedRun, PageData } from './page-data.js';
import type { RunRecord, RunState } from './run-record.js';

/** Digits of the numbers in a page's curves: more than its pixels. */
const DIGITS = 6;

/** A falling curve. */
const ICON =
  'data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22%3E%3Crect width=%2216%22 ' +
  'height=%2216%22 rx=%224%22 fill=%22%232f6bed%22/%3E%3Cpath d=%22M3 4q2 7 10 8%22 fill=%22none%22 ' +
  'stroke=%22white%22 stroke-width=%222%22 stroke-linecap=%22round%22/%3E%3C/svg%3E';

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

/**
 * The page. Its policy lets nothing run but its own script, and nothing be fetched but, when it is live, from its own
 * server: what a model or a file name says stays text.
 *
 * @param text what a reader without JavaScript sees.
 */
export function page(title: string, text: string, data: PageData): string {
  const script = asset('main.js');
  const style = asset('style.css');
  const policy = [
    `default-src 'none'`,
    `script-src '${hash(script)}'`,
    `style-src '${hash(style)}'`,
    'img-src data:',
    `connect-src ${data.live ? `'self'` : `'none'`}`,
    `base-uri 'none'`,
    `form-action 'none'`,
  ];
  // The one way out of a script element is its end tag.
  const json = JSON.stringify(data).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy.join('; ')}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${escapeHtml(title)}</title>
<link rel="icon" href="${ICON}">
<style>${style}</style>
</head>
<body>
<noscript><pre>${escapeHtml(text)}</pre></noscript>
<script type="application/json" id="data">${json}</script>
<script>${script}</script>
</body>
</html>
`;
}

/** The run in a line. */
function headline({ now, best }: RunRecord): string {
  const { start, end, last } = now;
  const parts = [
    end === null ? 'in training' : end.reason,
    last === null ? '' : `step ${last.step}${start?.totalSteps ? ` of ${start.totalSteps}` : ''}`,
    last === null ? '' : `loss ${last.loss.toFixed(4)}`,
    best === undefined ? '' : `best validation loss ${best.loss.toFixed(4)}`,
    end === null ? '' : `${count(end.tokens)} tokens, ${duration(end.seconds)}`,
  ];
  return parts.filter(Boolean).join(', ');
}

/** A part of the page that was built beside this file. */
function asset(name: string): string {
  return readFileSync(new URL(`./page/${name}`, import.meta.url), 'utf8').trim();
}

function hash(content: string): string {
  return `sha256-${createHash('sha256').update(content).digest('base64')}`;
}

/** Text inside HTML: samples and file names are not markup. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replaceAll(/[&<>"']/g, (character) => entities[character] as string);
}
