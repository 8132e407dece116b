#include "cpu/gemm.h"

namespace kotodama::cpu {

void Run(const Engine& engine, const kotodama::Gemm& op) {
  if (op.m == 0 || op.n == 0) return;
  const bool bf16 = op.a.dtype == DType::kBF16 && op.b.dtype == DType::kBF16;
  if (op.m <= kSkinnyRows && !op.transpose_a && !op.bias_gradient) {
    MultiplySkinny(engine, op);
  } else if (bf16 && engine.kernels.tile_registers.multiply != nullptr) {
    MultiplyWithTiles(engine, op);
  } else {
    MultiplyWithVectors(engine, op);
  }
}

}  // namespace kotodama::cpu
