import type { PageData } from '../page-data.js';
import { charts } from './charts.js';
import { controls } from './controls.js';
import { configuration, events, times } from './details.js';
import { h, setText } from './dom.js';
import { follow } from './live.js';
import { Model } from './model.js';
import { samples } from './samples.js';
import { statusOf, summary } from './summary.js';
import { toolbar } from './toolbar.js';

/** Milliseconds between two looks at the clock. */
const TICK = 5000;

const data = JSON.parse(document.getElementById('data')?.textContent ?? '') as PageData;
const model = new Model(data.runs);
const title = h('h1');
const status = h('span', { class: 'status', role: 'status' });
let lost = false;

function drawTitle(): void {
  const [run] = model.runs;
  setText(title, model.several ? `${model.runs.length} runs` : (run?.name ?? 'waiting for a run'));
  const { word, kind } = model.several || run === undefined ? { word: '', kind: 'none' } : statusOf(run, data.live);
  const over = run !== undefined && run.record.now.end !== null && !model.several;
  setText(status, lost ? (over ? `${word}; no longer connected` : 'connection lost, trying again') : word);
  status.className = `status ${lost && !over ? 'lost' : kind}`;
  status.hidden = status.textContent === '';
  const loss = run?.record.now.smoothedLoss;
  document.title = model.several || loss == null ? (title.textContent ?? '') : `${loss.toFixed(3)} · ${run?.name}`;
}

model.onChange(drawTitle);
document.body.prepend(
  h('header', {}, h('div', { class: 'title' }, title, status), h('p', { class: 'brand' }, 'kotodama')),
  h(
    'main',
    {},
    summary(model, data.live),
    data.control ? controls(model) : undefined,
    toolbar(model),
    charts(model),
    times(model),
    samples(model),
    configuration(model),
    events(model),
  ),
);
model.changed();
if (data.live) {
  // A run that says nothing more is told by the clock alone.
  setInterval(() => model.changed(), TICK);
  follow(model, (yes) => {
    lost = !yes;
    drawTitle();
  });
}
