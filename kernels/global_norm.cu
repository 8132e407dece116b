#include <cfloat>

#include "common.cuh"

// The norm of all gradients, summed in double precision in an order that depends on the size alone.

using namespace kotodama::kernels;

extern "C" __global__ void global_norm_partial(const GlobalNormParams p) {
  __shared__ double scratch[32];
  const int64_t vectors = p.n / 4, step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  double sum = 0;
  const auto add = [&](float x) { sum += static_cast<double>(x) * static_cast<double>(x); };
  for (int64_t i = thread; i < vectors; i += step) {
    const float4 g = Load4(p.grads + 4 * i);
    add(g.x);
    add(g.y);
    add(g.z);
    add(g.w);
  }
  if (4 * vectors + thread < p.n) add(p.grads[4 * vectors + thread]);
  sum = BlockSum(sum, scratch);
  if (threadIdx.x == 0) p.partials[blockIdx.x] = sum;
}

extern "C" __global__ void global_norm_finish(const GlobalNormParams p) {
  __shared__ double scratch[32];
  double sum = 0;
  for (int i = threadIdx.x; i < p.blocks; i += blockDim.x) sum += p.partials[i];
  sum = BlockSum(sum, scratch);
  if (threadIdx.x != 0) return;
  OptimizerScalars& scalars = *static_cast<OptimizerScalars*>(p.scalars);
  const double norm = sqrt(sum) * static_cast<double>(scalars.gradient_scale);
  const bool finite = norm <= static_cast<double>(FLT_MAX);
  const double limit = scalars.max_grad_norm;
  const double clip = limit > 0 ? fmin(1.0, limit / (norm + 1e-6)) : 1.0;
  scalars.grad_norm = static_cast<float>(norm);
  scalars.grad_clip = finite ? static_cast<float>(scalars.gradient_scale * clip) : 0.0f;
  scalars.applied = finite ? 1 : 0;
}
