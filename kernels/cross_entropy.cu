#include <cfloat>

#include "common.cuh"

// Cross-entropy fused with the gradient of softmax, in place. A block owns a row and keeps as much of it as fits in
// shared memory, so that the logits are read once and written once (bf16 of GPT-2's vocabulary fits whole). Log-sum-exp
// is found in one pass (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"). Vp is a multiple
// of 8.

namespace kotodama::kernels {

struct Eight {
  float4 low, high;
};

__device__ __forceinline__ Eight Load8(const float* p) {
  return {Load4(p), Load4(p + 4)};
}
__device__ __forceinline__ Eight Load8(const bf16* p) {
  const uint4 v = *reinterpret_cast<const uint4*>(p);
  return {make_float4(LowFloat(v.x), HighFloat(v.x), LowFloat(v.y), HighFloat(v.y)),
          make_float4(LowFloat(v.z), HighFloat(v.z), LowFloat(v.w), HighFloat(v.w))};
}
__device__ __forceinline__ void Store8(float* p, Eight v) {
  Store4(p, v.low);
  Store4(p + 4, v.high);
}
__device__ __forceinline__ void Store8(bf16* p, Eight v) {
  *reinterpret_cast<uint4*>(p) = make_uint4(PackBf16(v.low.x, v.low.y), PackBf16(v.low.z, v.low.w),
                                            PackBf16(v.high.x, v.high.y), PackBf16(v.high.z, v.high.w));
}
__device__ __forceinline__ float Element(const Eight& v, int i) {
  return i < 4 ? (&v.low.x)[i] : (&v.high.x)[i - 4];
}
__device__ __forceinline__ void Set(Eight& v, int i, float x) {
  (i < 4 ? (&v.low.x)[i] : (&v.high.x)[i - 4]) = x;
}

// Block: 512 threads at most, whole warps.
template <typename X>
__device__ __forceinline__ void CrossEntropy(const CrossEntropyParams& p) {
  extern __shared__ float4 shared[];
  __shared__ float warp_max[16], warp_sum[16];
  const int row = blockIdx.x, label = p.labels[row];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  X* logits = static_cast<X*>(p.logits) + static_cast<int64_t>(row) * p.vp;
  X* staged = reinterpret_cast<X*>(shared);

  if (label == kIgnoredLabel) {
    if (threadIdx.x == 0) p.losses[row] = 0;
    if (!p.gradient) return;
    const float4 zero = make_float4(0, 0, 0, 0);
    for (int i = 8 * threadIdx.x; i < p.vp; i += 8 * blockDim.x) Store8(logits + i, {zero, zero});
    return;
  }

  float max = -FLT_MAX, sum = 0;
  for (int i = 8 * threadIdx.x; i < p.v; i += 8 * blockDim.x) {
    const Eight v = Load8(logits + i);
    if (i < p.staged) Store8(staged + i, v);
    float top = max;
#pragma unroll
    for (int j = 0; j < 8; ++j) top = i + j < p.v ? fmaxf(top, Element(v, j)) : top;
    sum *= Exp<X>(max - top);
    max = top;
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += i + j < p.v ? Exp<X>(Element(v, j) - max) : 0.0f;
  }
  const float own_max = max;
  max = WarpMax(max);
  sum = WarpSum(sum * Exp<X>(own_max - max));
  if (lane == 0) {
    warp_max[warp] = max;
    warp_sum[warp] = sum;
  }
  // Read before the barrier: after it the logits turn into gradients.
  const float wanted = label >= 0 && label < p.v ? ToFloat(logits[label]) : __int_as_float(0x7fc00000);
  __syncthreads();
  for (int w = 0; w < warps; ++w) max = fmaxf(max, warp_max[w]);
  sum = 0;
  for (int w = 0; w < warps; ++w) sum += warp_sum[w] * Exp<X>(warp_max[w] - max);
  if (threadIdx.x == 0) p.losses[row] = (max - wanted) + logf(sum);
  if (!p.gradient) return;

  const float scale = 1.0f / sum;
  for (int i = 8 * threadIdx.x; i < p.vp; i += 8 * blockDim.x) {
    Eight v = {make_float4(0, 0, 0, 0), make_float4(0, 0, 0, 0)};
    if (i < p.v) v = i < p.staged ? Load8(staged + i) : Load8(logits + i);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float probability = i + j < p.v ? Exp<X>(Element(v, j) - max) * scale : 0.0f;
      Set(v, j, i + j == label ? probability - 1.0f : probability);
    }
    Store8(logits + i, v);
  }
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

extern "C" __global__ void __launch_bounds__(512) cross_entropy_f32(const CrossEntropyParams p) {
  CrossEntropy<float>(p);
}
extern "C" __global__ void __launch_bounds__(512) cross_entropy_bf16(const CrossEntropyParams p) {
  CrossEntropy<bf16>(p);
}
