import type {
  CheckpointEvent,
  ControlEvent,
  EndEvent,
  EvalEvent,
  SampleEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  WarningEvent,
} from '../train/events.js';
import { History, type HistoryState } from './history.js';

/** How much an old loss weighs in the smoothed one. */
const SMOOTHING = 0.9;

/** Most entries of each list; as one grows beyond, every second of the older half goes. */
const MOST = { evaluations: 2000, samples: 120, checkpoints: 200, controls: 200, warnings: 60 };

/** An evaluation, and where the run stood. */
export type Evaluation = EvalEvent & { runTokens: number; runSeconds: number };

/** Seconds of a run by what they were spent on. */
export interface TimeSpent {
  data: number;
  compute: number;
  update: number;
  evaluate: number;
  sample: number;
  save: number;
}

/** A run as plain JSON. */
export interface RunState {
  start: StartEvent | null;
  end: EndEvent | null;
  last: StepEvent | null;
  /** Moving average of the loss, in nats. */
  smoothedLoss: number | null;
  /** Moving average of the time from step to step, in seconds. */
  stepSeconds: number | null;
  paused: boolean;
  /** Peak learning rate that a person set. */
  peakLearningRate: number | null;
  history: HistoryState;
  evaluations: Evaluation[];
  /** The evaluation with the smallest loss since they began anew, if ever: the list may have lost it. */
  best: Evaluation | null;
  samples: SampleEvent[];
  checkpoints: CheckpointEvent[];
  controls: ControlEvent[];
  warnings: WarningEvent[];
  time: TimeSpent;
}

/** What is known of a run from its events, in constant memory. */
export class RunRecord {
  readonly history: History;
  private readonly state: Omit<RunState, 'history'>;

  /** @param state of a record to go on with. */
  constructor(state?: RunState) {
    this.history = new History(state?.history);
    this.state = state ?? {
      ...{ start: null, end: null, last: null, smoothedLoss: null, stepSeconds: null, paused: false },
      ...{ peakLearningRate: null, evaluations: [], best: null, samples: [], checkpoints: [] },
      ...{ controls: [], warnings: [] },
      time: { data: 0, compute: 0, update: 0, evaluate: 0, sample: 0, save: 0 },
    };
  }

  /** What is known now; lists and numbers change with the next event. */
  get now(): Readonly<Omit<RunState, 'history'>> {
    return this.state;
  }

  /** Seconds of training so far, over all starts. */
  get seconds(): number {
    const { data, compute, update, evaluate, sample, save } = this.state.time;
    return data + compute + update + evaluate + sample + save;
  }

  /** The evaluation with the smallest loss since they began anew, if ever. */
  get best(): Evaluation | undefined {
    return this.state.best ?? undefined;
  }

  add(event: TrainEvent): void {
    const { state } = this;
    switch (event.type) {
      case 'start':
        // As in the run itself, which keeps a rate that was set unless it is continued with another --lr.
        if (event.resumedFrom === null || rateOf(event) !== rateOf(state.start)) state.peakLearningRate = null;
        state.start = event;
        state.end = null;
        state.paused = false;
        break;
      case 'step':
        this.addStep(event);
        break;
      case 'eval':
        this.addEvaluation(event);
        break;
      case 'sample':
        state.time.sample += event.seconds ?? 0;
        push('samples', state, event);
        break;
      case 'checkpoint':
        // Only while the training waits does a save take its time; older releases waited for all of it.
        state.time.save += event.pausedSeconds ?? event.seconds;
        push('checkpoints', state, event);
        break;
      case 'control':
        if (event.action === 'pause' || event.action === 'resume') state.paused = event.action === 'pause';
        if (event.action === 'learningRate') state.peakLearningRate = event.learningRate;
        push('controls', state, event);
        break;
      case 'warning':
        push('warnings', state, event);
        break;
      case 'end':
        state.end = event;
        state.paused = false;
        break;
    }
  }

  toJSON(): RunState {
    return { ...this.state, history: this.history.toJSON() };
  }

  private addEvaluation(event: EvalEvent): void {
    const { state } = this;
    state.time.evaluate += event.seconds;
    if (event.anew) state.best = null;
    // No curve goes through a loss that is no number, which JSON has as null.
    if (!Number.isFinite(event.loss)) return;
    const evaluation = { ...event, runTokens: state.last?.tokens ?? 0, runSeconds: this.seconds };
    push('evaluations', state, evaluation);
    if (state.best === null || event.loss < state.best.loss) state.best = evaluation;
  }

  private addStep(event: StepEvent): void {
    const { state } = this;
    const { loss, gradNorm, stepSeconds } = event;
    const data = event.dataWaitShare * stepSeconds;
    // Runs that an older release recorded have no such number.
    const update = event.updateSeconds ?? 0;
    const compute = Math.max(0, stepSeconds - data - update);
    state.time.data += data;
    state.time.compute += compute;
    state.time.update += update;
    state.last = event;
    state.smoothedLoss = average(state.smoothedLoss, loss);
    state.stepSeconds = average(state.stepSeconds, stepSeconds);
    this.history.add({
      step: event.step,
      tokens: event.tokens,
      seconds: this.seconds,
      loss,
      lossLow: loss,
      lossHigh: loss,
      learningRate: event.learningRate,
      gradNorm,
      gradNormLow: gradNorm,
      gradNormHigh: gradNorm,
      stepTokens: event.tokensPerSecond * stepSeconds,
      dataSeconds: data,
      computeSeconds: compute,
      updateSeconds: update,
    });
  }
}

/** The learning rate that a run was started with. */
function rateOf(start: StartEvent | null): unknown {
  return (start?.configuration.training as { lr?: unknown } | undefined)?.lr;
}

function average(before: number | null, value: number): number {
  return before === null ? value : SMOOTHING * before + (1 - SMOOTHING) * value;
}

function push<N extends keyof typeof MOST>(name: N, state: Pick<RunState, N>, item: RunState[N][number]): void {
  const list = state[name] as (typeof item)[];
  list.push(item);
  if (list.length <= MOST[name]) return;
  const half = Math.floor(list.length / 2);
  const kept = list.filter((_, index) => index >= half || index % 2 === 0);
  list.splice(0, list.length, ...kept);
}
