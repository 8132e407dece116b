import type { EndEvent, EvalEvent, SampleEvent, StartEvent, StepEvent, TrainEvent } from '../train/events.js';
import { bytes, count, duration, rate } from './format.js';

/** Where progress is written: a terminal or anything else that takes text, such as `process.stderr`. */
export interface ProgressStream {
  /** Writes some text. */
  write(text: string): unknown;
  /** Whether it is a terminal. */
  isTTY?: boolean;
  /** Width of the terminal. */
  columns?: number;
}

/** How progress is shown. */
export interface ProgressOptions {
  /** Colours [only on a terminal and without NO_COLOR]. */
  colour?: boolean;
  /** Seconds between two lines where there is no terminal [10]. */
  interval?: number;
  /** Seconds since some moment; a test may bring its own clock. */
  now?: () => number;
}

/** How much an old loss weighs in the smoothed one. */
const SMOOTHING = 0.9;

/**
 * Shows a run's events: on a terminal one live line under lasting ones, elsewhere a plain line now and then.
 */
export class Progress {
  private readonly stream: ProgressStream;
  private readonly colour: boolean;
  private readonly interval: number;
  private readonly now: () => number;
  private start: StartEvent | undefined;
  private smoothed: number | undefined;
  private secondsPerStep: number | undefined;
  private live = false;
  private shownAt = Number.NEGATIVE_INFINITY;

  constructor(stream: ProgressStream, options: ProgressOptions = {}) {
    this.stream = stream;
    this.colour = options.colour ?? (stream.isTTY === true && !process.env.NO_COLOR);
    this.interval = options.interval ?? 10;
    this.now = options.now ?? (() => performance.now() / 1000);
  }

  /** Shows one event. */
  show(event: TrainEvent): void {
    if (event.type === 'start') this.start = event;
    if (event.type === 'step') this.step(event);
    else this.lasting(this.text(event));
  }

  /** Leaves the live line, so that other text can follow. */
  end(): void {
    if (this.live) this.stream.write('\n');
    this.live = false;
  }

  private step(event: StepEvent): void {
    this.smoothed = this.smoothed === undefined ? event.loss : SMOOTHING * this.smoothed + (1 - SMOOTHING) * event.loss;
    this.secondsPerStep =
      this.secondsPerStep === undefined
        ? event.stepSeconds
        : SMOOTHING * this.secondsPerStep + (1 - SMOOTHING) * event.stepSeconds;
    const now = this.now();
    const terminal = this.stream.isTTY === true;
    // Ten lines a second are as many as an eye can follow.
    if (now - this.shownAt < (terminal ? 0.1 : this.interval)) return;
    this.shownAt = now;
    const parts = this.parts(event);
    if (terminal) {
      this.live = true;
      this.stream.write(`\r\x1b[2K${fit(parts, (this.stream.columns ?? 80) - 1)}`);
    } else {
      this.lasting(parts.join('  '));
    }
  }

  private text(event: Exclude<TrainEvent, StepEvent>): string {
    switch (event.type) {
      case 'start':
        return header(event);
      case 'eval':
        return this.tint('1', evaluation(event));
      case 'sample':
        return sample(event);
      case 'checkpoint':
        return this.tint('2', `saved ${event.path} (${bytes(event.bytes)}, ${duration(event.seconds)})`);
      case 'warning':
        return this.tint('33', `warning: ${event.message}`);
      case 'end':
        return summary(event, this.start);
    }
  }

  /** The parts of a step's line, the most important ones first. */
  private parts(event: StepEvent): string[] {
    const total = this.start?.totalSteps ?? null;
    const left = total === null ? undefined : (total - event.step) * (this.secondsPerStep ?? 0);
    const parts = [
      total === null ? `step ${event.step}` : `step ${String(event.step).padStart(String(total).length)}/${total}`,
      `loss ${(this.smoothed ?? event.loss).toFixed(4)}`,
      `${count(event.tokensPerSecond)} tok/s`,
      left === undefined ? '' : `ETA ${duration(left)}`,
      `lr ${rate(event.learningRate)}`,
      `norm ${event.gradNorm.toFixed(2)}`,
      `epoch ${event.epoch}`,
      event.dataWaitShare >= 0.05 ? `data ${Math.round(100 * event.dataWaitShare)}%` : '',
    ];
    return parts.filter(Boolean);
  }

  private lasting(text: string): void {
    this.stream.write(`${this.live ? '\r\x1b[2K' : ''}${text}\n`);
    this.live = false;
  }

  private tint(code: string, text: string): string {
    return this.colour ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}

/** As many whole parts as fit into the width. */
function fit(parts: readonly string[], width: number): string {
  let line = '';
  for (const part of parts) {
    const longer = line === '' ? part : `${line}  ${part}`;
    if (longer.length > width) break;
    line = longer;
  }
  return line;
}

/** What was derived before the first step. */
export function header(event: StartEvent): string {
  const { memory } = event;
  const steps =
    event.totalSteps === null
      ? 'until the data ends'
      : `${event.totalSteps} (${count(event.totalSteps * event.tokensPerStep)} tokens)`;
  const rows: [string, string][] = [
    ['run', event.resumedFrom === null ? event.out : `${event.out}, continued from ${event.resumedFrom}`],
    ['device', `${event.device.device}, ${event.device.name}${event.device.detail ? `, ${event.device.detail}` : ''}`],
    ['parameters', `${count(event.parameters)} (${event.precision})`],
    [
      'step',
      `${event.batchSize} blocks x ${event.blockSize} tokens` +
        `${event.gradAccum > 1 ? ` x ${event.gradAccum} micro-batches` : ''} = ${count(event.tokensPerStep)} tokens`,
    ],
    ['steps', steps + (event.stepsPerEpoch === null ? '' : `, ${event.stepsPerEpoch} per epoch`)],
    ['memory', `${bytes(memory.total)} of ${bytes(memory.free)} free, activations ${bytes(memory.activations)}`],
  ];
  return rows.map(([name, value]) => `${name.padEnd(12)}${value}`).join('\n');
}

function evaluation(event: EvalEvent): string {
  return `eval at step ${event.step}: loss ${event.loss.toFixed(4)}, perplexity ${event.perplexity.toFixed(2)}`;
}

function sample(event: SampleEvent): string {
  return `sample at step ${event.step}:\n${`${event.prompt}${event.text}`.replaceAll(/^/gm, '  | ')}`;
}

/** What the run came to. */
export function summary(event: EndEvent, start: StartEvent | undefined): string {
  const done = event.reason === 'completed' ? 'done' : 'stopped';
  const lines = [
    `${done} at step ${event.step} after ${duration(event.seconds)}, ${count(event.tokens)} tokens` +
      (event.loss === null ? '' : `, loss ${event.loss.toFixed(4)}`) +
      (event.evalLoss === null ? '' : `, validation loss ${event.evalLoss.toFixed(4)}`),
  ];
  if (start !== undefined) lines.push(`the run is in ${start.out} (report.html shows its curves)`);
  return lines.join('\n');
}
