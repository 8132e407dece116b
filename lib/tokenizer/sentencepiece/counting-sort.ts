/** The whole numbers from `start` to below `end`. */
export function numbers(start: number, end: number): Int32Array {
  const all = new Int32Array(end - start);
  for (let i = 0; i < all.length; i++) all[i] = start + i;
  return all;
}

/** Sorts by keys from 0 to below `keyCount`, keeping the order of equals; also where those of each key begin. */
export function sortBy(
  values: Int32Array,
  keys: Int32Array,
  keyCount: number,
): { sorted: Int32Array; starts: Int32Array } {
  const starts = new Int32Array(keyCount + 1);
  for (let i = 0; i < values.length; i++) starts[keys[values[i]!]! + 1]!++;
  for (let key = 0; key < keyCount; key++) starts[key + 1]! += starts[key]!;
  const next = starts.slice();
  const sorted = new Int32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const key = keys[values[i]!]!;
    sorted[next[key]!] = values[i]!;
    next[key]!++;
  }
  return { sorted, starts };
}
