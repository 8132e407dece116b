// Vectors of 16 floats, AVX-512 (F, BW, DQ, VL). See simd/portable.h for what every operation means.
#pragma once

#include <immintrin.h>

#include "cpu/simd/element.h"

namespace kotodama::cpu {
namespace {

struct F32 {
  __m512 v;
};
constexpr int kWidth = 16;
using Mask = __mmask16;

inline F32 Set(float x) {
  return {_mm512_set1_ps(x)};
}
inline __mmask16 FirstLanes(int n) {
  return static_cast<__mmask16>((1u << n) - 1);
}

inline F32 FromBits16(__m256i bits) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
#ifdef __AVX512BF16__
// The instruction takes subnormal numbers for zero.
inline __m256i ToBits16(F32 a) {
  return (__m256i)_mm512_cvtneps_pbh(a.v);
}
#else
inline __m256i ToBits16(F32 a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
}
#endif

inline F32 RoundToBF16(F32 a) {
  return FromBits16(ToBits16(a));
}
inline F32 Load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
inline F32 Load(const BF16* p) {
  return FromBits16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F32 Load(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
inline F32 LoadPartial(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(FirstLanes(n), p)};
}
inline F32 LoadPartial(const BF16* p, int n) {
  return FromBits16(_mm256_maskz_loadu_epi16(FirstLanes(n), p));
}
inline F32 LoadPartial(const int8_t* p, int n) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(FirstLanes(n), p)))};
}
inline F32 FirstOfPairs(const void* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
inline F32 SecondOfPairs(const void* p) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), high))};
}
inline void LoadTwo(const BF16* p, F32& a, F32& b) {
  a = FirstOfPairs(p);
  b = SecondOfPairs(p);
}
inline void InOrder(const BF16*, F32& a, F32& b) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512 even = a.v, odd = b.v;
  a = {_mm512_permutex2var_ps(even, first, odd)};
  b = {_mm512_permutex2var_ps(even, _mm512_add_epi32(first, _mm512_set1_epi32(8)), odd)};
}
inline void Store(float* p, F32 a) {
  _mm512_storeu_ps(p, a.v);
}
inline void Store(BF16* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), ToBits16(a));
}
#ifdef __AVX512BF16__
inline __m512i TwoToBits16(F32 a, F32 b) {
  return (__m512i)_mm512_cvtne2ps_pbh(b.v, a.v);
}
inline void StoreTwo(BF16* p, F32 a, F32 b) {
  _mm512_storeu_si512(p, TwoToBits16(a, b));
}
#endif
#ifdef __AMX_BF16__
#define KOTODAMA_STREAMS 1
// These processors read a line before they write to it, and are three times as fast where they need not.
inline void StreamTwo(float* p, F32 a, F32 b) {
  _mm512_stream_ps(p, a.v);
  _mm512_stream_ps(p + kWidth, b.v);
}
inline void StreamTwo(BF16* p, F32 a, F32 b) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), TwoToBits16(a, b));
}
#endif
inline void StorePartial(float* p, F32 a, int n) {
  _mm512_mask_storeu_ps(p, FirstLanes(n), a.v);
}
inline void StorePartial(BF16* p, F32 a, int n) {
  _mm256_mask_storeu_epi16(p, FirstLanes(n), ToBits16(a));
}

inline F32 operator+(F32 a, F32 b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline F32 operator-(F32 a, F32 b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline F32 operator*(F32 a, F32 b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline F32 operator/(F32 a, F32 b) {
  return {_mm512_div_ps(a.v, b.v)};
}
inline F32 Fma(F32 a, F32 b, F32 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline F32 NegFma(F32 a, F32 b, F32 c) {
  return {_mm512_fnmadd_ps(a.v, b.v, c.v)};
}
inline F32 Reciprocal(F32 a) {
  const __m512 r = _mm512_rcp14_ps(a.v);
  return {_mm512_mul_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(2.0f)))};
}
// Of rcp14 Intel publishes every bit, unlike of the older rcpps.
inline F32 RoughReciprocal(F32 a) {
  return {_mm512_rcp14_ps(a.v)};
}
inline F32 Max(F32 a, F32 b) {
  return {_mm512_max_ps(a.v, b.v)};
}
inline F32 Min(F32 a, F32 b) {
  return {_mm512_min_ps(a.v, b.v)};
}
inline F32 Sqrt(F32 a) {
  return {_mm512_sqrt_ps(a.v)};
}
inline F32 Round(F32 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline F32 ScaleByPowerOf2(F32 a, F32 n) {
  return {_mm512_scalef_ps(a.v, n.v)};
}
inline F32 ScaleByShifted(F32 a, F32 shifted) {
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), exponent))};
}
inline F32 ClampAbs(F32 a, F32 limit) {
  constexpr int kSmallerWithSignOfFirst = 2;
  return {_mm512_range_ps(a.v, limit.v, kSmallerWithSignOfFirst)};
}
inline Mask Less(F32 a, F32 b) {
  return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ);
}
inline F32 Select(Mask mask, F32 yes, F32 no) {
  return {_mm512_mask_blend_ps(mask, no.v, yes.v)};
}
inline F32 SelectFirst(int n, F32 first, F32 rest) {
  return Select(FirstLanes(n), first, rest);
}
inline float ReduceAdd(F32 a) {
  return _mm512_reduce_add_ps(a.v);
}
inline float ReduceMax(F32 a) {
  return _mm512_reduce_max_ps(a.v);
}

// Rows become columns.
inline void Transpose(F32 (&rows)[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  __m512 u[16];
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    rows[i + 8].v = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    rows[i + 4].v = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    rows[i + 12].v = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// Registers for a tile of the matrix product: 8 x 3 sums, 3 vectors of b, one of a.
constexpr int kTileRows = 8;
constexpr int kTileVectors = 3;
// 6 x 4 sums: 10 loads for 24 products instead of 11. Where a is packed, panels of 6 rows cost more than that saves.
constexpr int kWideTileRows = 6;
constexpr int kWideTileVectors = 4;

#ifdef __AVX512BF16__
#define KOTODAMA_BF16_DOT 1
// Sixteen pairs of bfloat16.
struct Pairs {
  __m512bh v;
};
inline Pairs LoadPairs(const void* p) {
  return {(__m512bh)_mm512_loadu_si512(p)};
}
inline Pairs SetPairs(uint32_t pair) {
  return {(__m512bh)_mm512_set1_epi32(static_cast<int>(pair))};
}
// 32 elements of two rows become pairs: those of columns 0 to 15 in a, of 16 to 31 in b.
inline void PairRows(const BF16* first, const BF16* second, F32& a, F32& b) {
  const __m512i column = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i in_second = _mm512_add_epi32(column, _mm512_set1_epi32(32));
  const __m512i low = _mm512_or_si512(column, _mm512_slli_epi32(in_second, 16));
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  const __m512i x = _mm512_loadu_si512(first), y = _mm512_loadu_si512(second);
  a = {_mm512_castsi512_ps(_mm512_permutex2var_epi16(x, low, y))};
  b = {_mm512_castsi512_ps(_mm512_permutex2var_epi16(x, high, y))};
}
inline void StoreHalves(float* first, float* second, F32 a) {
  _mm256_storeu_ps(first, _mm512_castps512_ps256(a.v));
  _mm256_storeu_ps(second, _mm512_extractf32x8_ps(a.v, 1));
}
// acc + a.low * b.low + a.high * b.high
inline F32 Dot(F32 acc, Pairs a, Pairs b) {
  return {_mm512_dpbf16_ps(acc.v, a.v, b.v)};
}
#endif

}  // namespace
}  // namespace kotodama::cpu
