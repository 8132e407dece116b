/** From here on the asymptotic series is exact to about 12 digits. */
const LARGE = 8;

/**
 * The digamma function for x > 0 (Abramowitz and Stegun 1964): moved to large x by the recurrence 6.3.5, then the asymptotic
 * series 6.3.18.
 */
export function digamma(x: number): number {
  let value = 0;
  let large = x;
  for (; large < LARGE; large++) value -= 1 / large;
  const inverse = 1 / (large * large);
  const series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240 - inverse / 132))));
  return value + Math.log(large) - 1 / (2 * large) - series;
}
