import { duration } from '../format.js';
import type { NamedRun, PageData } from '../page-data.js';
import { type Evaluation, RunRecord } from '../run-record.js';
import { linearScale, type Scale, shortNumber, tickDigits, tickTime, timeStep, wholeStep } from '../scale.js';

/** What the charts go along. */
export type XAxis = 'step' | 'tokens' | 'seconds';

/** A run on the page. */
export interface PageRun {
  id: string;
  name: string;
  /** A CSS colour. */
  colour: string;
  /** Strokes and gaps of its lines (SVG, stroke-dasharray): those of the training undefined for a line without gaps. */
  dashes: { training?: string; validation: string };
  record: RunRecord;
  shown: boolean;
  /** When the run was last heard of, in milliseconds since 1970; infinite on a page that follows none. */
  heardAt: number;
}

const COLOURS = 8;

/** What tells runs of the same colour apart: one more dot for each round through the colours. */
const DASHES: readonly PageRun['dashes'][] = [
  { validation: '5 4' },
  { training: '14 3 2 3', validation: '5 3 2 3' },
  { training: '14 3 2 3 2 3', validation: '5 3 2 3 2 3' },
];

/** What the page shows, and how. Views draw it anew after `changed`, at most once a frame. */
export class Model {
  readonly runs: PageRun[] = [];
  x: XAxis = 'step';
  /** Weight of the past in smoothed curves, 0 to 0.99. */
  smoothing = 0.8;
  /** Part of the x axis that is shown; null: all. */
  zoom: readonly [number, number] | null = null;
  /** Where the reader points, on the x axis. */
  cursor: number | null = null;
  private readonly views: (() => void)[] = [];
  private waiting = false;

  constructor(runs: PageData['runs']) {
    for (const run of runs) this.replace(run);
  }

  get shown(): PageRun[] {
    return this.runs.filter(({ shown }) => shown);
  }

  /** Several runs are told apart by colour, one by what its curves are. */
  get several(): boolean {
    return this.runs.length > 1;
  }

  /** Adds a run, or puts it in the place of the one of that id. */
  replace({ id, name, state, quietSeconds }: NamedRun): void {
    const record = new RunRecord(state);
    const heardAt = quietSeconds === undefined ? Number.POSITIVE_INFINITY : Date.now() - 1000 * quietSeconds;
    const found = this.runs.find((run) => run.id === id);
    if (found !== undefined) Object.assign(found, { record, heardAt });
    else this.runs.push({ id, name, ...this.freeLook(), record, shown: true, heardAt });
    this.changed();
  }

  /** Leaves out the runs of other ids. */
  keep(ids: ReadonlySet<string>): void {
    this.runs.splice(0, this.runs.length, ...this.runs.filter(({ id }) => ids.has(id)));
    this.changed();
  }

  /** The first colour, and dashes, that no run has; from the start again once all are taken. */
  private freeLook(): Pick<PageRun, 'colour' | 'dashes'> {
    const look = (index: number) => ({
      colour: `var(--c${index % COLOURS})`,
      dashes: DASHES[Math.floor(index / COLOURS) % DASHES.length] as PageRun['dashes'],
    });
    const all = Array.from({ length: COLOURS * DASHES.length }, (_, index) => look(index));
    const isFree = ({ colour, dashes }: ReturnType<typeof look>) =>
      !this.runs.some((run) => run.colour === colour && run.dashes === dashes);
    return all.find(isFree) ?? look(this.runs.length);
  }

  onChange(draw: () => void): void {
    this.views.push(draw);
  }

  changed(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      for (const draw of this.views) draw();
    });
  }

  /** The x axis of what is shown: its ends. */
  domain(): readonly [number, number] {
    return this.zoom ?? this.whole();
  }

  /** The x axis of what is shown, with about `count` ticks. */
  xScale(count: number): Scale {
    return linearScale(...this.domain(), count, this.x === 'seconds' ? timeStep : wholeStep);
  }

  /** The x axis of all there is: its ends. */
  private whole(x = this.x): readonly [number, number] {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const { record } of this.shown) {
      const { evaluations } = record.now;
      const ends = [...evaluations.slice(0, 1), ...evaluations.slice(-1)].map((end) => evaluationX(end, x));
      for (const values of [record.history.all(x), ends]) {
        low = Math.min(low, values[0] ?? low);
        high = Math.max(high, values.at(-1) ?? high);
      }
    }
    return low < high ? [low, high] : Number.isFinite(low) ? [Math.max(0, low - 1), low + 1] : [0, 1];
  }

  /** Shows a part of the x axis, or all: nothing beyond what there is, and no less than about one step. */
  setZoom(zoom: readonly [number, number] | null): void {
    this.zoom = zoom === null ? null : this.within(zoom);
    this.changed();
  }

  private within([low, high]: readonly [number, number]): readonly [number, number] | null {
    const [least, most] = this.whole();
    const [first, last] = this.whole('step');
    const size = Math.max(high - low, 1, (most - least) / (last - first));
    if (size >= (most - least) * (1 - 1e-9)) return null;
    const from = Math.min(Math.max((low + high - size) / 2, least), most - size);
    return [from, from + size];
  }

  setCursor(cursor: number | null): void {
    this.cursor = cursor;
    this.changed();
  }

  /** A number of the x axis in words. */
  formatX(value: number): string {
    if (this.x === 'seconds') return duration(value);
    return this.x === 'step' ? shortNumber(Math.round(value), 7) : shortNumber(value, 5);
  }

  /** The ticks of the x axis in words. */
  tickTexts(ticks: readonly number[]): string[] {
    if (this.x !== 'seconds') return ticks.map((tick) => shortNumber(tick, tickDigits(ticks) ?? 7));
    const [first = 0, second = first + 1] = ticks;
    return ticks.map((tick) => tickTime(tick, second - first));
  }
}

/** Where an evaluation is on the x axis. */
export function evaluationX({ step, runTokens, runSeconds }: Evaluation, x: XAxis): number {
  return { step, tokens: runTokens, seconds: runSeconds }[x];
}
