/** More points than a chart has pixels only cost memory. */
const MAX_POINTS = 1600;

/** What becomes of a column's values when neighbouring steps share a point. */
const COLUMNS = {
  step: 'last',
  /** Tokens read so far. */
  tokens: 'last',
  /** Seconds of training so far, evaluations, samples and checkpoints included. */
  seconds: 'last',
  loss: 'mean',
  lossLow: 'low',
  lossHigh: 'high',
  learningRate: 'mean',
  gradNorm: 'mean',
  gradNormLow: 'low',
  gradNormHigh: 'high',
  /** Tokens of a step. */
  stepTokens: 'mean',
  /** Where the time of a step goes, in seconds. */
  dataSeconds: 'mean',
  computeSeconds: 'mean',
  updateSeconds: 'mean',
} as const satisfies Record<string, 'last' | 'mean' | 'low' | 'high'>;

export type HistoryColumn = keyof typeof COLUMNS;

/** One step, or the steps of one point. */
export type HistoryRow = Record<HistoryColumn, number>;

const NAMES = Object.keys(COLUMNS) as HistoryColumn[];

/** What a history is as plain JSON. */
export interface HistoryState {
  columns: Record<HistoryColumn, number[]>;
  stride: number;
  open: HistoryRow | null;
  count: number;
}

/**
 * The steps of a run of any length in constant memory: as it grows, neighbours become one point, which keeps their mean
 * and, where a spike must stay visible, their smallest and largest value.
 */
export class History {
  private state: HistoryState;

  /** @param state of a history to go on with. */
  constructor(state?: HistoryState) {
    this.state = state ?? { columns: perColumn(() => []), stride: 1, open: null, count: 0 };
  }

  /** The points that are whole, column by column, all of the same length. */
  get columns(): Readonly<Record<HistoryColumn, readonly number[]>> {
    return this.state.columns;
  }

  /** All points of a column: the whole ones, and the one that the newest steps have begun. */
  all(name: HistoryColumn): readonly number[] {
    const { columns, open } = this.state;
    return open === null ? columns[name] : [...columns[name], open[name]];
  }

  /** Steps that share a point. */
  get stride(): number {
    return this.state.stride;
  }

  add(row: HistoryRow): void {
    const { state } = this;
    // Between two steps of training every microsecond counts, so that the usual case does without merging.
    const point = state.count === 0 ? row : merge(state.open as HistoryRow, row, state.count, 1);
    state.count++;
    if (state.count < state.stride) {
      state.open = point;
      return;
    }
    for (const name of NAMES) state.columns[name].push(point[name]);
    state.open = null;
    state.count = 0;
    if (state.columns.step.length === MAX_POINTS) this.halve();
  }

  toJSON(): HistoryState {
    return this.state;
  }

  private halve(): void {
    const { columns } = this.state;
    for (const name of NAMES) {
      const values = columns[name];
      const half: number[] = [];
      for (let index = 1; index < values.length; index += 2) {
        half.push(combine(name, values[index - 1] as number, values[index] as number, 1, 1));
      }
      columns[name] = half;
    }
    this.state.stride *= 2;
  }
}

function merge(before: HistoryRow, after: HistoryRow, countBefore: number, countAfter: number): HistoryRow {
  return perColumn((name) => combine(name, before[name], after[name], countBefore, countAfter));
}

function combine(name: HistoryColumn, before: number, after: number, countBefore: number, countAfter: number): number {
  switch (COLUMNS[name]) {
    case 'last':
      return after;
    case 'mean':
      return (before * countBefore + after * countAfter) / (countBefore + countAfter);
    case 'low':
      return Math.min(before, after);
    case 'high':
      return Math.max(before, after);
  }
}

function perColumn<T>(make: (name: HistoryColumn) => T): Record<HistoryColumn, T> {
  return Object.fromEntries(NAMES.map((name) => [name, make(name)])) as Record<HistoryColumn, T>;
}
