import { linearScale, logScale, type Scale, shortNumber } from '../scale.js';
import { type Child, h, svg } from './dom.js';
import type { Model } from './model.js';

/** One line of a chart. */
export interface Curve {
  name: string;
  /** Any CSS colour. */
  colour: string;
  /** Ascending. */
  x: readonly number[];
  y: readonly number[];
  /** The values before smoothing: a faint line. */
  raw?: readonly number[] | undefined;
  /** What the points stand for: a faint band. */
  low?: readonly number[] | undefined;
  high?: readonly number[] | undefined;
  /** Marks each point: for curves of few points. */
  dots?: boolean;
  dashed?: boolean;
  /** Fills the area between `low` and `y` instead: stacked shares. */
  filled?: boolean;
}

export interface ChartOptions {
  /** What the numbers are, as the caption has it. */
  unit?: string;
  format?: (value: number) => string;
  /** Offers a logarithmic axis. */
  log?: boolean;
  /** The axis begins at zero. */
  zero?: boolean;
  tall?: boolean;
}

const MARGIN = { left: 54, right: 14, top: 10, bottom: 26 };

/** Pixels that a pointer must move before it selects a range. */
const DRAG = 6;

let charts = 0;

/** A figure with curves: zoom by dragging or + and -, read by pointing or with the arrow keys. */
export class Chart {
  readonly element: HTMLElement;
  private readonly picture = svg('svg', { role: 'img' });
  private readonly tip = h('div', { class: 'tip', hidden: true });
  private readonly legend = h('span', { class: 'legend' });
  private readonly spoken = h('p', { class: 'unseen', 'aria-live': 'polite' });
  private readonly logButton = h('button', { type: 'button', class: 'quiet', 'aria-pressed': 'false' }, 'log');
  private readonly clip = `clip-${++charts}`;
  private curves: readonly Curve[] = [];
  private log = false;
  /** Whether the reader points at this chart, not at another one. */
  private pointed = false;
  private drag: { from: number; to: number; id: number } | null = null;
  private x: Scale = linearScale(0, 1, 1);
  private readonly format: (value: number) => string;

  constructor(
    private readonly title: string,
    private readonly model: Model,
    private readonly options: ChartOptions = {},
  ) {
    this.format = options.format ?? ((value) => shortNumber(value));
    this.logButton.addEventListener('click', () => {
      this.log = !this.log;
      this.logButton.setAttribute('aria-pressed', String(this.log));
      this.draw();
    });
    const plot = h('div', { class: `plot${options.tall ? ' tall' : ''}`, tabindex: 0 }, this.picture, this.tip);
    plot.setAttribute('aria-label', `${title}: chart; arrow keys read it, plus and minus zoom, escape shows all`);
    plot.setAttribute('role', 'group');
    this.element = h(
      'figure',
      { class: 'card' },
      h(
        'figcaption',
        {},
        h('h3', {}, title, options.unit === undefined ? undefined : h('small', {}, ` ${options.unit}`)),
        this.legend,
        options.log ? this.logButton : undefined,
      ),
      plot,
      this.spoken,
    );
    this.listen(plot);
    new ResizeObserver(() => this.draw()).observe(plot);
  }

  update(curves: readonly Curve[]): void {
    this.curves = curves.filter(({ x }) => x.length > 0);
    this.draw();
  }

  private get size(): { width: number; height: number } {
    return { width: this.picture.clientWidth, height: this.picture.clientHeight };
  }

  private draw(): void {
    const { width, height } = this.size;
    if (width < 80) return;
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const domain = this.model.domain();
    this.x = linearScale(domain[0], domain[1], Math.max(2, Math.round(inner.width / 90)));
    const visible = this.curves.map((curve) => cut(curve, domain));
    const y = this.yScale(visible, Math.max(2, Math.round(inner.height / 44)));
    const left = (value: number) => MARGIN.left + this.x.place(value) * inner.width;
    const top = (value: number) => MARGIN.top + (1 - y.place(value)) * inner.height;

    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const frame: Child[] = y.ticks.flatMap((tick) => {
      const at = Math.round(top(tick)) + 0.5;
      return [
        svg('line', { class: 'grid', x1: MARGIN.left, x2: right, y1: at, y2: at }),
        svg('text', { x: MARGIN.left - 8, y: at, dy: '0.32em', 'text-anchor': 'end' }, this.format(tick)),
      ];
    });
    let free = 0;
    for (const tick of this.x.ticks) {
      const text = this.model.formatX(tick);
      const at = left(tick);
      const half = text.length * 3.4;
      if (at - half < free || at + half > width) continue;
      free = at + half + 8;
      frame.push(svg('text', { x: at, y: height - 6, 'text-anchor': 'middle' }, text));
    }
    const place = (xs: readonly number[], ys: readonly number[]) => line(xs, ys, left, top);
    const drawn = visible.flatMap((curve) => drawCurve(curve, place, left, top));
    const box = { x: MARGIN.left, y: MARGIN.top - 4, width: inner.width + 4, height: inner.height + 8 };
    this.picture.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.picture.setAttribute('aria-label', `${this.title}. ${this.description()}`);
    this.picture.replaceChildren(
      svg('clipPath', { id: this.clip }, svg('rect', box)),
      ...frame.filter((child) => child !== undefined),
      svg('g', { 'clip-path': `url(#${this.clip})` }, ...drawn),
      ...this.pointer(left, top, bottom),
    );
    if (this.curves.length === 0) {
      const middle = { x: width / 2, y: height / 2, 'text-anchor': 'middle' };
      this.picture.append(svg('text', middle, 'no data yet'));
    }
    this.drawLegend();
  }

