import type { History } from '../history.js';
import { smooth } from '../smooth.js';
import { Chart } from './chart.js';
import type { Curve } from './curve.js';
import { h } from './dom.js';
import { evaluationX, type Model, type PageRun } from './model.js';

/** Where the time of a step goes: column, name, colour. */
export const STEP_PARTS = [
  ['computeSeconds', 'forward and backward', 'var(--c0)'],
  ['updateSeconds', 'optimizer', 'var(--c2)'],
  ['dataSeconds', 'waiting for data', 'var(--c1)'],
] as const;

/** All charts of the page. */
export function charts(model: Model): HTMLElement {
  const loss = new Chart('Loss', model, { unit: 'nats per token', log: true, tall: true });
  const rate = new Chart('Learning rate', model, { zero: true });
  const norm = new Chart('Gradient norm', model, { unit: 'before clipping', log: true });
  const speed = new Chart('Throughput', model, { unit: 'tokens per second', zero: true });
  const time = new Chart('Time of a step', model, { unit: 'milliseconds', zero: true });
  model.onChange(() => {
    const runs = model.shown;
    loss.update(runs.flatMap((run) => lossCurves(model, run)));
    rate.update(runs.map((run) => plain(model, run, 'learning rate', run.record.history.all('learningRate'))));
    norm.update(runs.map((run) => noisy(model, run, 'norm', 'gradNorm')));
    speed.update(runs.map((run) => smoothed(model, run, 'tokens per second', speeds(run))));
    time.update(model.several ? runs.map((run) => stepTime(model, run)) : runs.flatMap((run) => stepParts(model, run)));
  });
  return h(
    'section',
    { 'aria-label': 'Curves' },
    loss.element,
    h('div', { class: 'pair' }, norm.element, rate.element, speed.element, time.element),
  );
}

function lossCurves(model: Model, run: PageRun): Curve[] {
  const training = noisy(model, run, 'training', 'loss');
  const { evaluations } = run.record.now;
  const validation: Curve = {
    name: model.several ? `${run.name}, validation` : 'validation',
    colour: model.several ? run.colour : 'var(--c1)',
    x: evaluations.map((evaluation) => evaluationX(evaluation, model.x)),
    y: evaluations.map(({ loss }) => loss),
    dots: true,
    dash: model.several ? run.dashes.validation : undefined,
  };
  return [training, validation];
}

/** A curve whose points are means: a spike shows as a faint band. */
function noisy(model: Model, run: PageRun, name: string, column: 'loss' | 'gradNorm'): Curve {
  const { history } = run.record;
  const curve = smoothed(model, run, name, history.all(column));
  if (history.stride === 1) return curve;
  return { ...curve, low: history.all(`${column}Low`), high: history.all(`${column}High`) };
}

function smoothed(model: Model, run: PageRun, name: string, values: readonly number[]): Curve {
  const curve = plain(model, run, name, values);
  return model.smoothing === 0 ? curve : { ...curve, y: smooth(values, model.smoothing), raw: values };
}

function plain(model: Model, run: PageRun, name: string, values: readonly number[]): Curve {
  return {
    name: model.several ? run.name : name,
    colour: run.colour,
    dash: run.dashes.training,
    x: run.record.history.all(model.x),
    y: values,
  };
}

function speeds({ record }: PageRun): number[] {
  const seconds = stepSeconds(record.history);
  return record.history.all('stepTokens').map((tokens, index) => tokens / (seconds[index] as number));
}

function stepSeconds(history: History): number[] {
  const parts = STEP_PARTS.map(([column]) => history.all(column));
  return history.all('step').map((_, index) => parts.reduce((sum, part) => sum + (part[index] as number), 0));
}

function stepTime(model: Model, run: PageRun): Curve {
  const milliseconds = stepSeconds(run.record.history).map((seconds) => 1000 * seconds);
  return smoothed(model, run, 'step', milliseconds);
}

/** The parts of a step's time, one on top of the other. */
function stepParts(model: Model, run: PageRun): Curve[] {
  const { history } = run.record;
  const x = history.all(model.x);
  let below = x.map(() => 0);
  return STEP_PARTS.map(([column, name, colour]) => {
    const part = smooth(history.all(column), model.smoothing);
    const low = below;
    below = below.map((sum, index) => sum + 1000 * (part[index] as number));
    return { name, colour, x, y: below, low, filled: true };
  });
}
