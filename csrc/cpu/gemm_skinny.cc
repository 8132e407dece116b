// Few rows: generation, one position at a time. b is read once, where it is.
#include <algorithm>

#include "cpu/gemm.h"

namespace kotodama::cpu {
namespace {

void FinishSkinny(const Engine& engine, const kotodama::Gemm& op, int64_t ldc, const float* sums) {
  TileOutput to = {};
  to.last = true;
  to.add_partial = op.accumulate;
  to.partial = op.c.dtype == DType::kF32 ? op.c.as<float>() : nullptr;
  to.partial_stride = to.c_stride = ldc;
  to.c = RowAt(op.c, 0);
  to.bias = FloatsAt(op.bias, 0);
  to.epilogue = static_cast<int>(op.epilogue);
  to.aux = op.aux ? RowAt(op.aux, 0) : Row{nullptr, op.c.dtype == DType::kBF16};
  to.aux_stride = op.n;
  engine.kernels.finish_tile(sums, op.n, static_cast<int>(op.m), op.n, to);
}

Element ElementOf(DType type) {
  switch (type) {
    case DType::kI8:
      return Element::kI8;
    case DType::kBF16:
      return Element::kBF16;
    default:
      return Element::kF32;
  }
}

// How K is cut: into pieces of so many rows of b, one item each, whose sums are added at the end.
struct Pieces {
  int64_t rows_of_b, count;
};
Pieces PiecesOf(const kotodama::Gemm& op) {
  constexpr int64_t kMostPieces = 8;
  constexpr int64_t kLeastRowsOfB = 64;
  const int64_t rows_of_b = std::max(kLeastRowsOfB, RoundUpTo(CeilDivide(op.k, kMostPieces), 8));
  return {rows_of_b, op.transpose_b ? 1 : std::max<int64_t>(1, CeilDivide(op.k, rows_of_b))};
}

// In the scratch: the sums of all pieces, and behind them a as floats.
int64_t FloatsOfSums(const kotodama::Gemm& op) {
  return op.m * op.n * PiecesOf(op).count;
}
int64_t FloatsOf(const kotodama::Gemm& op) {
  return FloatsOfSums(op) + op.m * op.k;
}

SkinnyFactor FactorAt(const Tensor& b, int64_t row, int64_t ld) {
  return {b.as<char>() + row * ld * static_cast<int64_t>(SizeOf(b.dtype)), ElementOf(b.dtype), ld};
}

}  // namespace

WorkingMemory WorkingMemoryOfSkinny(const kotodama::Gemm& op) {
  return SharedFloats(FloatsOf(op));
}

void MultiplySkinny(const Engine& engine, const kotodama::Gemm& op) {
  constexpr int64_t kDots = 128;  // rows of b of one item
  const LeadingDimensions ld = LeadingDimensionsOf(op);
  const Pieces pieces = PiecesOf(op);
  float* sums = engine.scratch.Floats(FloatsOf(op));
  float* a = sums + FloatsOfSums(op);
  for (int64_t i = 0; i < op.m; ++i) engine.kernels.cast({a + i * op.k, false}, RowAt(op.a, i * ld.a), op.k);
  if (op.transpose_b) {
    ForRanges(engine.pool, op.n, kDots, [&](int64_t begin, int64_t end, int) {
      engine.kernels.skinny_dots(a, op.m, op.k, FactorAt(op.b, begin, ld.b), op.k, end - begin, sums + begin, op.n);
    });
  } else {
    ForRanges(engine.pool, op.k, pieces.rows_of_b, [&](int64_t begin, int64_t end, int) {
      engine.kernels.skinny_rows(a + begin, op.m, op.k, FactorAt(op.b, begin, ld.b), end - begin, op.n,
                                 sums + begin / pieces.rows_of_b * op.m * op.n);
    });
    if (op.k == 0) std::fill(sums, sums + op.m * op.n, 0.0f);
    for (int64_t piece = 1; piece < pieces.count; ++piece) {
      engine.kernels.add(sums, sums + piece * op.m * op.n, op.m * op.n);
    }
  }
  if (op.b.scale != nullptr) {
    for (int64_t i = 0; i < op.m; ++i) {
      for (int64_t j = 0; j < op.n; ++j) sums[i * op.n + j] *= op.b.scale[j];
    }
  }
  FinishSkinny(engine, op, ld.c, sums);
}

}  // namespace kotodama::cpu
