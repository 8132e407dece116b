// Vectors of 4 floats in the compiler's own vector types, with FMA on arm64.
//
// Each header of this folder defines the same names for one instruction set, in an anonymous namespace, so that nothing
// compiled for one set can be linked into code for another. Kernels are written once against these names:
//   F32, kWidth               a vector of floats and its length
//   Load, LoadPartial         kWidth, or the first n (1 to kWidth) elements with zeros behind them; F32, BF16 or
//                             int8_t memory
//   Store, StorePartial       likewise; BF16 rounds to nearest even and keeps NaN (subnormals may become 0)
//   RoundToBF16               what a store to BF16 memory and a load give back
//   LoadTwo                   two vectors of BF16 memory, in an order that is cheap to load
//   InOrder                   two sums of such vectors, back in the order of memory
//   Reciprocal                1 / a for a normal, finite a; 1.5 ulp
//   RoughReciprocal           the same, at most 2^-14 of it off
//   Fma a * b + c, NegFma c - a * b, Max and Min (the second operand where one is NaN), Sqrt, Round (to nearest)
//   ScaleByPowerOf2(a, n)     a 2^n for an integral n in [-252, 254]
//   ScaleByShifted(a, n + kShiftOfInteger)   the same where a and the result are normal
//   ClampAbs(a, limit)        the nearest number to a in [-limit, limit]; any where a is NaN
//   Less, Select, SelectFirst lane masks; SelectFirst takes `first` in the first n lanes
//   ReduceAdd, ReduceMax      over the lanes, in a fixed order
//   Transpose                 kWidth vectors
//   kTileRows, kTileVectors   the register tile of the matrix product: rows of a, vectors of b
//   kWideTileRows, kWideTileVectors   the one for rows of a that are not packed: the same, or with more columns
#pragma once

#include "cpu/simd/element.h"

#ifdef __ARM_NEON
#include <arm_neon.h>
#endif