  /** The range of what is seen, with a little air. */
  private yScale(visible: readonly Curve[], ticks: number): Scale {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const { y, raw, low: least, high: most } of visible) {
      for (const values of [y, raw, least, most]) {
        for (const value of values ?? []) {
          if (this.log && value <= 0) continue;
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
    }
    if (low > high) return linearScale(0, 1, ticks);
    if (this.log) return logScale(low / 1.05, high * 1.05, ticks);
    const air = (high - low) * 0.05;
    // What is never negative has no place below zero.
    const below = low < 0 ? low - air : Math.max(0, low - air);
    return linearScale(this.options.zero ? 0 : below, high + air, ticks);
  }

  /** The line where the reader points, what it meets, and the range that is being selected. */
  private pointer(left: (x: number) => number, top: (y: number) => number, bottom: number): SVGElement[] {
    const { cursor } = this.model;
    const parts: SVGElement[] = [];
    if (this.drag !== null) {
      const [from, to] = [this.drag.from, this.drag.to].sort((a, b) => a - b) as [number, number];
      const box = { x: left(from), y: MARGIN.top, width: left(to) - left(from), height: bottom - MARGIN.top };
      parts.push(svg('rect', { class: 'selection', ...box }));
    }
    const [low, high] = this.model.domain();
    if (cursor === null || cursor < low || cursor > high) {
      this.tip.hidden = true;
      return parts;
    }
    const at = left(cursor);
    parts.push(svg('line', { class: 'cursor', x1: at, x2: at, y1: MARGIN.top, y2: bottom }));
    const met = this.met(cursor);
    for (const { curve, index } of met) {
      const [x, y] = [curve.x[index] as number, curve.y[index] as number];
      if (!this.log || y > 0)
        parts.push(svg('circle', { cx: left(x), cy: top(y), r: 4, fill: curve.colour, class: 'met' }));
    }
    this.showTip(cursor, at, met);
    return parts;
  }

  private met(cursor: number): { curve: Curve; index: number; value: number }[] {
    return this.curves.map((curve) => {
      const index = nearest(curve.x, cursor);
      const value = (curve.y[index] as number) - (curve.filled ? (curve.low?.[index] ?? 0) : 0);
      return { curve, index, value };
    });
  }

  private showTip(cursor: number, at: number, met: readonly { curve: Curve; value: number }[]): void {
    this.tip.hidden = !this.pointed || met.length === 0;
    if (this.tip.hidden) return;
    const rows = met.map(({ curve, value }) =>
      h('div', {}, swatch(curve.colour), h('span', {}, curve.name), h('b', {}, this.format(value))),
    );
    this.tip.replaceChildren(
      h('div', { class: 'where' }, `${xName(this.model)} ${this.model.formatX(cursor)}`),
      ...rows,
    );
    const { width } = this.size;
    const before = at > width / 2;
    this.tip.style.left = before ? '' : `${at + 12}px`;
    this.tip.style.right = before ? `${width - at + 12}px` : '';
  }

  private drawLegend(): void {
    const items = this.curves.length < 2 ? [] : this.curves.map(({ name, colour }) => [name, colour] as const);
    const key = items.flat().join();
    if (this.legend.dataset.key === key) return;
    this.legend.dataset.key = key;
    this.legend.replaceChildren(...items.map(([name, colour]) => h('span', {}, swatch(colour), name)));
  }

  /** The curves in words. */
  private description(): string {
    const parts = this.curves.map(({ name, x, y }) => {
      const [first, last] = [y[0] as number, y.at(-1) as number];
      const at = (value: number | undefined) => this.model.formatX(value ?? 0);
      return `${name}: ${this.format(first)} at ${at(x[0])}, ${this.format(last)} at ${at(x.at(-1))}`;
    });
    return parts.length === 0 ? 'No data yet.' : `${parts.join('; ')}.`;
  }

  private listen(plot: HTMLElement): void {
    const { model } = this;
    const at = ({ clientX }: MouseEvent) => {
      const { left, width } = this.picture.getBoundingClientRect();
      const share = (clientX - left - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
      return this.x.value(Math.min(1, Math.max(0, share)));
    };
    let downX = 0;
    plot.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      plot.setPointerCapture(event.pointerId);
      downX = event.clientX;
      this.drag = { from: at(event), to: at(event), id: event.pointerId };
      this.pointed = true;
      model.setCursor(at(event));
    });
    plot.addEventListener('pointermove', (event) => {
      this.pointed = true;
      if (this.drag?.id === event.pointerId) this.drag.to = at(event);
      model.setCursor(at(event));
    });
    plot.addEventListener('pointerup', (event) => {
      const { drag } = this;
      this.drag = null;
      if (drag === null || Math.abs(event.clientX - downX) < DRAG) model.changed();
      else model.setZoom(drag.from < drag.to ? [drag.from, drag.to] : [drag.to, drag.from]);
    });
    plot.addEventListener('pointercancel', () => {
      this.drag = null;
      model.changed();
    });
    plot.addEventListener('pointerleave', (event) => {
      this.pointed = false;
      if (event.pointerType !== 'touch') model.setCursor(null);
    });
    plot.addEventListener('dblclick', () => model.setZoom(null));
    plot.addEventListener('keydown', (event) => this.key(event));
    plot.addEventListener('blur', () => {
      this.pointed = false;
      model.setCursor(null);
    });
  }

