/**
 * Exponential moving average with the weight of what is missing before the first value divided out, as Adam's moments have
 * it (Kingma and Ba 2015, section 3). Weight 0 changes nothing.
 */
export function smooth(values: readonly number[], weight: number): number[] {
  if (weight === 0) return [...values];
  let sum = 0;
  let mass = 0;
  return values.map((value) => {
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}