namespace kotodama::cpu {
namespace {

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef uint32_t Uint4 __attribute__((vector_size(16)));

struct F32 {
  Float4 v;
};
constexpr int kWidth = 4;
using Mask = Int4;

inline F32 Set(float x) {
  return {Float4{x, x, x, x}};
}

inline F32 Load(const float* p) {
  F32 a;
  __builtin_memcpy(&a.v, p, sizeof(a.v));
  return a;
}
inline F32 Load(const BF16* p) {
  const Uint4 bits = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  return {(Float4)(bits << 16)};
}
inline F32 Load(const int8_t* p) {
  return {Float4{float(p[0]), float(p[1]), float(p[2]), float(p[3])}};
}
template <typename E>
inline F32 LoadPartial(const E* p, int n) {
  E lanes[kWidth] = {};
  __builtin_memcpy(lanes, p, static_cast<unsigned>(n) * sizeof(E));
  return Load(lanes);
}
inline void LoadTwo(const BF16* p, F32& a, F32& b) {
  Uint4 pairs;
  __builtin_memcpy(&pairs, p, sizeof(pairs));
  a = {(Float4)(pairs << 16)};
  b = {(Float4)(pairs & 0xffff0000u)};
}
inline void InOrder(const BF16*, F32& a, F32& b) {
  const Float4 even = a.v, odd = b.v;
  a = {Float4{even[0], odd[0], even[1], odd[1]}};
  b = {Float4{even[2], odd[2], even[3], odd[3]}};
}
inline void Store(float* p, F32 a) {
  __builtin_memcpy(p, &a.v, sizeof(a.v));
}
// The upper half of every lane is its bfloat16.
inline Uint4 RoundedBits(F32 a) {
  const Uint4 bits = (Uint4)a.v;
  const Uint4 rounded = bits + 0x7fff + (bits >> 16 & 1);
  const Uint4 nan = (Uint4)(a.v != a.v);
  return (nan & (bits | 0x400000)) | (~nan & rounded);
}
inline F32 RoundToBF16(F32 a) {
  return {(Float4)(RoundedBits(a) >> 16 << 16)};
}
inline void Store(BF16* p, F32 a) {
  const Uint4 result = RoundedBits(a) >> 16;
  for (int i = 0; i < kWidth; ++i) p[i].bits = static_cast<uint16_t>(result[i]);
}
template <typename E>
inline void StorePartial(E* p, F32 a, int n) {
  E lanes[kWidth];
  Store(lanes, a);
  __builtin_memcpy(p, lanes, static_cast<unsigned>(n) * sizeof(E));
}

inline F32 operator+(F32 a, F32 b) {
  return {a.v + b.v};
}
inline F32 operator-(F32 a, F32 b) {
  return {a.v - b.v};
}
inline F32 operator*(F32 a, F32 b) {
  return {a.v * b.v};
}
inline F32 operator/(F32 a, F32 b) {
  return {a.v / b.v};
}
inline F32 Fma(F32 a, F32 b, F32 c) {
#ifdef __ARM_NEON
  return {(Float4)vfmaq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v)};
#else
  return {a.v * b.v + c.v};
#endif
}
inline F32 NegFma(F32 a, F32 b, F32 c) {
#ifdef __ARM_NEON
  return {(Float4)vfmsq_f32((float32x4_t)c.v, (float32x4_t)a.v, (float32x4_t)b.v)};
#else
  return {c.v - a.v * b.v};
#endif
}
inline Mask Less(F32 a, F32 b) {
  return (Mask)(a.v < b.v);
}
inline F32 Select(Mask mask, F32 yes, F32 no) {
  return {(Float4)(((Int4)yes.v & mask) | ((Int4)no.v & ~mask))};
}
inline F32 SelectFirst(int n, F32 first, F32 rest) {
  return Select((Mask)(Int4{0, 1, 2, 3} < n), first, rest);
}
inline F32 Reciprocal(F32 a) {
  return Set(1.0f) / a;
}
inline F32 RoughReciprocal(F32 a) {
  return Reciprocal(a);
}
inline F32 Max(F32 a, F32 b) {
  return Select(Less(b, a), a, b);
}
inline F32 Min(F32 a, F32 b) {
  return Select(Less(a, b), a, b);
}
inline F32 Sqrt(F32 a) {
  return {Float4{__builtin_sqrtf(a.v[0]), __builtin_sqrtf(a.v[1]), __builtin_sqrtf(a.v[2]), __builtin_sqrtf(a.v[3])}};
}
// Exact below 2^22, which is all that callers need.
inline F32 Round(F32 a) {
  return (a + Set(kShiftOfInteger)) - Set(kShiftOfInteger);
}
// 2^n for an integral n in [-126, 127].
inline F32 PowerOf2(F32 n) {
  const F32 biased = n + Set(kShiftOfInteger + 127.0f);
  return {(Float4)((Int4)biased.v << 23)};
}
inline F32 ScaleByPowerOf2(F32 a, F32 n) {
  const F32 half = Round(n * Set(0.5f));
  return a * PowerOf2(half) * PowerOf2(n - half);
}
inline F32 ScaleByShifted(F32 a, F32 shifted) {
  return {(Float4)((Int4)a.v + ((Int4)shifted.v << 23))};
}
inline F32 ClampAbs(F32 a, F32 limit) {
  return Max(Set(0.0f) - limit, Min(limit, a));
}
inline float ReduceAdd(F32 a) {
  return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}
inline float ReduceMax(F32 a) {
  const float even = a.v[0] > a.v[2] ? a.v[0] : a.v[2], odd = a.v[1] > a.v[3] ? a.v[1] : a.v[3];
  return even > odd ? even : odd;
}

// Rows become columns.
inline void Transpose(F32 (&rows)[4]) {
  const Float4 a = rows[0].v, b = rows[1].v, c = rows[2].v, d = rows[3].v;
  for (int i = 0; i < 4; ++i) rows[i].v = Float4{a[i], b[i], c[i], d[i]};
}

#ifdef __ARM_NEON
constexpr int kTileRows = 8;
constexpr int kTileVectors = 3;
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
#endif
constexpr int kWideTileRows = kTileRows;
constexpr int kWideTileVectors = kTileVectors;

}  // namespace
}  // namespace kotodama::cpu
