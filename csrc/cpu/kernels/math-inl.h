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

// 2^r for |r| <= 1/2, as exactly as a result of the given type needs. In Estrin's scheme the multiplications wait less
// for each other than in Horner's. Cephes' polynomial (Moshier, exp2f.c).
inline F32 Exp2Fraction(F32 r, const float*) {
  const F32 r2 = r * r;
  const F32 high = Fma(Fma(Set(1.535336188319500e-4f), r, Set(1.339887440266574e-3f)), r2,
                       Fma(Set(9.618437357674640e-3f), r, Set(5.550332471162809e-2f)));
  const F32 low = Fma(Set(2.402264791363012e-1f), r, Set(6.931472028550421e-1f));
  return Fma(Fma(high, r2, low), r, Set(1.0f));
}
// The minimax polynomial of degree 3 (Remez), at most 7.5e-5 of it off: 1/26 of the rounding to bfloat16.
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

// As far as this from 0 GELU's gate is 0 or 1 to within 2^-113. No power and no gate is subnormal up to there, which
// some processors take a hundred cycles for.
constexpr float kGeluReach = 9.6f;

// With the u of GELU's tanh form: e^-2u, and 1 / (1 + e^-2u) = (1 + tanh(u)) / 2. Both are those of `near`: x within
// +-kGeluReach, and any number where x is NaN.
struct GeluParts {
  F32 near, power, gate;
};

// As exactly as a result needs it that is rounded to E.
template <typename E>
inline GeluParts GeluPartsOf(F32 x) {
  constexpr float kPowerOf2 = -2 * 0.7978845608028654f * 1.44269504f;
  const F32 near = ClampAbs(x, Set(kGeluReach));
  const F32 slope = Fma(near * near, Set(kPowerOf2 * 0.044715f), Set(kPowerOf2));
  const F32 shifted = Fma(near, slope, Set(kShiftOfInteger));
  const F32 fraction = Fma(near, slope, Set(kShiftOfInteger) - shifted);
  const F32 power = ScaleByShifted(Exp2Fraction(fraction, static_cast<const E*>(nullptr)), shifted);
  return {near, power, ReciprocalFor(power + Set(1.0f), static_cast<const E*>(nullptr))};
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), Hendrycks and Gimpel 2016.
template <typename E>
inline F32 GeluOf(F32 x) {
  const GeluParts parts = GeluPartsOf<E>(x);
  return Max(parts.near, x) * parts.gate;  // nothing is left of numbers far below; NaN stays NaN
}

// d gelu(x) / dx; tanh'(u) is 4 gate (1 - gate), and 1 - gate is power gate.
template <typename E>
inline F32 GeluSlopeOf(F32 x) {
  const GeluParts parts = GeluPartsOf<E>(x);
  const F32 bounded = Min(Set(kGeluReach), Max(parts.near, x));  // NaN stays NaN
  const F32 twice_du =
      Fma(parts.near * parts.near, Set(6 * 0.7978845608028654f * 0.044715f), Set(2 * 0.7978845608028654f));
  return Fma(bounded * parts.gate * (parts.power * parts.gate), twice_du, parts.gate);
}

}  // namespace
}  // namespace kotodama::cpu
