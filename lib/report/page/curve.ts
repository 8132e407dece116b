import { h, type Properties, svg } from './dom.js';

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
  /** What the points stand for: a faint band with an outline. */
  low?: readonly number[] | undefined;
  high?: readonly number[] | undefined;
  /** Marks each point: for curves of few points. */
  dots?: boolean;
  /** Strokes and gaps (SVG, stroke-dasharray); undefined: no gaps. */
  dash?: string | undefined;
  /** Fills the area between `low` and `y` instead: stacked shares. */
  filled?: boolean;
}

/** What tells a curve in a legend: its colour, and its line where that has gaps. */
export function swatch(colour: string, dash?: string): HTMLElement {
  const mark = h('i', { class: 'swatch', 'aria-hidden': 'true' });
  if (dash === undefined) mark.style.background = colour;
  else {
    mark.classList.add('line');
    const line = { x1: 0, y1: 4, x2: 28, y2: 4, stroke: colour, 'stroke-width': 2, 'stroke-dasharray': dash };
    mark.append(svg('svg', { viewBox: '0 0 28 8' }, svg('line', line)));
  }
  return mark;
}

/** The value of a curve's point: of stacked shares the own part. */
export function valueAt({ y, low, filled }: Curve, index: number): number {
  return (y[index] as number) - (filled ? (low?.[index] ?? 0) : 0);
}

/** The curve as it is seen. */
export function drawCurve(curve: Curve, left: (x: number) => number, top: (y: number) => number): SVGElement[] {
  const { x, y, raw, low, high, colour, dots, dash, filled } = curve;
  const place = (xs: readonly number[], ys: readonly number[]) => line(xs, ys, left, top);
  const parts: SVGElement[] = [];
  const upper = filled ? y : high;
  if (low !== undefined && upper !== undefined) {
    const back = place(x.toReversed(), low.toReversed()).replace('M', 'L');
    const d = `${place(x, upper)}${back}Z`;
    // The outline is what one sees of a spike: its band is thinner than a pixel.
    const look: Properties = filled ? { opacity: 0.75 } : { class: 'band', 'fill-opacity': 0.13, stroke: colour };
    parts.push(svg('path', { d, fill: colour, ...look }));
  }
  if (!filled) {
    if (raw !== undefined) parts.push(svg('path', { class: 'curve', d: place(x, raw), stroke: colour, opacity: 0.28 }));
    const dashes = dash === undefined ? {} : { 'stroke-dasharray': dash };
    parts.push(svg('path', { class: 'curve main', d: place(x, y), stroke: colour, ...dashes }));
  }
  // No line goes through one point.
  if (x.length === 1 || (dots && x.length <= 60)) {
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
export function cut(curve: Curve, [low, high]: readonly [number, number]): Curve {
  const first = curve.x.findIndex((x) => x >= low);
  const last = curve.x.findLastIndex((x) => x <= high);
  const from = Math.max(0, (first < 0 ? curve.x.length : first) - 1);
  const part = <V extends readonly number[] | undefined>(values: V) => values?.slice(from, last + 2) as V;
  const { x, y, raw, low: least, high: most } = curve;
  return { ...curve, x: part(x), y: part(y), raw: part(raw), low: part(least), high: part(most) };
}

/** Index of the number next to `wanted` in an ascending list that is not empty. */
export function nearest(values: readonly number[], wanted: number): number {
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
