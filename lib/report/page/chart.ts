import { linearScale, logScale, type Scale, shortNumber, tickDigits } from '../scale.js';
import { type Curve, cut, drawCurve, nearest, swatch, valueAt } from './curve.js';
import { type Child, h, svg } from './dom.js';
import type { Model } from './model.js';

export interface ChartOptions {
  /** What the numbers are, as the caption has it. */
  unit?: string;
  /** Offers a logarithmic axis. */
  log?: boolean;
  /** The axis begins at zero. */
  zero?: boolean;
  tall?: boolean;
}

const MARGIN = { left: 54, right: 14, top: 10, bottom: 26 };

/** Pixels that a pointer must move before it selects a range. */
const DRAG = 6;

/** Part of the axis within which a curve that has ended is still met. */
const REACH = 0.01;

/** Range of values, as a part of their size, below which a curve is level: nobody reads more digits at an axis. */
const LEVEL = 1e-5;

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

  constructor(
    private readonly title: string,
    private readonly model: Model,
    private readonly options: ChartOptions = {},
  ) {
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
    this.x = this.model.xScale(Math.max(2, Math.round(inner.width / 90)));
    const visible = this.curves.map((curve) => cut(curve, domain));
    const y = this.yScale(visible, Math.max(2, Math.round(inner.height / 44)));
    const left = (value: number) => MARGIN.left + this.x.place(value) * inner.width;
    const top = (value: number) => MARGIN.top + (1 - y.place(value)) * inner.height;

    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const digits = tickDigits(y.ticks);
    const frame: Child[] = y.ticks.flatMap((tick) => {
      const at = Math.round(top(tick)) + 0.5;
      return [
        svg('line', { class: 'grid', x1: MARGIN.left, x2: right, y1: at, y2: at }),
        svg('text', { x: MARGIN.left - 8, y: at, dy: '0.32em', 'text-anchor': 'end' }, shortNumber(tick, digits)),
      ];
    });
    let free = 0;
    const texts = this.model.tickTexts(this.x.ticks);
    for (const [index, tick] of this.x.ticks.entries()) {
      const text = texts[index] as string;
      const at = left(tick);
      const half = text.length * 3.4;
      if (at - half < free || at + half > width) continue;
      free = at + half + 8;
      frame.push(svg('text', { x: at, y: height - 6, 'text-anchor': 'middle' }, text));
    }
    const drawn = visible.flatMap((curve) => drawCurve(curve, left, top));
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
    if (high - low < LEVEL * Math.max(-low, high)) low = high;
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

  /** The points next to a place of the x axis, of the curves that reach there. */
  private met(cursor: number): { curve: Curve; index: number }[] {
    const [low, high] = this.model.domain();
    const reach = (high - low) * REACH;
    return this.curves
      .filter(({ x }) => cursor >= (x[0] as number) - reach && cursor <= (x.at(-1) as number) + reach)
      .map((curve) => ({ curve, index: nearest(curve.x, cursor) }));
  }

  /** A point that is met, in words: its value, and the range of the single steps that it stands for. */
  private reading({ curve, index }: { curve: Curve; index: number }, cursor: number): [string, string] {
    const { x, low, high, dots, filled } = curve;
    const where = this.model.formatX(x[index] as number);
    const [least, most] = [low?.[index] ?? 0, high?.[index] ?? 0];
    // Apart from the value, which may be smoothed.
    const range = !filled && least < most ? ` (single steps: ${shortNumber(least)} to ${shortNumber(most)})` : '';
    // Curves of few points are read from afar.
    const place = dots && where !== this.model.formatX(cursor) ? ` at ${where}` : '';
    return [`${shortNumber(valueAt(curve, index))}${place}`, range];
  }

  private showTip(cursor: number, at: number, met: readonly { curve: Curve; index: number }[]): void {
    this.tip.hidden = !this.pointed || met.length === 0;
    if (this.tip.hidden) return;
    const rows = met.map((point) => {
      const { name, colour, dash } = point.curve;
      const [value, range] = this.reading(point, cursor);
      return h('div', {}, swatch(colour, dash), h('span', {}, name), h('b', {}, value, h('small', {}, range)));
    });
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
    const items = this.curves.length < 2 ? [] : this.curves;
    const key = JSON.stringify(items.map(({ name, colour, dash }) => [name, colour, dash]));
    if (this.legend.dataset.key === key) return;
    this.legend.dataset.key = key;
    this.legend.replaceChildren(...items.map(({ name, colour, dash }) => h('span', {}, swatch(colour, dash), name)));
  }

  /** The curves in words. */
  private description(): string {
    const parts = this.curves.map((curve) => {
      const last = curve.x.length - 1;
      const at = (index: number) =>
        `${shortNumber(valueAt(curve, index))} at ${this.model.formatX(curve.x[index] as number)}`;
      return `${curve.name}: ${at(0)}${last > 0 ? `, ${at(last)}` : ''}`;
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
      const at = Math.min(high, Math.max(low, to));
      model.setCursor(at);
      const values = this.met(at).map((point) => `${point.curve.name} ${this.reading(point, at).join('')}`);
      this.spoken.textContent = `${xName(model)} ${model.formatX(at)}: ${values.join(', ') || 'nothing'}`;
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
      '-': () => zoom(2),
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
