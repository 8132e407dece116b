import { duration } from '../format.js';
import type { NamedRun, PageData } from '../page-data.js';
import { type Evaluation, RunRecord } from '../run-record.js';
import { shortNumber } from '../scale.js';

/** What the charts go along. */
export type XAxis = 'step' | 'tokens' | 'seconds';

/** A run on the page. */
export interface PageRun {
  id: string;
  name: string;
  /** A CSS colour. */
  colour: string;
  record: RunRecord;
  shown: boolean;
  /** When the run was last heard of, in milliseconds since 1970; infinite on a page that follows none. */
  heardAt: number;
}

const COLOURS = 8;

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
    else this.runs.push({ id, name, colour: this.freeColour(), record, shown: true, heardAt });
    this.changed();
  }

  /** Leaves out the runs of other ids. */
  keep(ids: ReadonlySet<string>): void {
    this.runs.splice(0, this.runs.length, ...this.runs.filter(({ id }) => ids.has(id)));
    this.changed();
  }

  private freeColour(): string {
    const colour = (index: number) => `var(--c${index % COLOURS})`;
    const taken = new Set(this.runs.map((run) => run.colour));
    for (let index = 0; index < COLOURS; index++) if (!taken.has(colour(index))) return colour(index);
    return colour(this.runs.length);
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
    if (this.zoom !== null) return this.zoom;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const { record } of this.shown) {
      const evaluations = record.now.evaluations.map((evaluation) => evaluationX(evaluation, this.x));
      for (const values of [record.history.all(this.x), evaluations]) {
        low = Math.min(low, values[0] ?? low);
        high = Math.max(high, values.at(-1) ?? high);
      }
    }
    return low < high ? [low, high] : Number.isFinite(low) ? [low - 1, low + 1] : [0, 1];
  }

  setZoom(zoom: readonly [number, number] | null): void {
    this.zoom = zoom;
    this.changed();
  }

  setCursor(cursor: number | null): void {
    this.cursor = cursor;
    this.changed();
  }

  /** A number of the x axis, as its ticks have it. */
  formatX(value: number): string {
    return this.x === 'seconds' ? duration(value) : shortNumber(this.x === 'step' ? Math.round(value) : value, 5);
  }
}

/** Where an evaluation is on the x axis. */
export function evaluationX({ step, runTokens, runSeconds }: Evaluation, x: XAxis): number {
  return { step, tokens: runTokens, seconds: runSeconds }[x];
}
