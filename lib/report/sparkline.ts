const BARS = '▁▂▃▄▅▆▇█';

/** A curve in a line of text, `width` characters wide: each bar is the mean of its share of the values. */
export function sparkline(values: readonly number[], width: number): string {
  const bars = Math.min(width, values.length);
  const means = Array.from({ length: bars }, (_, bar) => {
    const from = Math.floor((bar * values.length) / bars);
    const share = values.slice(from, Math.floor(((bar + 1) * values.length) / bars));
    return share.reduce((sum, value) => sum + value, 0) / share.length;
  });
  const low = Math.min(...means);
  const range = Math.max(...means) - low || 1;
  return means.map((mean) => BARS[Math.min(7, Math.floor((8 * (mean - low)) / range))]).join('');
}
