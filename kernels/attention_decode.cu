#include <cfloat>

#include "common.cuh"

// Attention from new positions against the cache of keys and values, and the copy of the new ones into it.

namespace kotodama::kernels {

constexpr int kDecodeThreads = 128;

template <typename X>
__device__ __forceinline__ void AppendToCache(const AttentionDecodeParams& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= static_cast<int64_t>(p.b) * p.n * p.h * p.d) return;
  const int d = i % p.d, h = i / p.d % p.h, n = i / p.d / p.h % p.n;
  const int64_t b = i / p.d / p.h / p.n;
  const X* source = static_cast<const X*>(p.qkv) + (b * p.n + n) * 3 * p.h * p.d + h * p.d + d;
  const int64_t target = ((b * p.h + h) * p.capacity + p.past + n) * p.d + d;
  static_cast<X*>(p.keys)[target] = source[p.h * p.d];
  static_cast<X*>(p.values)[target] = source[2 * p.h * p.d];
}

// Eight lanes share a key.
constexpr int kLanesPerKey = 8;

template <typename X>
__device__ __forceinline__ float PartialDot(const float* query, const X* key, int d) {
  const int lane = threadIdx.x % kLanesPerKey;
  float sum = 0;
  if (d % 4 == 0) {
    for (int i = 4 * lane; i < d; i += 4 * kLanesPerKey) {
      const float4 q = Load4(query + i), k = Load4(key + i);
      sum += (q.x * k.x + q.y * k.y) + (q.z * k.z + q.w * k.w);
    }
  } else {
    for (int i = lane; i < d; i += kLanesPerKey) sum += query[i] * ToFloat(key[i]);
  }
  return sum;
}
__device__ __forceinline__ float LanesSum(float x) {
#pragma unroll
  for (int mask = kLanesPerKey / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(kAllLanes, x, mask);
  return x;
}

// Grid (B * H * n, splits): a block answers one query for one split of the keys, in chunks of 128 (Dao et al. 2023,
// "Flash-Decoding"). After the scores a thread owns a key's weight, and then dimensions of the output. Shared memory:
// (2 D + 128) floats.
template <typename X>
__device__ __forceinline__ void AttentionDecode(const AttentionDecodeParams& p) {
  extern __shared__ float4 shared[];
  float* const shared_floats = reinterpret_cast<float*>(shared);
  __shared__ float scratch[kDecodeThreads / kWarp], scratch_max[kDecodeThreads / kWarp];
  float *query = shared_floats, *sums = query + p.d, *weights = sums + p.d;
  const int head = blockIdx.x / p.n, n = blockIdx.x % p.n, b = head / p.h, h = head % p.h, thread = threadIdx.x;
  const int64_t row = static_cast<int64_t>(b) * p.n + n;
  const X* q = static_cast<const X*>(p.qkv) + row * 3 * p.h * p.d + h * p.d;
  const X* keys = static_cast<const X*>(p.keys) + static_cast<int64_t>(head) * p.capacity * p.d;
  const X* values = static_cast<const X*>(p.values) + static_cast<int64_t>(head) * p.capacity * p.d;
  for (int d = thread; d < p.d; d += kDecodeThreads) {
    query[d] = ToFloat(q[d]) * p.scale;
    sums[d] = 0;
  }
  __syncthreads();
  float max = -FLT_MAX, total = 0;
  const int start = blockIdx.y * p.keys_per_split, end = min(p.past + n + 1, start + p.keys_per_split);
  for (int first = start; first < end; first += kDecodeThreads) {
    const int here = min(kDecodeThreads, end - first);
    __syncthreads();  // the last chunk's weights have been used
    for (int j = thread / kLanesPerKey; j < kDecodeThreads; j += kDecodeThreads / kLanesPerKey) {
      const float part = j < here ? PartialDot(query, keys + static_cast<int64_t>(first + j) * p.d, p.d) : 0.0f;
      const float sum = LanesSum(part);
      if (thread % kLanesPerKey == 0) weights[j] = j < here ? sum : -FLT_MAX;
    }
    __syncthreads();
    const float score = weights[thread];
    const float warp_max = WarpMax(score);
    if (thread % kWarp == 0) scratch_max[thread / kWarp] = warp_max;
    __syncthreads();
    float top = max;
    for (int w = 0; w < kDecodeThreads / kWarp; ++w) top = fmaxf(top, scratch_max[w]);
    const float weight = thread < here ? Exp<X>(score - top) : 0.0f, shrink = Exp<X>(max - top);
    weights[thread] = weight;
    total = total * shrink + BlockSum(weight, scratch);
    max = top;
    for (int d = thread; d < p.d; d += kDecodeThreads) {
      float sum = sums[d] * shrink;
      for (int j = 0; j < here; ++j) sum += weights[j] * ToFloat(values[static_cast<int64_t>(first + j) * p.d + d]);
      sums[d] = sum;
    }
    __syncthreads();
  }
  if (p.splits > 1) {
    const int64_t part = static_cast<int64_t>(blockIdx.x) * p.splits + blockIdx.y;
    float* partial = p.partials + part * (p.d + 2);
    for (int d = thread; d < p.d; d += kDecodeThreads) partial[d] = sums[d];
    if (thread == 0) {
      partial[p.d] = max;
      partial[p.d + 1] = total;
    }
    return;
  }
  X* out = static_cast<X*>(p.out) + row * p.h * p.d + h * p.d;
  for (int d = thread; d < p.d; d += kDecodeThreads) out[d] = FromFloat<X>(sums[d] / total);
}

// Grid (B * H * n): joins the splits of a query in order; a split without keys has the weight 0.
template <typename X>
__device__ __forceinline__ void AttentionDecodeJoin(const AttentionDecodeParams& p) {
  const int head = blockIdx.x / p.n, n = blockIdx.x % p.n, b = head / p.h, h = head % p.h;
  const int width = p.d + 2, splits = p.splits;
  const float* partials = p.partials + static_cast<int64_t>(blockIdx.x) * splits * width;
  float max = -FLT_MAX, total = 0;
  for (int s = 0; s < splits; ++s) max = fmaxf(max, partials[s * width + p.d]);
  for (int s = 0; s < splits; ++s) total += partials[s * width + p.d + 1] * Exp<X>(partials[s * width + p.d] - max);
  X* out = static_cast<X*>(p.out) + ((static_cast<int64_t>(b) * p.n + n) * p.h + h) * p.d;
  for (int d = threadIdx.x; d < p.d; d += blockDim.x) {
    float sum = 0;
    for (int s = 0; s < splits; ++s) sum += partials[s * width + d] * Exp<X>(partials[s * width + p.d] - max);
    out[d] = FromFloat<X>(sum / total);
  }
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

extern "C" __global__ void append_to_cache_f32(const AttentionDecodeParams p) {
  AppendToCache<float>(p);
}
extern "C" __global__ void append_to_cache_bf16(const AttentionDecodeParams p) {
  AppendToCache<bf16>(p);
}
extern "C" __global__ void attention_decode_f32(const AttentionDecodeParams p) {
  AttentionDecode<float>(p);
}
extern "C" __global__ void attention_decode_bf16(const AttentionDecodeParams p) {
  AttentionDecode<bf16>(p);
}
extern "C" __global__ void attention_decode_join_f32(const AttentionDecodeParams p) {
  AttentionDecodeJoin<float>(p);
}
extern "C" __global__ void attention_decode_join_bf16(const AttentionDecodeParams p) {
  AttentionDecodeJoin<bf16>(p);
}
