#include "common.cuh"

// Sums over the rows of a matrix in two steps that never depend on timing: partial sums of chunks of rows, then their
// sum in order. Bias gradients and the LayerNorm parameters' gradients end here.

using namespace kotodama::kernels;

namespace kotodama::kernels {

// A thread owns a column of a chunk.
template <typename X>
__device__ __forceinline__ void ColumnSums(const ColumnSumsParams& p) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= p.columns) return;
  const int first = blockIdx.y * p.rows_per_chunk, last = min(first + p.rows_per_chunk, p.rows);
  const X* source = static_cast<const X*>(p.source) + column;
  float sum = 0;
#pragma unroll 4
  for (int r = first; r < last; ++r) sum += ToFloat(source[r * p.stride]);
  p.partials[static_cast<int64_t>(blockIdx.y) * p.columns + column] = sum;
}

}  // namespace kotodama::kernels

extern "C" __global__ void column_sums_f32(const ColumnSumsParams p) {
  ColumnSums<float>(p);
}
extern "C" __global__ void column_sums_bf16(const ColumnSumsParams p) {
  ColumnSums<bf16>(p);
}

// Block (32, 8): a thread adds every eighth row of a column, then the eight sums are added in order.
extern "C" __global__ void sum_rows(const SumRowsParams p) {
  __shared__ float sums[8][kWarp];
  const int column = blockIdx.x * kWarp + threadIdx.x;
  float sum = 0;
  if (column < p.columns) {
#pragma unroll 4
    for (int r = threadIdx.y; r < p.rows; r += 8) sum += p.partials[static_cast<int64_t>(r) * p.columns + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= p.columns) return;
  for (int i = 1; i < 8; ++i) sum += sums[i][threadIdx.x];
  float* target = column < p.split ? p.target + column : p.second + (column - p.split);
  *target = p.accumulate ? *target + sum : sum;
}
