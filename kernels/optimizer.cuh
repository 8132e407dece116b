#pragma once

#include <cstdint>

namespace kotodama::kernels {

// OptimizerScalars and LossTotals of csrc/backend.h, as the device reads and writes them.
struct OptimizerScalars {
  float learning_rate, beta1, beta2, eps, weight_decay;
  float correction1, correction2;
  float gradient_scale;
  float max_grad_norm;
  float grad_norm;
  float grad_clip;
  uint32_t applied;
};

struct LossTotals {
  double sum;
  int64_t count;
};

}  // namespace kotodama::kernels
