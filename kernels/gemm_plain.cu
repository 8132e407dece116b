#include "gemm_epilogue.cuh"

// The GEMM for shapes and alignments that the tiled kernels do not take, and the end of split sums.

namespace kotodama::kernels {

constexpr int kPlainTile = 16;

// Block (16, 16): a thread owns an element of c. The grid has one dimension, since the others end at 65,535.
template <typename X>
__device__ __forceinline__ void GemmPlain(const GemmParams& p) {
  __shared__ float tile_a[kPlainTile][kPlainTile + 1], tile_b[kPlainTile][kPlainTile + 1];
  const X *a = static_cast<const X*>(p.a), *b = static_cast<const X*>(p.b);
  const int x = threadIdx.x, y = threadIdx.y;
  const int row = blockIdx.x / p.tiles_n * kPlainTile + y, column = blockIdx.x % p.tiles_n * kPlainTile + x;
  float sum = 0;
  for (int k = 0; k < p.k; k += kPlainTile) {
    const bool in_a = row < p.m && k + x < p.k, in_b = k + y < p.k && column < p.n;
    tile_a[y][x] = in_a ? ToFloat(p.transpose_a ? a[(k + x) * p.lda + row] : a[row * p.lda + k + x]) : 0.0f;
    tile_b[y][x] = in_b ? ToFloat(p.transpose_b ? b[column * p.ldb + k + y] : b[(k + y) * p.ldb + column]) : 0.0f;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kPlainTile; ++i) sum += tile_a[y][i] * tile_b[i][x];
    __syncthreads();
  }
  if (row < p.m && column < p.n) FinishElement<X>(p, row, column, sum);
}

// Adds the partial sums of the splits in order and finishes the elements. A thread owns four neighbours of a row, or
// one where N is no multiple of four; `k_per_split` is the number of splits here.
template <typename X>
__device__ __forceinline__ void GemmFinishSplits(const GemmParams& p) {
  const int width = p.n % 4 == 0 && p.ldc % 4 == 0 ? 4 : 1;
  const int64_t size = static_cast<int64_t>(p.m) * p.n;
  const int64_t i = width * (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
  if (i >= size) return;
  const int row = i / p.n, column = i % p.n;
  if (width == 1) {
    float sum = 0;
    for (int s = 0; s < p.k_per_split; ++s) sum += p.partials[s * size + i];
    FinishElement<X>(p, row, column, sum);
    return;
  }
  float4 sum = Load4(p.partials + i);
  for (int s = 1; s < p.k_per_split; ++s) {
    const float4 v = Load4(p.partials + s * size + i);
    sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
  }
  FinishFour<X>(p, row, column, sum);
}

}  // namespace kotodama::kernels

using namespace kotodama::kernels;

extern "C" __global__ void gemm_plain_f32(const GemmParams p) {
  GemmPlain<float>(p);
}
extern "C" __global__ void gemm_plain_bf16(const GemmParams p) {
  GemmPlain<bf16>(p);
}
extern "C" __global__ void gemm_finish_splits_f32(const GemmParams p) {
  GemmFinishSplits<float>(p);
}
extern "C" __global__ void gemm_finish_splits_bf16(const GemmParams p) {
  GemmFinishSplits<bf16>(p);
}
