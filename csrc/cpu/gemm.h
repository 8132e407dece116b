#pragma once

#include "cpu/ops.h"

// The ways to multiply that gemm.cc chooses from.

namespace kotodama::cpu {

// Up to here b is read in place: the product is bound by memory.
constexpr int64_t kSkinnyRows = 8;
constexpr int64_t kLine = 64;  // bytes of a cache line

// gemm_vectors.cc: any types, with vector registers.
void MultiplyWithVectors(const Engine& engine, const kotodama::Gemm& op);
// gemm_tiles.cc: bfloat16 factors, with tile registers.
void MultiplyWithTiles(const Engine& engine, const kotodama::Gemm& op);
// gemm_skinny.cc: at most kSkinnyRows rows of a, which is not transposed, and no gradient of a bias.
void MultiplySkinny(const Engine& engine, const kotodama::Gemm& op);

WorkingMemory WorkingMemoryWithVectors(const Engine& engine, const kotodama::Gemm& op);
WorkingMemory WorkingMemoryWithTiles(const Engine& engine, const kotodama::Gemm& op);
WorkingMemory WorkingMemoryOfSkinny(const kotodama::Gemm& op);

inline int64_t RoundUpTo(int64_t x, int64_t unit) {
  return CeilDivide(x, unit) * unit;
}

// The leading dimensions with 0 resolved.
struct LeadingDimensions {
  int64_t a, b, c;
};
inline LeadingDimensions LeadingDimensionsOf(const kotodama::Gemm& op) {
  return {op.lda != 0 ? op.lda : (op.transpose_a ? op.m : op.k), op.ldb != 0 ? op.ldb : (op.transpose_b ? op.k : op.n),
          op.ldc != 0 ? op.ldc : op.n};
}

}  // namespace kotodama::cpu
