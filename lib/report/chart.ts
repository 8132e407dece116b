/** One line of a chart. */
export interface Curve {
  name: string;
  /** Any CSS colour. */
  colour: string;
  /** [x, y], x ascending. */
  points: readonly (readonly [number, number])[];
  /** Marks every point: for curves of few points. */
  dots?: boolean;
}

const WIDTH = 720;
const HEIGHT = 280;
const MARGIN = { left: 64, right: 12, top: 8, bottom: 26 };

/** A chart of curves over the same x axis (steps), as an SVG figure. */
export function chart(title: string, curves: readonly Curve[]): string {
  const shown = curves
    .map((curve) => ({ ...curve, points: curve.points.filter(([, y]) => Number.isFinite(y)) }))
    .filter(({ points }) => points.length > 0);
  const all = shown.flatMap(({ points }) => points);
  const key =
    shown.length > 1 ? shown.map(({ name, colour }) => `<span class="key" style="color:${colour}">${name}</span>`) : [];
  const caption = `<figcaption>${title}${key.join('')}</figcaption>`;
  if (all.length === 0) return `<figure>${caption}<p>no data yet</p></figure>`;

  const xTicks = ticks(...extent(all.map(([x]) => x)));
  const yTicks = ticks(...extent(all.map(([, y]) => y)));
  const [x0, x1] = extent([...all.map(([x]) => x)]);
  const [y0, y1] = extent([...all.map(([, y]) => y), ...yTicks]);
  const left = (x: number) => MARGIN.left + ((x - x0) / (x1 - x0)) * (WIDTH - MARGIN.left - MARGIN.right);
  const top = (y: number) => HEIGHT - MARGIN.bottom - ((y - y0) / (y1 - y0)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const place = ([x, y]: readonly [number, number]) => `${left(x).toFixed(1)},${top(y).toFixed(1)}`;

  const grid = yTicks.map((y) => {
    const height = top(y).toFixed(1);
    return (
      `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${height}" y2="${height}" stroke="var(--line)"/>` +
      `<text x="${MARGIN.left - 8}" y="${height}" dy="0.32em" text-anchor="end">${label(y)}</text>`
    );
  });
  const steps = xTicks
    .filter((x) => x >= x0 && x <= x1)
    .map((x) => `<text x="${left(x).toFixed(1)}" y="${HEIGHT - 6}" text-anchor="middle">${label(x)}</text>`);
  const lines = shown.map(({ colour, points, dots }) => {
    const line = `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${points.map(place).join(' ')}"/>`;
    const marks = dots ? points.map((point) => `<circle r="3" fill="${colour}" ${circle(place(point))}/>`) : [];
    return line + marks.join('');
  });
  const content = [...grid, ...steps, ...lines].join('\n');
  return `<figure>${caption}\n<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">\n${content}\n</svg></figure>`;
}

function circle(place: string): string {
  const [x, y] = place.split(',');
  return `cx="${x}" cy="${y}"`;
}

/** Smallest and largest number, never equal. */
function extent(values: readonly number[]): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low < high ? [low, high] : [low - Math.max(1, Math.abs(low)) / 2, high + Math.max(1, Math.abs(high)) / 2];
}

/** About five round numbers that enclose the range: multiples of 1, 2 or 5 times a power of ten. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10) * power;
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

/** Without the noise of binary fractions: 0.30000000000000004 is 0.3. */
function label(value: number): string {
  const rounded = Number(value.toPrecision(6));
  return rounded !== 0 && Math.abs(rounded) < 1e-3 ? rounded.toExponential() : String(rounded);
}
