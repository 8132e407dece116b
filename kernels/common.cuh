#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "params.h"

// Small device functions that every kernel family shares: number types, vectors of four, reductions, random numbers.

namespace kotodama::kernels {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// ---- Loops whose index is a constant: f(std::integral_constant<int, 0>), f(... 1) ... ----

template <int... indices, typename F>
__device__ __forceinline__ void UnrollIndices(std::integer_sequence<int, indices...>, F f) {
  (f(std::integral_constant<int, indices>{}), ...);
}
template <int count, typename F>
__device__ __forceinline__ void Unroll(F f) {
  UnrollIndices(std::make_integer_sequence<int, count>{}, f);
}

// ---- Number types ----

struct bf16 {
  uint16_t bits;
};

__device__ __forceinline__ float ToFloat(float x) {
  return x;
}
__device__ __forceinline__ float ToFloat(bf16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

// Two floats as a pair of bf16, `low` in the lower half, rounded to nearest even.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ __forceinline__ float LowFloat(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float HighFloat(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

template <typename X>
__device__ __forceinline__ X FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 FromFloat<bf16>(float x) {
  return bf16{static_cast<uint16_t>(PackBf16(x, 0.0f))};
}

// ---- Four elements at once; addresses are multiples of four elements ----

__device__ __forceinline__ float4 Load4(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}
__device__ __forceinline__ float4 Load4(const bf16* p) {
  const uint2 v = *reinterpret_cast<const uint2*>(p);
  return make_float4(LowFloat(v.x), HighFloat(v.x), LowFloat(v.y), HighFloat(v.y));
}
__device__ __forceinline__ void Store4(float* p, float4 v) {
  *reinterpret_cast<float4*>(p) = v;
}
__device__ __forceinline__ void Store4(bf16* p, float4 v) {
  *reinterpret_cast<uint2*>(p) = make_uint2(PackBf16(v.x, v.y), PackBf16(v.z, v.w));
}

__device__ __forceinline__ float& At(float4& v, int i) {
  return (&v.x)[i];
}

// ---- Reductions, always in the same order ----

__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(kAllLanes, x, mask);
  return x;
}

__device__ __forceinline__ double WarpSum(double x) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(kAllLanes, x, mask);
  return x;
}

__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, mask));
  return x;
}

// The sum over the block, in every thread. Whole warps only; `scratch` holds one value a warp and may be used again
// after the next barrier.
template <typename T>
__device__ __forceinline__ T BlockSum(T x, T* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  x = WarpSum(x);
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  T sum = 0;
  for (int w = 0; w < warps; ++w) sum += scratch[w];
  __syncthreads();
  return sum;
}

// ---- Dropout: Philox4x32-10, as csrc/backend.h says ----

__device__ __forceinline__ uint4 Philox(uint64_t key, uint4 counter) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
    counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// DropoutParams with the key in registers.
struct DropoutMask {
  uint64_t seed = 0;
  uint32_t micro_step = 0, threshold, site;
  float scale;

  __device__ __forceinline__ explicit DropoutMask(const DropoutParams& p)
      : threshold(p.threshold), site(p.site), scale(p.scale) {
    if (threshold == 0) return;
    seed = p.key[0];
    micro_step = static_cast<uint32_t>(p.key[1]);
  }
};

// The random words of the elements 4 * group ... 4 * group + 3.
__device__ __forceinline__ uint4 DropoutWords(const DropoutMask& dropout, uint64_t group) {
  return Philox(dropout.seed, make_uint4(static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), dropout.site,
                                         dropout.micro_step));
}

// What element `index` is multiplied with: 0 or the scale.
__device__ __forceinline__ float DropoutFactor(const DropoutMask& dropout, uint64_t index) {
  const uint4 words = DropoutWords(dropout, index / 4);
  const uint32_t low = index & 1 ? words.y : words.x, high = index & 1 ? words.w : words.z;
  return (index & 2 ? high : low) < dropout.threshold ? 0.0f : dropout.scale;
}

// Whether the elements `index` and `index` + 1 are dropped: bits 0 and 1.
__device__ __forceinline__ uint32_t DroppedPair(const DropoutMask& dropout, uint64_t index) {
  const uint4 words = DropoutWords(dropout, index / 4);
  const uint32_t low = index & 1 ? words.y : words.x, high = index & 1 ? words.w : words.z;
  const uint32_t first = index & 2 ? high : low;
  uint32_t second = index & 1 ? words.z : index & 2 ? words.w : words.y;
  if ((index & 3) == 3) second = DropoutWords(dropout, index / 4 + 1).x;
  return (first < dropout.threshold ? 1u : 0u) | (second < dropout.threshold ? 2u : 0u);
}

// Which of the elements 4 * group ... 4 * group + 3 are dropped: bits 0 to 3.
__device__ __forceinline__ uint32_t DroppedFour(const DropoutMask& dropout, uint64_t group) {
  const uint4 words = DropoutWords(dropout, group);
  return (words.x < dropout.threshold ? 1u : 0u) | (words.y < dropout.threshold ? 2u : 0u) |
         (words.z < dropout.threshold ? 4u : 0u) | (words.w < dropout.threshold ? 8u : 0u);
}

// Four elements from `index`, a multiple of 4.
__device__ __forceinline__ float4 ApplyDropout(const DropoutMask& dropout, uint64_t index, float4 v) {
  const uint4 words = DropoutWords(dropout, index / 4);
  v.x = words.x < dropout.threshold ? 0.0f : v.x * dropout.scale;
  v.y = words.y < dropout.threshold ? 0.0f : v.y * dropout.scale;
  v.z = words.z < dropout.threshold ? 0.0f : v.z * dropout.scale;
  v.w = words.w < dropout.threshold ? 0.0f : v.w * dropout.scale;
  return v;
}

// ---- exp and 1 / x: the library's for fp32, the hardware's own for bf16 ----

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

constexpr float kLog2E = 1.4426950408889634f;

template <typename X>
__device__ __forceinline__ float Exp(float x) {
  return expf(x);
}
template <>
__device__ __forceinline__ float Exp<bf16>(float x) {
  return Exp2(x * kLog2E);
}

template <typename X>
__device__ __forceinline__ float Reciprocal(float x) {
  return __fdiv_rn(1.0f, x);
}
template <>
__device__ __forceinline__ float Reciprocal<bf16>(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace kotodama::kernels
