#include "cpu/gemm.h"

#include <string>

#include "error.h"

namespace kotodama::cpu {

namespace {

enum class Way { kSkinny, kTiles, kVectors };

Way WayOf(const Engine& engine, const kotodama::Gemm& op) {
  const bool bf16 = op.a.dtype == DType::kBF16 && op.b.dtype == DType::kBF16;
  if (op.m <= kSkinnyRows && !op.transpose_a && !op.bias_gradient) return Way::kSkinny;
  if (op.b.dtype == DType::kI8) {
    throw Error(ErrorCode::kDevice, "weights of eight bits: expected at most " + std::to_string(kSkinnyRows) +
                                        " rows, not transposed, and no gradient of a bias");
  }
  return bf16 && op.k > 0 && engine.kernels.tile_registers.multiply != nullptr ? Way::kTiles : Way::kVectors;
}

}  // namespace

void Run(const Engine& engine, const kotodama::Gemm& op) {
  if (op.m == 0 || op.n == 0) return;
  switch (WayOf(engine, op)) {
    case Way::kSkinny:
      return MultiplySkinny(engine, op);
    case Way::kTiles:
      return MultiplyWithTiles(engine, op);
    case Way::kVectors:
      return MultiplyWithVectors(engine, op);
  }
}

WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::Gemm& op) {
  if (op.m == 0 || op.n == 0) return {};
  switch (WayOf(engine, op)) {
    case Way::kSkinny:
      return WorkingMemoryOfSkinny(op);
    case Way::kTiles:
      return WorkingMemoryWithTiles(engine, op);
    case Way::kVectors:
      return WorkingMemoryWithVectors(engine, op);
  }
  return {};
}

}  // namespace kotodama::cpu
