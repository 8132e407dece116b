#include <cfloat>

#include "common.cuh"

// Causal attention for any head size: a block owns one query (or one key) and walks over the others in chunks of 128.
// Slow and simple; the tiled kernels serve the common head sizes.

namespace kotodama::kernels {

constexpr int kPlainThreads = 128;

struct PlainHead {
  int64_t bh, stride;
  int64_t qkv, out;  // offset of this sequence and head in qkv, and in out and dout
  int c;

  __device__ explicit PlainHead(const AttentionParams& p)
      : bh(blockIdx.x / p.t), stride(3 * static_cast<int64_t>(p.h) * p.d), c(p.h * p.d) {
    const int64_t b = bh / p.h, h = bh % p.h;
    qkv = b * p.t * stride + h * p.d;
    out = b * p.t * c + h * p.d;
  }
};

template <typename X>
__device__ __forceinline__ float Dot(const float* a, const X* b, int d) {
  float sum = 0;
  for (int i = 0; i < d; ++i) sum += a[i] * ToFloat(b[i]);
  return sum;
}

// The factor that dropout gives to the probability of (query, key).
__device__ __forceinline__ float PairFactor(const AttentionParams& p, int64_t bh, int query, int key) {
  if (p.dropout.threshold == 0) return 1.0f;
  return DropoutFactor(DropoutMask(p.dropout), (static_cast<uint64_t>(bh) * p.t + query) * p.t + key);
}

// Grid (B * H * T). Shared memory: (2 D + 128) floats.
template <typename X>
__device__ __forceinline__ void AttentionPlainForward(const AttentionParams& p) {
  extern __shared__ float shared_floats[];
  __shared__ float scratch[kPlainThreads / kWarp], scratch_max[kPlainThreads / kWarp];
  float *q = shared_floats, *sums = q + p.d, *weights = sums + p.d;
  const PlainHead head(p);
  const int query = blockIdx.x % p.t, thread = threadIdx.x;
  const X* qkv = static_cast<const X*>(p.qkv) + head.qkv;
  for (int d = thread; d < p.d; d += kPlainThreads) {
    q[d] = ToFloat(qkv[query * head.stride + d]);
    sums[d] = 0;
  }
  __syncthreads();
  float max = -FLT_MAX, total = 0;
  for (int first = 0; first <= query; first += kPlainThreads) {
    const int key = first + thread, here = min(kPlainThreads, query + 1 - first);
    const float score = thread < here ? p.scale * Dot(q, qkv + key * head.stride + head.c, p.d) : -FLT_MAX;
    const float warp_max = WarpMax(score);
    if (thread % kWarp == 0) scratch_max[thread / kWarp] = warp_max;
    __syncthreads();
    float top = max;
    for (int w = 0; w < kPlainThreads / kWarp; ++w) top = fmaxf(top, scratch_max[w]);
    const float weight = thread < here ? Exp<X>(score - top) : 0.0f, shrink = Exp<X>(max - top);
    weights[thread] = thread < here ? weight * PairFactor(p, head.bh, query, key) : 0.0f;
    total = total * shrink + BlockSum(weight, scratch);
    max = top;
    for (int d = thread; d < p.d; d += kPlainThreads) {
      float sum = sums[d] * shrink;
      for (int j = 0; j < here; ++j) sum += weights[j] * ToFloat(qkv[(first + j) * head.stride + 2 * head.c + d]);
      sums[d] = sum;
    }
    __syncthreads();
  }
  X* out = static_cast<X*>(p.out) + head.out + static_cast<int64_t>(query) * head.c;
  for (int d = thread; d < p.d; d += kPlainThreads) out[d] = FromFloat<X>(sums[d] / total);
  if (thread == 0) p.lse[head.bh * p.t + query] = max + logf(total);
}

// The gradient of one query, and delta for the kernel of the keys. Grid (B * H * T). Shared memory: (3 D + 128) floats.
template <typename X>
__device__ __forceinline__ void AttentionPlainBackwardQueries(const AttentionParams& p) {
  extern __shared__ float shared_floats[];
  __shared__ float scratch[kPlainThreads / kWarp];
  float *q = shared_floats, *dout = q + p.d, *sums = dout + p.d, *weights = sums + p.d;
  const PlainHead head(p);
  const int query = blockIdx.x % p.t, thread = threadIdx.x;
  const X* qkv = static_cast<const X*>(p.qkv) + head.qkv;
  const int64_t row = head.out + static_cast<int64_t>(query) * head.c;
  float delta = 0;
  for (int d = thread; d < p.d; d += kPlainThreads) {
    q[d] = ToFloat(qkv[query * head.stride + d]);
    dout[d] = ToFloat(static_cast<const X*>(p.dout)[row + d]);
    sums[d] = 0;
    delta += dout[d] * ToFloat(static_cast<const X*>(p.out)[row + d]);
  }
  delta = BlockSum(delta, scratch);
  const float lse = p.lse[head.bh * p.t + query];
  for (int first = 0; first <= query; first += kPlainThreads) {
    const int key = first + thread, here = min(kPlainThreads, query + 1 - first);
    if (thread < here) {
      const X* k = qkv + key * head.stride + head.c;
      const float probability = Exp<X>(p.scale * Dot(q, k, p.d) - lse);
      const float dprobability = Dot(dout, k + head.c, p.d) * PairFactor(p, head.bh, query, key);
      weights[thread] = p.scale * probability * (dprobability - delta);
    }
    __syncthreads();
    for (int d = thread; d < p.d; d += kPlainThreads) {
      float sum = sums[d];
      for (int j = 0; j < here; ++j) sum += weights[j] * ToFloat(qkv[(first + j) * head.stride + head.c + d]);
      sums[d] = sum;
    }
    __syncthreads();
  }
  X* dq = static_cast<X*>(p.dqkv) + head.qkv + query * head.stride;
  for (int d = thread; d < p.d; d += kPlainThreads) dq[d] = FromFloat<X>(sums[d]);
  if (thread == 0) p.delta[head.bh * p.t + query] = delta;
}

// The gradients of one key and value. Grid (B * H * T). Shared memory: (4 D + 256) floats.
template <typename X>
__device__ __forceinline__ void AttentionPlainBackwardKeys(const AttentionParams& p) {
  extern __shared__ float shared_floats[];
  float *k = shared_floats, *v = k + p.d, *dk = v + p.d, *dv = dk + p.d;
  float *weights = dv + p.d, *dscores = weights + kPlainThreads;
  const PlainHead head(p);
  const int key = blockIdx.x % p.t, thread = threadIdx.x;
  const X* qkv = static_cast<const X*>(p.qkv) + head.qkv;
  const X* dout = static_cast<const X*>(p.dout) + head.out;
  for (int d = thread; d < p.d; d += kPlainThreads) {
    k[d] = ToFloat(qkv[key * head.stride + head.c + d]);
    v[d] = ToFloat(qkv[key * head.stride + 2 * head.c + d]);
    dk[d] = dv[d] = 0;
  }
  __syncthreads();
  for (int first = key; first < p.t; first += kPlainThreads) {
    const int query = first + thread, here = min(kPlainThreads, p.t - first);
    if (thread < here) {
      const float score = p.scale * Dot(k, qkv + query * head.stride, p.d);
      const float probability = Exp<X>(score - p.lse[head.bh * p.t + query]);
      const float factor = PairFactor(p, head.bh, query, key);
      const float dprobability = Dot(v, dout + static_cast<int64_t>(query) * head.c, p.d) * factor;
      weights[thread] = probability * factor;
      dscores[thread] = p.scale * probability * (dprobability - p.delta[head.bh * p.t + query]);
    }
    __syncthreads();
    for (int d = thread; d < p.d; d += kPlainThreads) {
      float sum_k = dk[d], sum_v = dv[d];
      for (int j = 0; j < here; ++j) {
        sum_k += dscores[j] * ToFloat(qkv[(first + j) * head.stride + d]);
        sum_v += weights[j] * ToFloat(dout[static_cast<int64_t>(first + j) * head.c + d]);
      }
      dk[d] = sum_k;
      dv[d] = sum_v;
    }
    __syncthreads();
  }
  X* target = static_cast<X*>(p.dqkv) + head.qkv + key * head.stride + head.c;
  for (int d = thread; d < p.d; d += kPlainThreads) {
    target[d] = FromFloat<X>(dk[d]);
    target[head.c + d] = FromFloat<X>(dv[d]);
  }
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

extern "C" __global__ void attention_plain_forward_f32(const AttentionParams p) {
  AttentionPlainForward<float>(p);
}
extern "C" __global__ void attention_plain_forward_bf16(const AttentionParams p) {
  AttentionPlainForward<bf16>(p);
}
extern "C" __global__ void attention_plain_backward_queries_f32(const AttentionParams p) {
  AttentionPlainBackwardQueries<float>(p);
}
extern "C" __global__ void attention_plain_backward_queries_bf16(const AttentionParams p) {
  AttentionPlainBackwardQueries<bf16>(p);
}
extern "C" __global__ void attention_plain_backward_keys_f32(const AttentionParams p) {
  AttentionPlainBackwardKeys<float>(p);
}
extern "C" __global__ void attention_plain_backward_keys_bf16(const AttentionParams p) {
  AttentionPlainBackwardKeys<bf16>(p);
}
