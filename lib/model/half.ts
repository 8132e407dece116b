/** Widens bfloat16 (the upper half of a float32) to float32. Exact. */
export function bf16ToFloat32(source: Uint16Array, target: Float32Array): void {
  const words = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) words[i] = (source[i] as number) << 16;
}

/** Widens IEEE 754 binary16 to float32. Exact, subnormals, infinities and NaN payloads included. */
export function f16ToFloat32(source: Uint16Array, target: Float32Array): void {
  const words = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) words[i] = widen(source[i] as number);
}

/** Bits of the float32 that equals the binary16 with these bits: 1 sign, 5 exponent (bias 15), 10 fraction. */
function widen(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13);
  if (exponent !== 0) return sign | ((exponent + 127 - 15) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // A subnormal, fraction * 2^-24, is a normal float32: shift its leading one into the implicit place.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((1 - shift + 127 - 15) << 23) | (((fraction << shift) & 0x3ff) << 13);
}
