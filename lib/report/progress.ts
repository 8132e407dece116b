import type { StepEvent, TrainEvent, TrainerProgress } from '../train/events.js';
import { checkArgument } from '../validate.js';
import { flopsPerToken, flopsUtilization } from './flops.js';
import { bytes, count, duration, quantity, rate } from './format.js';
import { LiveLine, type ProgressStream } from './live-line.js';
import { RunRecord } from './run-record.js';
import { sparkline } from './sparkline.js';
import { evaluationLine, header, printable, sampleText, summary } from './words.js';

/** How progress is shown. */
export interface ProgressOptions {
  /** Colours [only on a terminal and without NO_COLOR]. */
  colour?: boolean | undefined;
  /** Draws the loss as a sparkline [only where the locale is UTF-8]. */
  unicode?: boolean | undefined;
  /** Seconds between two lines where there is no terminal [10]. */
  interval?: number | undefined;
  /** Seconds since some moment; a test may bring its own clock. */
  now?: (() => number) | undefined;
}

/** A part of the live line: what it says, and how its number is shown. */
type Part = readonly [label: string, value: string, style?: string];

/** Characters of the sparkline, and of the gap before each part. */
const SPARK = { least: 8, most: 32 };
const GAP = 2;

/** Characters of the header's names, and the fewest of its values in a line. */
const NAME = 12;
const LEAST_VALUE = 20;

const PHASES: Record<TrainerProgress['phase'], string> = {
  count: 'counting the batches of an epoch',
  restore: 'restoring the checkpoint',
  evaluate: 'evaluating',
  sample: 'writing a sample',
  save: 'saving a checkpoint',
};

/**
 * Shows a run's events: on a terminal one live line under lasting ones, elsewhere a plain line now and then.
 */
export class Progress {
  private readonly line: LiveLine;
  private readonly unicode: boolean;
  private readonly interval: number;
  private readonly now: () => number;
  private readonly run = new RunRecord();
  private shownAt = Number.NEGATIVE_INFINITY;

  /** @throws KotodamaError `ERR_OPTIONS` when `stream` is none */
  constructor(stream: ProgressStream, options: ProgressOptions = {}) {
    checkArgument(typeof stream?.write === 'function', 'the stream', 'a stream such as process.stderr', stream);
    this.line = new LiveLine(stream, options.colour);
    this.unicode = options.unicode ?? utf8Locale();
    this.interval = options.interval ?? 10;
    this.now = options.now ?? (() => performance.now() / 1000);
  }

  /** Takes an event of an earlier start of the run, which is not shown: the best loss so far may be there. */
  recall(event: TrainEvent): void {
    this.run.add(event);
  }

  /** Shows one event. */
  show(event: TrainEvent): void {
    this.run.add(event);
    if (event.type === 'step') {
      const now = this.now();
      // Ten lines a second are as many as an eye can follow.
      if (now - this.shownAt < (this.line.terminal ? 0.1 : this.interval)) return;
      this.shownAt = now;
      this.showStep(event);
    } else {
      const text = this.text(event);
      if (text !== undefined) this.line.lasting(text);
    }
  }

  /** Shows work beside the steps; only on a terminal, since nothing of it lasts. */
  activity({ phase, done, total }: TrainerProgress): void {
    const { last } = this.run.now;
    const where = last === null ? '' : `step ${this.place(last.step)}  `;
    const far = done === 0 ? '' : ` ${count(done)}${total === null ? '' : `/${count(total)}`}`;
    this.line.working(`${where}${PHASES[phase]}${far}`);
  }

  /** Leaves the live line, so that other text can follow. */
  end(): void {
    this.line.end();
  }

  private text(event: Exclude<TrainEvent, StepEvent>): string | undefined {
    const tint = (code: string, text: string) => this.line.tint(code, text);
    switch (event.type) {
      case 'start':
        return header(event)
          .map(([name, value]) => `${tint('2', name.padEnd(NAME))}${this.folded(value)}`)
          .join('\n');
      case 'eval': {
        const isBest = event.anew !== true && this.run.now.evaluations.length > 1 && this.run.best?.step === event.step;
        return tint('1', `${evaluationLine(event)}${isBest ? ', the best so far' : ''}`);
      }
      case 'sample':
        return sampleText(event);
      case 'checkpoint':
        return tint('2', `saved ${event.path} (${bytes(event.bytes)}, ${duration(event.seconds)})`);
      case 'control': {
        const value = event.action === 'learningRate' ? ` ${rate(event.learningRate)}` : '';
        const name = event.action === 'learningRate' ? 'peak learning rate' : event.action;
        return tint('36', `asked at step ${event.step}: ${name}${value}`);
      }
      case 'warning':
        return tint('33', `warning: ${printable(event.message)}`);
      case 'end':
        return summary(event, this.run).join('\n');
      case 'gradients':
        return undefined;
    }
  }

