#include "common.cuh"

using namespace kotodama::kernels;

// One block adds up the losses and counts the labels that are not ignored.
extern "C" __global__ void reduce_loss(const ReduceLossParams p) {
  __shared__ double sums[32];
  __shared__ double counts[32];
  double sum = 0, count = 0;
  for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) {
    sum += static_cast<double>(p.losses[i]);
    count += p.labels[i] != kIgnoredLabel ? 1.0 : 0.0;
  }
  sum = BlockSum(sum, sums);
  count = BlockSum(count, counts);
  if (threadIdx.x != 0) return;
  LossTotals& totals = *static_cast<LossTotals*>(p.totals);
  totals.sum = sum;
  totals.count = static_cast<int64_t>(count);
}
