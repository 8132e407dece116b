import t from 'tap';
import { ticks } from '../../dist/report/chart.js';
import { Series } from '../../dist/report/series.js';

t.test('a short curve is kept as it is', async (t) => {
  const series = new Series();
  for (const [x, y] of [
    [1, 5],
    [2, 3],
  ])
    series.add(x, y);
  t.same(series.points, [
    [1, 5],
    [2, 3],
  ]);
});

t.test('a long one stays small, and its means stay true', async (t) => {
  const series = new Series();
  const total = 100_000;
  for (let step = 1; step <= total; step++) series.add(step, step);
  t.ok(series.points.length >= 800 && series.points.length < 1600);
  const wrong = series.points.filter(([x, y], index) => y !== ((series.points[index - 1]?.[0] ?? 0) + 1 + x) / 2);
  t.same(wrong, [], 'each is the mean of the values since the one before');
});

t.test('ticks are round and enclose the range', async (t) => {
  const round = (low: number, high: number) => ticks(low, high).map((tick) => Number(tick.toPrecision(12)));
  t.same(round(0, 100), [0, 20, 40, 60, 80, 100]);
  t.same(round(1.93, 10.2), [0, 2, 4, 6, 8, 10, 12]);
  t.same(round(-0.003, 0.0041), [-0.004, -0.002, 0, 0.002, 0.004, 0.006]);
});
