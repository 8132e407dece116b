// Vectors of 8 floats, AVX2 and FMA. See simd/portable.h for what every operation means.
#pragma once

#include <immintrin.h>

#include "cpu/simd/element.h"

namespace kotodama::cpu {
namespace {

struct F32 {
  __m256 v;
};
constexpr int kWidth = 8;
using Mask = __m256;

inline F32 Set(float x) {
  return {_mm256_set1_ps(x)};
}
inline __m256i FirstLanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline F32 FromBits16(__m128i bits) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline __m128i ToBits16(F32 a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i wide = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(wide, wide), 0x08));
}

inline F32 RoundToBF16(F32 a) {
  return FromBits16(ToBits16(a));
}
inline F32 Load(const float* p) {
  return {_mm256_loadu_ps(p)};
}
inline F32 Load(const BF16* p) {
  return FromBits16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F32 Load(const int8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(p)))};
}
inline F32 LoadPartial(const float* p, int n) {
  return {_mm256_maskload_ps(p, FirstLanes(n))};
}
template <typename E>
inline F32 LoadPartial(const E* p, int n) {
  alignas(16) E lanes[kWidth] = {};
  __builtin_memcpy(lanes, p, static_cast<unsigned>(n) * sizeof(E));
  return Load(lanes);
}
inline void LoadTwo(const BF16* p, F32& a, F32& b) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  a = {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16))};
  b = {_mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}
inline void InOrder(const BF16*, F32& a, F32& b) {
  const __m256 low = _mm256_unpacklo_ps(a.v, b.v), high = _mm256_unpackhi_ps(a.v, b.v);
  a = {_mm256_permute2f128_ps(low, high, 0x20)};
  b = {_mm256_permute2f128_ps(low, high, 0x31)};
}
inline void Store(float* p, F32 a) {
  _mm256_storeu_ps(p, a.v);
}
inline void Store(BF16* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), ToBits16(a));
}
inline void StorePartial(float* p, F32 a, int n) {
  _mm256_maskstore_ps(p, FirstLanes(n), a.v);
}
inline void StorePartial(BF16* p, F32 a, int n) {
  alignas(16) BF16 lanes[kWidth];
  Store(lanes, a);
  __builtin_memcpy(p, lanes, static_cast<unsigned>(n) * sizeof(BF16));
}

inline F32 operator+(F32 a, F32 b) {
  return {_mm256_add_ps(a.v, b.v)};
}
inline F32 operator-(F32 a, F32 b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
inline F32 operator*(F32 a, F32 b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
inline F32 operator/(F32 a, F32 b) {
  return {_mm256_div_ps(a.v, b.v)};
}
inline F32 Fma(F32 a, F32 b, F32 c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
inline F32 NegFma(F32 a, F32 b, F32 c) {
  return {_mm256_fnmadd_ps(a.v, b.v, c.v)};
}
inline F32 Reciprocal(F32 a) {
  return Set(1.0f) / a;
}
inline F32 RoughReciprocal(F32 a) {
  return Reciprocal(a);  // the bits of rcpps differ between makers
}
inline F32 Max(F32 a, F32 b) {
  return {_mm256_max_ps(a.v, b.v)};
}
inline F32 Min(F32 a, F32 b) {
  return {_mm256_min_ps(a.v, b.v)};
}
inline F32 Sqrt(F32 a) {
  return {_mm256_sqrt_ps(a.v)};
}
inline F32 Round(F32 a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// 2^n for an integral n in [-126, 127].
inline F32 PowerOf2(F32 n) {
  return {
      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23))};
}
inline F32 ScaleByPowerOf2(F32 a, F32 n) {
  const F32 half = Round(n * Set(0.5f));
  return a * PowerOf2(half) * PowerOf2(n - half);
}
inline F32 ScaleByShifted(F32 a, F32 shifted) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), exponent))};
}
inline F32 ClampAbs(F32 a, F32 limit) {
  return Max(Set(0.0f) - limit, Min(limit, a));
}
inline Mask Less(F32 a, F32 b) {
  return _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ);
}
inline F32 Select(Mask mask, F32 yes, F32 no) {
  return {_mm256_blendv_ps(no.v, yes.v, mask)};
}
inline F32 SelectFirst(int n, F32 first, F32 rest) {
  return Select(_mm256_castsi256_ps(FirstLanes(n)), first, rest);
}
inline float ReduceAdd(F32 a) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}
inline float ReduceMax(F32 a) {
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_shuffle_ps(top, top, 1)));
}

// Rows become columns.
inline void Transpose(F32 (&rows)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// Registers for a tile of the matrix product: 4 x 3 sums, 3 vectors of b, one of a.
constexpr int kTileRows = 4;
constexpr int kTileVectors = 3;
constexpr int kWideTileRows = kTileRows;
constexpr int kWideTileVectors = kTileVectors;

}  // namespace
}  // namespace kotodama::cpu
