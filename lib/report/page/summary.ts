import { flopsUtilization } from '../flops.js';
import { count, duration, lossText, perplexity, rate } from '../format.js';
import type { RunRecord } from '../run-record.js';
import { swatch } from './curve.js';
import { h, setText } from './dom.js';
import type { Model, PageRun } from './model.js';

/** Seconds without news that are worth a word; a run whose steps take long has more of them. */
const QUIET = 60;
const QUIET_STEPS = 20;

/** What a run is at, as a word and a class of the style sheet. */
export function statusOf({ record: { now }, heardAt }: PageRun, live: boolean): { word: string; kind: string } {
  if (now.end?.reason === 'completed') return { word: 'completed', kind: 'done' };
  if (now.end !== null) return { word: 'stopped', kind: 'stopped' };
  if (now.paused) return { word: 'paused', kind: 'paused' };
  if (!live) return { word: 'unfinished', kind: 'stopped' };
  // Nobody tells of a run that was killed.
  const quiet = (Date.now() - heardAt) / 1000;
  if (quiet < Math.max(QUIET, QUIET_STEPS * (now.stepSeconds ?? 0))) return { word: 'training', kind: 'busy' };
  return { word: `no news for ${duration(quiet)}`, kind: 'stopped' };
}

/** The numbers at the top: tiles for one run, a table for several. */
export function summary(model: Model, live: boolean): HTMLElement {
  const box = h('section', { 'aria-label': 'Summary' });
  const tiles = new Tiles();
  const table = new RunTable(model, live);
  model.onChange(() => {
    const [run] = model.runs;
    const shown = model.several ? table.element : tiles.element;
    if (box.firstChild !== shown) box.replaceChildren(shown);
    if (model.several) table.draw();
    else if (run !== undefined) tiles.draw(run.record);
  });
  return box;
}

class Tiles {
  readonly element = h('dl', { class: 'tiles' });
  private readonly values = new Map<string, { value: Element; note: Element }>();
  private readonly bar = h('progress', { max: 1, value: 0, 'aria-label': 'Part of the run that is done' });

  draw(record: RunRecord): void {
    const { now, best } = record;
    const { last, start, end } = now;
    const total = start?.totalSteps ?? null;
    const left = total === null || last === null ? undefined : (total - last.step) * (now.stepSeconds ?? 0);
    const newest = now.evaluations.at(-1);
    const utilization = start === null || last === null ? undefined : flopsUtilization(start, last.tokensPerSecond);
    this.tile('Step', last === null ? '0' : String(last.step), total === null ? '' : `of ${total}`);
    this.tile(
      'Loss',
      now.smoothedLoss === null ? '-' : lossText(now.smoothedLoss),
      last === null ? '' : `last step ${lossText(last.loss)}`,
    );
    this.tile(
      'Validation loss',
      newest === undefined ? '-' : lossText(newest.loss),
      best === undefined || newest === undefined || best.loss === newest.loss
        ? perplexityOf(newest)
        : `best ${lossText(best.loss)} at step ${best.step}`,
    );
    this.tile(
      'Tokens per second',
      last === null ? '-' : count(record.history.columns.step.length === 0 ? 0 : last.tokensPerSecond),
      (utilization === undefined ? '' : `MFU ${Math.round(100 * utilization)} %, `) +
        (last === null ? '' : `${count(last.tokens)} tokens so far`),
    );
    this.tile('Learning rate', last === null ? '-' : rate(last.learningRate), peak(record));
    this.tile(
      'Time',
      duration(record.seconds),
      end === null && left !== undefined ? `${duration(left)} left` : (start?.device.name ?? ''),
    );
    const done = total === null || last === null ? 0 : last.step / total;
    this.bar.value = done;
    this.bar.hidden = total === null;
  }

  private tile(name: string, value: string, note: string): void {
    let found = this.values.get(name);
    if (found === undefined) {
      found = { value: h('b'), note: h('small') };
      const more = name === 'Step' ? this.bar : undefined;
      this.element.append(h('div', { class: 'card' }, h('dt', {}, name), h('dd', {}, found.value, found.note, more)));
      this.values.set(name, found);
    }
    setText(found.value, value);
    setText(found.note, note);
  }
}

function perplexityOf(evaluation: { loss: number } | undefined): string {
  return evaluation === undefined ? 'never measured' : `perplexity ${perplexity(evaluation.loss)}`;
}

function peak({ now }: RunRecord): string {
  if (now.peakLearningRate !== null) return `peak set to ${rate(now.peakLearningRate)}`;
  const { lr, schedule } = (now.start?.configuration.training ?? {}) as Record<string, unknown>;
  return typeof lr === 'number' ? `${schedule}, peak ${rate(lr)}` : '';
}

const HEADINGS = ['run', 'state', 'step', 'loss', 'validation', 'tokens', 'tokens/s', 'time'];

/** Several runs, a row each; their boxes say which ones the charts show. */
class RunTable {
  private readonly body = h('tbody');
  readonly element = h(
    'div',
    { class: 'card scroll' },
    h(
      'table',
      { class: 'runs' },
      h('thead', {}, h('tr', {}, ...HEADINGS.map((name) => h('th', { scope: 'col' }, name)))),
      this.body,
    ),
  );
  private readonly rows = new Map<string, HTMLTableCellElement[]>();

  constructor(
    private readonly model: Model,
    private readonly live: boolean,
  ) {}

  draw(): void {
    for (const [id, cells] of this.rows) {
      if (this.model.runs.some((run) => run.id === id)) continue;
      cells[0]?.parentElement?.remove();
      this.rows.delete(id);
    }
    for (const run of this.model.runs) {
      const cells = this.rows.get(run.id) ?? this.addRow(run);
      const { now, seconds, best } = run.record;
      const { last } = now;
      const values = [
        statusOf(run, this.live).word,
        last === null ? '0' : `${last.step}${now.start?.totalSteps ? ` / ${now.start.totalSteps}` : ''}`,
        now.smoothedLoss === null ? '-' : lossText(now.smoothedLoss),
        best === undefined ? '-' : lossText(best.loss),
        last === null ? '-' : count(last.tokens),
        last === null ? '-' : count(last.tokensPerSecond),
        duration(seconds),
      ];
      for (const [index, value] of values.entries()) setText(cells[index] as Element, value);
    }
  }

  private addRow(run: PageRun): HTMLTableCellElement[] {
    const box = h('input', {
      type: 'checkbox',
      checked: run.shown,
      change: () => {
        run.shown = box.checked;
        this.model.changed();
      },
    });
    const cells = HEADINGS.slice(1).map(() => h('td'));
    const label = h('label', {}, box, swatch(run.colour, run.dashes.training), run.name);
    this.body.append(h('tr', {}, h('th', { scope: 'row' }, label), ...cells));
    this.rows.set(run.id, cells);
    return cells;
  }
}
