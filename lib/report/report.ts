import type { EndEvent, EvalEvent, SampleEvent, StartEvent, StepEvent, TrainEvent } from '../train/events.js';
import { chart } from './chart.js';
import { bytes, count, duration } from './format.js';
import { Series } from './series.js';

/** Samples shown. */
const SAMPLES = 8;

/** Collects a run's events and shows them as one self-contained HTML page. */
export class Report {
  private start: StartEvent | undefined;
  private end: EndEvent | undefined;
  private last: StepEvent | undefined;
  private readonly curves = {
    loss: new Series(),
    learningRate: new Series(),
    gradNorm: new Series(),
    tokensPerSecond: new Series(),
  };
  private evaluation: EvalEvent | undefined;
  private readonly validation = new Series();
  /** The newest ones. */
  private readonly samples: SampleEvent[] = [];

  add(event: TrainEvent): void {
    switch (event.type) {
      case 'start':
        this.start = event;
        this.end = undefined;
        break;
      case 'step':
        this.last = event;
        for (const [name, curve] of Object.entries(this.curves)) {
          curve.add(event.step, event[name as keyof typeof this.curves]);
        }
        break;
      case 'eval':
        this.evaluation = event;
        this.validation.add(event.step, event.loss);
        break;
      case 'sample':
        this.samples.push(event);
        if (this.samples.length > SAMPLES) this.samples.shift();
        break;
      case 'end':
        this.end = event;
        break;
    }
  }

  html(): string {
    const name = this.start?.out ?? 'run';
    const { loss, learningRate, gradNorm, tokensPerSecond } = this.curves;
    const small = (title: string, { points }: Series) => chart(title, [{ name: title, colour: 'var(--a)', points }]);
    return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(name)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escapeHtml(name)}</h1>
<p>${escapeHtml(this.headline())}</p>
${chart('Loss (nats per token)', [
  { name: 'training', colour: 'var(--a)', points: loss.points },
  { name: 'validation', colour: 'var(--b)', points: this.validation.points, dots: true },
])}
<div class="small">
${small('Learning rate', learningRate)}
${small('Gradient norm', gradNorm)}
${small('Tokens per second', tokensPerSecond)}
</div>
${this.samplesHtml()}
${this.configurationHtml()}
</body>
</html>
`;
  }

  private headline(): string {
    const { last, evaluation } = this;
    const parts = [
      this.end === undefined ? 'in training' : this.end.reason,
      last === undefined ? '' : `step ${last.step}${this.start?.totalSteps ? ` of ${this.start.totalSteps}` : ''}`,
      last === undefined ? '' : `loss ${last.loss.toFixed(4)}`,
      evaluation === undefined ? '' : `validation loss ${evaluation.loss.toFixed(4)}`,
      this.end === undefined ? '' : `${count(this.end.tokens)} tokens, ${duration(this.end.seconds)}`,
    ];
    return parts.filter(Boolean).join(' · ');
  }

  private samplesHtml(): string {
    if (this.samples.length === 0) return '';
    const items = this.samples.toReversed();
    const blocks = items.map(
      ({ step, prompt, text }) =>
        `<h3>step ${step}</h3>\n<pre dir="auto"><b>${escapeHtml(prompt)}</b>${escapeHtml(text)}</pre>`,
    );
    return `<h2>Samples</h2>\n${blocks.join('\n')}`;
  }

  private configurationHtml(): string {
    if (this.start === undefined) return '';
    const { device, parameters, precision, tokensPerStep, memory, configuration } = this.start;
    const rows: [string, string][] = [
      ['device', [device.device, device.name, device.detail].filter(Boolean).join(', ')],
      ['parameters', count(parameters)],
      ['precision', precision],
      ['tokens per step', count(tokensPerStep)],
      ['memory', bytes(memory.total)],
      ...flatten(configuration),
    ];
    const lines = rows.map(
      ([key, value]) => `<tr><th scope="row">${escapeHtml(key)}</th><td>${escapeHtml(value)}</td></tr>`,
    );
    return `<h2>Configuration</h2>\n<table>\n${lines.join('\n')}\n</table>`;
  }
}

/** `{ a: { b: 1 } }` as `a.b: 1` */
function flatten(value: object, prefix = ''): [string, string][] {
  return Object.entries(value).flatMap(([key, item]): [string, string][] => {
    const name = `${prefix}${key}`;
    if (typeof item === 'object' && item !== null && !Array.isArray(item)) return flatten(item, `${name}.`);
    return [[name, Array.isArray(item) ? item.join(', ') : String(item)]];
  });
}

/** Text inside HTML: samples and file names are not markup. */
export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replaceAll(/[&<>"']/g, (character) => entities[character] as string);
}

const STYLE = `
:root { color-scheme: light dark; --a: light-dark(#2563eb, #7aa7ff); --b: light-dark(#c2410c, #ff9d66); --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; } h3 { font-size: 0.9rem; margin: 1rem 0 0; }
figure { margin: 1rem 0; } figcaption { font-size: 0.9rem; } svg { width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; } .key { font-weight: 600; margin-left: 1em; }
.small { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0 1rem; }
pre { white-space: pre-wrap; border-left: 3px solid var(--line); padding-left: 0.8rem; margin: 0.3rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; } th { text-align: left; font-weight: 400; padding-right: 2rem; opacity: 0.7; }
td { overflow-wrap: anywhere; }
`;
