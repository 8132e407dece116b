#pragma once

#include "common.cuh"

// Stochastic rounding to bf16, as csrc/backend.h says.

namespace kotodama::kernels {

// RoundingParams with the key in registers.
struct Rounding {
  uint64_t seed, step;
  int64_t first;

  __device__ __forceinline__ explicit Rounding(const RoundingParams& p) : first(p.first) {
    const ulonglong2 key = *reinterpret_cast<const ulonglong2*>(p.key);
    seed = key.x;
    step = key.y;
  }

  // The words of element `index` of the tensor and of the others of its four.
  __device__ __forceinline__ uint4 Words(int64_t index) const {
    const uint64_t group = static_cast<uint64_t>(first + index) / 4;
    return Philox(seed, make_uint4(static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32),
                                   static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)));
  }

  __device__ __forceinline__ uint32_t Word(int64_t index) const {
    const uint4 words = Words(index);
    const uint32_t low = index & 1 ? words.y : words.x, high = index & 1 ? words.w : words.z;
    return index & 2 ? high : low;
  }
};

// The rounded number's bits are the upper half. A carry out of the lower half makes the number one step larger; NaN
// must not become a number by one.
__device__ __forceinline__ uint32_t RoundedBits(float x, uint32_t word) {
  const uint32_t bits = __float_as_uint(x);
  return x != x ? bits | 0x00400000u : bits + (word & 0xffffu);
}

__device__ __forceinline__ void StoreRounded4(bf16* p, float4 v, uint4 words) {
  const auto pair = [](uint32_t low, uint32_t high) { return __byte_perm(low, high, 0x7632); };
  *reinterpret_cast<uint2*>(p) = make_uint2(pair(RoundedBits(v.x, words.x), RoundedBits(v.y, words.y)),
                                            pair(RoundedBits(v.z, words.z), RoundedBits(v.w, words.w)));
}

__device__ __forceinline__ bf16 RoundedBf16(float x, uint32_t word) {
  return bf16{static_cast<uint16_t>(RoundedBits(x, word) >> 16)};
}

}  // namespace kotodama::kernels