  /** A value of the header: where a narrow terminal would break words, it goes on below itself. */
  private folded(value: string): string {
    if (!this.line.terminal) return value;
    const room = Math.max(LEAST_VALUE, this.line.width - NAME);
    const lines = [''];
    for (const word of value.split(' ')) {
      const line = lines.at(-1) as string;
      if (line === '') lines[lines.length - 1] = word;
      else if (line.length + 1 + word.length <= room) lines[lines.length - 1] = `${line} ${word}`;
      else lines.push(word);
    }
    return lines.join(`\n${' '.repeat(NAME)}`);
  }

  private showStep(event: StepEvent): void {
    const parts = this.parts(event);
    if (!this.line.terminal) {
      this.line.lasting(parts.map((part) => plain(part)).join('  '));
      return;
    }
    const width = this.line.width;
    const reserved = this.unicode && this.run.history.columns.step.length > 1 ? SPARK.least + GAP : 0;
    // The first part is shown at any width; the sparkline comes before what is less important than the first five.
    let left = width;
    const shown = parts.filter((part, index) => {
      const room = index < 5 ? left : left - reserved;
      const size = plain(part).length + (index === 0 ? 0 : GAP);
      if (size > room) {
        left = index < 5 ? 0 : left;
        return false;
      }
      left -= size;
      return true;
    });
    const text = shown.map(([label, value, style]) => {
      const name = label === '' ? '' : `${this.line.tint('2', label)} `;
      return `${name}${style === undefined ? value : this.line.tint(style, value)}`;
    });
    if (reserved > 0 && left >= reserved) {
      const line = sparkline(this.run.history.columns.loss, Math.min(SPARK.most, left - GAP));
      text.push(this.line.tint('36', line));
    }
    this.line.live(text.join(' '.repeat(GAP)));
  }

  /** The parts of a step's line, the most important ones first. */
  private parts(event: StepEvent): Part[] {
    const { smoothedLoss, stepSeconds, start } = this.run.now;
    const total = start?.totalSteps ?? null;
    const flops = start === null ? undefined : flopsPerToken(start);
    const utilization = start === null ? undefined : flopsUtilization(start, event.tokensPerSecond);
    const share = (part: number) => `${Math.round(100 * part)}%`;
    const parts: (Part | undefined)[] = [
      ['step', this.place(event.step)],
      ['loss', event.loss.toFixed(4), '1'],
      ['avg', (smoothedLoss ?? event.loss).toFixed(4), '1'],
      ['', `${count(event.tokensPerSecond)} tok/s`],
      total === null ? undefined : ['ETA', duration((total - event.step) * (stepSeconds ?? 0))],
      ['lr', rate(event.learningRate)],
      utilization !== undefined
        ? ['MFU', share(utilization)]
        : flops !== undefined
          ? ['', quantity(flops * event.tokensPerSecond, 'FLOP/s')]
          : undefined,
      ['data', share(event.dataWaitShare), event.dataWaitShare >= 0.1 ? '33' : undefined] as Part,
      ['norm', event.gradNorm.toFixed(2)],
      ['epoch', String(event.epoch)],
    ];
    return parts.filter((part) => part !== undefined);
  }

  private place(step: number): string {
    const total = this.run.now.start?.totalSteps ?? null;
    return total === null ? String(step) : `${String(step).padStart(String(total).length)}/${total}`;
  }
}

function plain([label, value]: Part): string {
  return label === '' ? value : `${label} ${value}`;
}

/** Whether a terminal can be expected to draw what lies outside ASCII (POSIX, Base Definitions 8.2: which variable wins). */
function utf8Locale({ LC_ALL, LC_CTYPE, LANG }: NodeJS.ProcessEnv = process.env): boolean {
  return /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');
}
