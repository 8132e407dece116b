// Vector functions. csrc/cpu/test/math_test.cc checks the errors stated here.
#pragma once

#include <stdint.h>

namespace kotodama::cpu {
namespace {

// Calls body(j, n) for the vectors of a row: n = kWidth, and less at the end.
template <typename Body>
__attribute__((always_inline)) inline void ForVectors(int64_t count, Body body) {
  int64_t j = 0;
  for (; j + kWidth <= count; j += kWidth) body(j, kWidth);
  if (j < count) body(j, static_cast<int>(count - j));
}

// e^x, at most 1.5 ulp off where the result is a normal number; smaller ones are rounded as the processor rounds
// subnormals, 0 below -104; infinity above 88.73; NaN stays NaN.
// Cody and Waite's reduction to |r| <= ln(2) / 2, then Cephes' polynomial of degree 6 (Moshier, expf.c).
inline F32 Exp(F32 x) {
  const F32 clamped = Max(Set(-105.0f), Min(Set(89.0f), x));  // the second operand survives where one is NaN
  const F32 n = Round(clamped * Set(1.44269504f));
  F32 r = NegFma(n, Set(0.693359375f), clamped);
  r = NegFma(n, Set(-2.12194440e-4f), r);
  F32 p = Set(1.9875691500e-4f);
  p = Fma(p, r, Set(1.3981999507e-3f));
  p = Fma(p, r, Set(8.3334519073e-3f));
  p = Fma(p, r, Set(4.1665795894e-2f));
  p = Fma(p, r, Set(1.6666665459e-1f));
  p = Fma(p, r, Set(5.0000001201e-1f));
  return ScaleByPowerOf2(Fma(p, r * r, r) + Set(1.0f), n);
}

// 2^r for |r| <= 1/2 and a number that is rounded to this type later. The multiplications wait less for each other than
// in Horner's form: they stand in long chains of instructions, and few of those find room beside each other.
// Cephes' polynomial (Moshier, exp2f.c).
inline F32 Exp2Fraction(F32 r, const float*) {
  const F32 r2 = r * r;
  const F32 high = Fma(Fma(Set(1.535336188319500e-4f), r, Set(1.339887440266574e-3f)), r2,
                       Fma(Set(9.618437357674640e-3f), r, Set(5.550332471162809e-2f)));
  const F32 low = Fma(Set(2.402264791363012e-1f), r, Set(6.931472028550421e-1f));
  return Fma(Fma(high, r2, low), r, Set(1.0f));
}
// The minimax polynomial of degree 3 (Remez), 7.5e-5 off at most: 1/26 of the rounding to bfloat16.
inline F32 Exp2Fraction(F32 r, const BF16*) {
  return Fma(Fma(Set(5.51716685e-2f), r, Set(2.42611125e-1f)), r * r, Fma(Set(6.93260968e-1f), r, Set(9.99928057e-1f)));
}

// 2^x for x at most a little above 0, as softmax needs it: 1.5 ulp, 0 below -151; NaN stays NaN.
inline F32 Exp2(F32 x) {
  const F32 clamped = Max(Set(-151.0f), x), n = Round(clamped);
  return ScaleByPowerOf2(Exp2Fraction(clamped - n, static_cast<const float*>(nullptr)), n);
}

inline F32 ReciprocalFor(F32 a, const float*) {
  return Reciprocal(a);
}
inline F32 ReciprocalFor(F32 a, const BF16*) {
  return RoughReciprocal(a);
}

// With the u of GELU's tanh form: e^-2u, and 1 / (1 + e^-2u) = (1 + tanh(u)) / 2, at least 2^-114. `near` is the x that
// they are for: beyond it, and far before, they decide nothing.
struct GeluParts {
  F32 near, power, gate;
};

// As exactly as a result needs it that is rounded to E.
template <typename E>
inline GeluParts GeluPartsOf(F32 x) {
  constexpr float kPowerOf2 = -2 * 0.7978845608028654f * 1.44269504f;
  // Within these bounds no number is subnormal, which some processors take a hundred cycles for.
  const F32 near = ClampAbs(x, Set(9.6f));
  const F32 slope = Fma(near * near, Set(kPowerOf2 * 0.044715f), Set(kPowerOf2));
  const F32 shifted = Fma(near, slope, Set(kShiftOfInteger));
  const F32 fraction = Fma(near, slope, Set(kShiftOfInteger) - shifted);
  const F32 power = ScaleByShifted(Exp2Fraction(fraction, static_cast<const E*>(nullptr)), shifted);
  return {near, power, ReciprocalFor(power + Set(1.0f), static_cast<const E*>(nullptr))};
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), Hendrycks and Gimpel 2016.
template <typename E>
inline F32 GeluOf(F32 x) {
  return x * GeluPartsOf<E>(x).gate;
}

// d gelu(x) / dx; tanh'(u) is 4 gate (1 - gate), and 1 - gate is power gate.
template <typename E>
inline F32 GeluSlopeOf(F32 x) {
  const GeluParts parts = GeluPartsOf<E>(x);
  const F32 twice_du =
      Fma(parts.near * parts.near, Set(6 * 0.7978845608028654f * 0.044715f), Set(2 * 0.7978845608028654f));
  return Fma(x * parts.gate * (parts.power * parts.gate), twice_du, parts.gate);
}

}  // namespace
}  // namespace kotodama::cpu
