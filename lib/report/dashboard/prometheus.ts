import type { LiveRun } from './live-run.js';

/** Name, kind, meaning, and where the number comes from; undefined: not there yet. */
type Metric = readonly [
  name: string,
  kind: 'gauge' | 'counter',
  help: string,
  value: (record: LiveRun['record'], run: LiveRun) => number | null | undefined,
];

const METRICS: readonly Metric[] = [
  ['step', 'gauge', 'Optimizer steps done.', ({ now }) => now.last?.step],
  ['steps_planned', 'gauge', 'Optimizer steps of the whole run.', ({ now }) => now.start?.totalSteps],
  ['loss', 'gauge', 'Training loss of the last step in nats per token.', ({ now }) => now.last?.loss],
  ['validation_loss', 'gauge', 'Last validation loss in nats per token.', ({ now }) => now.evaluations.at(-1)?.loss],
  ['learning_rate', 'gauge', 'Learning rate of the last step.', ({ now }) => now.last?.learningRate],
  ['gradient_norm', 'gauge', 'Global gradient norm before clipping.', ({ now }) => now.last?.gradNorm],
  ['tokens_total', 'counter', 'Tokens read.', ({ now }) => now.last?.tokens],
  ['tokens_per_second', 'gauge', 'Tokens per second of the last step.', ({ now }) => now.last?.tokensPerSecond],
  ['step_seconds', 'gauge', 'Duration of the last step.', ({ now }) => now.last?.stepSeconds],
  ['data_wait_share', 'gauge', 'Part of the last step spent waiting for data.', ({ now }) => now.last?.dataWaitShare],
  ['training_seconds_total', 'counter', 'Seconds of training.', (record) => record.seconds],
  ['last_event_time_seconds', 'gauge', 'When the last event was written, since 1970.', (_, run) => run.heardAt / 1000],
  ['paused', 'gauge', '1 while the run is paused.', ({ now }) => Number(now.paused)],
  [
    'running',
    'gauge',
    '1 until the run ends.',
    ({ now }) => (now.start === null ? undefined : Number(now.end === null)),
  ],
];

/** The runs in Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). */
export function prometheus(runs: readonly LiveRun[]): string {
  const lines = METRICS.flatMap(([name, kind, help, value]) => {
    const samples = runs.flatMap((run) => {
      const number = value(run.record, run);
      return number == null ? [] : [`kotodama_${name}{run="${escaped(run.name)}"} ${number}`];
    });
    if (samples.length === 0) return [];
    return [`# HELP kotodama_${name} ${help}`, `# TYPE kotodama_${name} ${kind}`, ...samples];
  });
  return lines.map((line) => `${line}\n`).join('');
}

function escaped(label: string): string {
  return label.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