  private key(event: KeyboardEvent): void {
    const { model } = this;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [low, high] = model.domain();
    const cursor = model.cursor ?? low;
    const move = (to: number) => {
      this.pointed = true;
      model.setCursor(Math.min(high, Math.max(low, to)));
      const values = this.met(model.cursor as number).map(({ curve, value }) => `${curve.name} ${this.format(value)}`);
      this.spoken.textContent = `${xName(model)} ${model.formatX(model.cursor as number)}: ${values.join(', ')}`;
    };
    const zoom = (factor: number) => {
      model.setZoom([cursor - (cursor - low) * factor, cursor + (high - cursor) * factor]);
    };
    const step = (high - low) / 50;
    const actions: Record<string, () => void> = {
      ArrowLeft: () => move(cursor - step),
      ArrowRight: () => move(cursor + step),
      Home: () => move(low),
      End: () => move(high),
      '+': () => zoom(0.5),
      '=': () => zoom(0.5),
      '-': () => (model.zoom === null ? undefined : zoom(2)),
      Escape: () => model.setZoom(null),
    };
    const action = actions[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  }
}

function xName({ x }: Model): string {
  return { step: 'step', tokens: 'tokens', seconds: 'after' }[x];
}

export function swatch(colour: string): HTMLElement {
  const mark = h('i', { class: 'swatch', 'aria-hidden': 'true' });
  mark.style.background = colour;
  return mark;
}

function drawCurve(
  curve: Curve,
  place: (xs: readonly number[], ys: readonly number[]) => string,
  left: (x: number) => number,
  top: (y: number) => number,
): SVGElement[] {
  const { x, y, raw, low, high, colour, dots, dashed, filled } = curve;
  const parts: SVGElement[] = [];
  const upper = filled ? y : high;
  if (low !== undefined && upper !== undefined) {
    const back = place(x.toReversed(), low.toReversed()).replace('M', 'L');
    const d = `${place(x, upper)}${back}Z`;
    parts.push(svg('path', { d, fill: colour, opacity: filled ? 0.75 : 0.13 }));
  }
  if (filled) return parts;
  if (raw !== undefined) parts.push(svg('path', { class: 'curve', d: place(x, raw), stroke: colour, opacity: 0.28 }));
  const dash = dashed ? { 'stroke-dasharray': '5 4' } : {};
  parts.push(svg('path', { class: 'curve main', d: place(x, y), stroke: colour, ...dash }));
  if (dots && x.length <= 60) {
    for (const [index, value] of x.entries()) {
      parts.push(svg('circle', { cx: left(value), cy: top(y[index] as number), r: 3, fill: colour }));
    }
  }
  return parts;
}

/** An SVG path through points; what has no place on a logarithmic axis is left out. */
function line(
  xs: readonly number[],
  ys: readonly number[],
  left: (x: number) => number,
  top: (y: number) => number,
): string {
  let path = '';
  for (const [index, x] of xs.entries()) {
    const height = top(ys[index] as number);
    if (Number.isFinite(height)) path += `${path === '' ? 'M' : 'L'}${left(x).toFixed(1)} ${height.toFixed(1)}`;
  }
  return path;
}

/** The points of a curve inside a range, and one more on each side, so that its line reaches the edges. */
function cut(curve: Curve, [low, high]: readonly [number, number]): Curve {
  const first = curve.x.findIndex((x) => x >= low);
  const last = curve.x.findLastIndex((x) => x <= high);
  const from = Math.max(0, (first < 0 ? curve.x.length : first) - 1);
  const part = <V extends readonly number[] | undefined>(values: V) => values?.slice(from, last + 2) as V;
  const { x, y, raw, low: least, high: most } = curve;
  return { ...curve, x: part(x), y: part(y), raw: part(raw), low: part(least), high: part(most) };
}

/** Index of the number next to `wanted` in an ascending list that is not empty. */
function nearest(values: readonly number[], wanted: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  const before = values[low - 1];
  return before !== undefined && wanted - before < (values[low] as number) - wanted ? low - 1 : low;
}
