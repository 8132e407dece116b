#include "cpu/gemm.h"

#include <algorithm>

namespace kotodama::cpu {

namespace {

enum class Way { kSkinny, kTiles, kVectors };

Way WayOf(const Engine& engine, const kotodama::Gemm& op) {
  const bool bf16 = op.a.dtype == DType::kBF16 && op.b.dtype == DType::kBF16;
  if (op.m <= kSkinnyRows && !op.transpose_a && !op.bias_gradient) return Way::kSkinny;
  return bf16 && op.k > 0 && engine.kernels.tile_registers.multiply != nullptr ? Way::kTiles : Way::kVectors;
}

// Only the way for few rows reads eight-bit weights.
void RunInParts(const Engine& engine, const kotodama::Gemm& op) {
  const LeadingDimensions ld = LeadingDimensionsOf(op);
  for (int64_t first = 0; first < op.m; first += kSkinnyRows) {
    kotodama::Gemm part = op;
    part.m = std::min(kSkinnyRows, op.m - first);
    part.a.data = RowAt(op.a, first * ld.a).data;
    part.c.data = RowAt(op.c, first * ld.c).data;
    part.aux.data = RowAt(op.aux, first * op.n).data;
    MultiplySkinny(engine, part);
  }
}

}  // namespace

void Run(const Engine& engine, const kotodama::Gemm& op) {
  if (op.m == 0 || op.n == 0) return;
  if (op.b.dtype == DType::kI8 && op.m > kSkinnyRows) return RunInParts(engine, op);
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
      return {};  // some rows
    case Way::kTiles:
      return WorkingMemoryWithTiles(engine, op);
    case Way::kVectors:
      return WorkingMemoryWithVectors(engine, op);
  }
  return {};
}

}  // namespace kotodama::cpu
