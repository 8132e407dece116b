#include "common.cuh"
#include "rounding.cuh"

// AdamW (Loshchilov and Hutter 2019) in one pass: clipping, decay, moments, update and the bf16 copy, rounded to
// nearest even or, by adamw_stochastic, up or down at random.

using namespace kotodama::kernels;

namespace kotodama::kernels {

struct AdamWFactors {
  float clip, beta1, beta2, keep, step, root, eps;

  __device__ AdamWFactors(const OptimizerScalars& s, bool decay)
      : clip(s.grad_clip),
        beta1(s.beta1),
        beta2(s.beta2),
        keep(decay ? 1.0f - s.learning_rate * s.weight_decay : 1.0f),
        step(s.learning_rate / s.correction1),
        root(sqrtf(s.correction2)),
        eps(s.eps) {}

  __device__ __forceinline__ void Update(float& param, float& m, float& v, float grad) const {
    grad *= clip;
    m = beta1 * m + (1.0f - beta1) * grad;
    v = beta2 * v + (1.0f - beta2) * grad * grad;
    param = param * keep - step * m / (sqrtf(v) / root + eps);
  }
};

// A thread owns pieces of four elements, which spreads what it reads of the scalars; the last piece takes the rest.
// Arrays are aligned to 16 bytes. `store4(compute, i, param)` copies four elements, `store` one.
template <typename Store4Copies, typename StoreCopy>
__device__ __forceinline__ void UpdateAll(const AdamWParams& p, const OptimizerScalars& scalars, Store4Copies store4,
                                          StoreCopy store) {
  const AdamWFactors factors(scalars, p.decay != 0);
#pragma unroll 1
  for (int piece = 0; piece < kAdamWPieces; ++piece) {
    const int64_t i = 4 * ((static_cast<int64_t>(blockIdx.x) * kAdamWPieces + piece) * blockDim.x + threadIdx.x);
    if (i + 4 <= p.n) {
      float4 param = Load4(p.param + i), m = Load4(p.exp_avg + i), v = Load4(p.exp_avg_sq + i);
      const float4 grad = Load4(p.grad + i);
      factors.Update(param.x, m.x, v.x, grad.x);
      factors.Update(param.y, m.y, v.y, grad.y);
      factors.Update(param.z, m.z, v.z, grad.z);
      factors.Update(param.w, m.w, v.w, grad.w);
      Store4(p.param + i, param);
      Store4(p.exp_avg + i, m);
      Store4(p.exp_avg_sq + i, v);
      store4(i, param);
    } else {
      for (int64_t j = i; j < p.n; ++j) {
        factors.Update(p.param[j], p.exp_avg[j], p.exp_avg_sq[j], p.grad[j]);
        store(j, p.param[j]);
      }
    }
  }
}

}  // namespace kotodama::kernels

extern "C" __global__ void adamw(const AdamWParams p) {
  const OptimizerScalars& scalars = *static_cast<const OptimizerScalars*>(p.scalars);
  if (scalars.applied == 0) return;
  bf16* compute = reinterpret_cast<bf16*>(p.compute);
  UpdateAll(
      p, scalars,
      [&](int64_t i, float4 param) {
        if (compute != nullptr) Store4(compute + i, param);
      },
      [&](int64_t i, float param) {
        if (compute != nullptr) compute[i] = FromFloat<bf16>(param);
      });
}

extern "C" __global__ void adamw_stochastic(const AdamWParams p) {
  const OptimizerScalars& scalars = *static_cast<const OptimizerScalars*>(p.scalars);
  if (scalars.applied == 0) return;
  const Rounding rounding(p.rounding);
  bf16* compute = reinterpret_cast<bf16*>(p.compute);
  UpdateAll(
      p, scalars, [&](int64_t i, float4 param) { StoreRounded4(compute + i, param, rounding.Words(i)); },
      [&](int64_t i, float param) { compute[i] = RoundedBf16(param, rounding.Word(i)); });
}

// The same copy without a step.
extern "C" __global__ void round_stochastic(const RoundParams p) {
  const Rounding rounding(p.rounding);
  bf16* target = reinterpret_cast<bf16*>(p.target);
  const int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
  if (i + 4 <= p.n) {
    StoreRounded4(target + i, Load4(p.source + i), rounding.Words(i));
    return;
  }
  for (int64_t j = i; j < p.n; ++j) target[j] = RoundedBf16(p.source[j], rounding.Word(j));
}
