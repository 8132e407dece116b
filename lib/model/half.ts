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

/** Narrows float32 to bfloat16, to the nearest, ties to even. */
export function float32ToBf16(source: Float32Array, target: Uint16Array): void {
  const words = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    const nan = (word & 0x7fffffff) > 0x7f800000;
    // Rounding could carry a NaN over into infinity; a quiet one stays one.
    target[i] = nan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
}

/** Narrows float32 to IEEE 754 binary16, to the nearest, ties to even; from 65520 on it becomes infinite. */
export function float32ToF16(source: Float32Array, target: Uint16Array): void {
  const words = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < words.length; i++) target[i] = narrow(words[i] as number);
}

/** Bits of the binary16 nearest to the float32 with these bits. */
function narrow(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 2^16
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  // From 2^-14 on: the exponent moves from bias 127 to bias 15, and a carry out of the fraction raises it by one.
  if (magnitude >= 0x38800000) {
    return sign | ((magnitude - ((127 - 15) << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13);
  }
  // A subnormal counts in units of 2^-24, a float32 with exponent e and its leading one in units of 2^(e - 150).
  const shift = 126 - (magnitude >> 23);
  if (shift > 24) return sign;
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  return sign | ((fraction + (1 << (shift - 1)) - 1 + ((fraction >> shift) & 1)) >> shift);
}
