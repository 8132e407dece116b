/** A longer copy of a typed array; the rest is zero. */
export function grown<A extends Int32Array | Uint32Array | Float64Array | Uint8Array>(array: A, length: number): A {
  const copy = new (array.constructor as new (length: number) => A)(length);
  copy.set(array);
  return copy;
}
