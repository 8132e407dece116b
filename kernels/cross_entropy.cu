#include <cfloat>

#include "common.cuh"

// Cross-entropy fused with the gradient of softmax, in place. A block owns a row and keeps as much of it as fits in
// shared memory, so that the logits are read once and written once (bf16 of GPT-2's vocabulary fits whole). Log-sum-exp
// is found in one pass (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"). Vp is a multiple
// of 8.

namespace kotodama::kernels {

// 16 bytes of a row, as floats.
template <typename X>
struct Piece {
  static constexpr int kCount = 16 / sizeof(X);
  float v[kCount];
};

__device__ __forceinline__ Piece<float> LoadPiece(const float* p) {
  const float4 v = Load4(p);
  return {v.x, v.y, v.z, v.w};
}
__device__ __forceinline__ Piece<bf16> LoadPiece(const bf16* p) {
  const uint4 v = *reinterpret_cast<const uint4*>(p);
  return {LowFloat(v.x), HighFloat(v.x), LowFloat(v.y), HighFloat(v.y),
          LowFloat(v.z), HighFloat(v.z), LowFloat(v.w), HighFloat(v.w)};
}
__device__ __forceinline__ void StorePiece(float* p, const Piece<float>& piece) {
  Store4(p, make_float4(piece.v[0], piece.v[1], piece.v[2], piece.v[3]));
}
__device__ __forceinline__ void StorePiece(bf16* p, const Piece<bf16>& piece) {
  const float* v = piece.v;
  *reinterpret_cast<uint4*>(p) =
      make_uint4(PackBf16(v[0], v[1]), PackBf16(v[2], v[3]), PackBf16(v[4], v[5]), PackBf16(v[6], v[7]));
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
  constexpr int kCount = Piece<X>::kCount;

  if (label == kIgnoredLabel) {
    if (threadIdx.x == 0) p.losses[row] = 0;
    if (!p.gradient) return;
    for (int i = kCount * threadIdx.x; i < p.vp; i += kCount * blockDim.x) StorePiece(logits + i, Piece<X>{});
    return;
  }

  float max = -FLT_MAX, sum = 0;
  for (int i = kCount * threadIdx.x; i < p.v; i += kCount * blockDim.x) {
    const Piece<X> piece = LoadPiece(logits + i);
    if (i < p.staged) StorePiece(staged + i, piece);
    float top = max;
#pragma unroll
    for (int j = 0; j < kCount; ++j) top = i + j < p.v ? fmaxf(top, piece.v[j]) : top;
    sum *= Exp<X>(max - top);
    max = top;
#pragma unroll
    for (int j = 0; j < kCount; ++j) sum += i + j < p.v ? Exp<X>(piece.v[j] - max) : 0.0f;
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
  for (int i = kCount * threadIdx.x; i < p.vp; i += kCount * blockDim.x) {
    Piece<X> piece = {};
    if (i < p.v) piece = i < p.staged ? LoadPiece(staged + i) : LoadPiece(logits + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const float probability = i + j < p.v ? Exp<X>(piece.v[j] - max) * scale : 0.0f;
      piece.v[j] = i + j == label ? probability - 1.0f : probability;
    }
    StorePiece(logits + i, piece);
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
