import type { EndEvent, EvalEvent, SampleEvent, StartEvent } from '../train/events.js';
import { flopsPerToken, peakFlops } from './flops.js';
import { bytes, count, duration, perplexity, quantity, rate } from './format.js';
import type { RunRecord } from './run-record.js';

/** What was derived before the first step. */
export function header(event: StartEvent): [name: string, value: string][] {
  const { schedule, lr, minLr, warmupSteps } = (event.configuration.training ?? {}) as Record<string, unknown>;
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
  ];
  const flops = flopsPerToken(event);
  if (flops !== undefined) {
    const peak = peakFlops(event);
    const whole = event.totalSteps === null ? undefined : flops * event.tokensPerStep * event.totalSteps;
    rows.push([
      'compute',
      quantity(flops * event.tokensPerStep, 'FLOP') +
        ' per step' +
        (whole === undefined ? '' : `, ${quantity(whole, 'FLOP')} in all`) +
        (peak === undefined ? '' : `; ${quantity(peak, 'FLOP/s')} at best`),
    ]);
  }
  if (typeof lr === 'number') {
    const decays = schedule !== 'constant' && typeof minLr === 'number' ? ` to ${rate(minLr)}` : '';
    const warmup = typeof warmupSteps === 'number' ? `, ${warmupSteps} steps of warmup` : '';
    rows.push(['lr', `${rate(lr)}${decays} (${schedule})${warmup}`]);
  }
  rows.push(['memory', `${memoryUse(event)}, activations ${bytes(event.memory.activations)}`]);
  return rows;
}

/** What a run needs of the memory that was free. */
export function memoryUse({ memory }: StartEvent): string {
  // The weights are there already, and not free.
  return `${bytes(memory.total)} of ${bytes(memory.free + memory.parameters)} free`;
}

export function evaluationLine(event: EvalEvent): string {
  return `eval at step ${event.step}: loss ${event.loss.toFixed(4)}, perplexity ${perplexity(event.loss)}`;
}

export function sampleText(event: SampleEvent): string {
  const text = printable(`${event.prompt}${event.text}`);
  // A young model often ends a text at once.
  const title = `sample at step ${event.step}:${event.text === '' ? ' the model added nothing' : ''}`;
  return text === '' ? title : `${title}\n${text.replaceAll(/^/gm, '  | ')}`;
}

/** What the run came to, and where everything is. */
export function summary(event: EndEvent, run: RunRecord): string[] {
  const { start } = run.now;
  const done = {
    completed: 'done',
    aborted: 'stopped',
    maxTime: 'the time is up: stopped',
    patience: 'evaluations get no better: stopped',
  }[event.reason];
  const lines = [
    `${done} at step ${event.step} after ${duration(event.seconds)}, ${count(event.tokens)} tokens` +
      (event.loss === null ? '' : `, loss ${event.loss.toFixed(4)}`) +
      (event.evalLoss === null ? '' : `, validation loss ${event.evalLoss.toFixed(4)}`),
  ];
  const { best } = run;
  if (best !== undefined && best.step !== event.step) {
    lines.push(`the best validation loss was ${best.loss.toFixed(4)}, at step ${best.step}`);
  }
  if (run.seconds > 0) lines.push(`time: ${timeShares(run)}`);
  if (start !== null) {
    // A run that was stopped before its first step has none.
    const model = event.checkpoint === null ? 'no model yet' : 'the model';
    lines.push(`the run is in ${start.out}: ${model}, metrics.jsonl, and report.html with its curves`);
    if (event.checkpoint !== null) lines.push(`newest checkpoint: ${event.checkpoint}`);
  }
  return lines;
}

/** Shares of a run's time, the largest first; less than half a percent is left out. */
function timeShares(run: RunRecord): string {
  const names = {
    compute: 'forward and backward',
    update: 'optimizer',
    data: 'waiting for data',
    evaluate: 'evaluation',
    sample: 'samples',
    save: 'checkpoints',
  };
  const { time } = run.now;
  const parts = (Object.keys(names) as (keyof typeof names)[])
    .map((name) => ({ name: names[name], share: Math.round((100 * time[name]) / run.seconds) }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share);
  return parts.map(({ name, share }) => `${name} ${share}%`).join(', ');
}

/** A model may write any character, and a file be named so; those that steer a terminal are shown as pictures (Unicode, Control Pictures). */
export function printable(text: string): string {
  return text.replaceAll(/(?![\n\t])\p{Cc}/gu, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? '\u2421' : '\ufffd';
  });
}
