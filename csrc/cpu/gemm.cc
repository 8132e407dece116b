// The matrix product. C is cut into items, a strip of columns by a block of rows each. For every block of K an item
// packs its strip of b into memory that stays in the second-level cache, then streams the rows of a past it, one
// register tile after another. Only the blocks of K decide in which order an element is summed, so neither the number
// of threads nor the cut of C changes a bit.
#include <algorithm>

#include "cpu/ops.h"

namespace kotodama::cpu {
namespace {

static_assert(static_cast<int>(Epilogue::kNone) == 0 && static_cast<int>(Epilogue::kGelu) == 1 &&
                  static_cast<int>(Epilogue::kGeluBackward) == 2,
              "kernels/gemm-inl.h counts on these numbers");

constexpr int64_t kMaxSteps = 768;      // of one block of K
constexpr int64_t kStripColumns = 192;  // a packed strip of b: at most 768 * 192 * 4 bytes = 576 KiB
constexpr int64_t kPackedPanels = 8;    // of a, packed at once where it cannot be read in place
constexpr int64_t kPanelGap = 16;       // between packed panels, so that they do not fall on the same cache sets
constexpr int64_t kSkinnyRows = 8;      // up to here b is read in place: the product is bound by memory

struct Plan {
  const kotodama::Gemm* op;
  const GemmKernels* kernels;
  int64_t lda, ldb, ldc;
  bool read_a_in_place;
  int64_t block_k;  // elements of K in a block
  int64_t blocks_k;
  int64_t strip;  // columns of an item
  int64_t rows;   // rows of an item
  int64_t strips, row_blocks;
  // Per worker, in floats.
  int64_t packed_b, packed_a, partial;
};

bool FitsPairs(const Engine& engine, const kotodama::Gemm& op) {
  return engine.kernels.bf16.elements == 2 && op.a.dtype == DType::kBF16 && op.b.dtype == DType::kBF16;
}

int64_t RoundUpTo(int64_t x, int64_t unit) {
  return CeilDivide(x, unit) * unit;
}

Plan MakePlan(const Engine& engine, const kotodama::Gemm& op) {
  Plan plan = {};
  plan.op = &op;
  plan.kernels = FitsPairs(engine, op) ? &engine.kernels.bf16 : &engine.kernels.f32;
  const GemmKernels& kernels = *plan.kernels;
  plan.lda = op.lda != 0 ? op.lda : (op.transpose_a ? op.m : op.k);
  plan.ldb = op.ldb != 0 ? op.ldb : (op.transpose_b ? op.k : op.n);
  plan.ldc = op.ldc != 0 ? op.ldc : op.n;
  const bool same_units = kernels.elements == 2 || op.a.dtype == DType::kF32;
  plan.read_a_in_place = !op.transpose_a && same_units && op.k % kernels.elements == 0;

  plan.blocks_k = std::max<int64_t>(1, CeilDivide(op.k, kMaxSteps * kernels.elements));
  plan.block_k = RoundUpTo(CeilDivide(op.k, plan.blocks_k), kernels.elements);

  const int64_t wanted_items = engine.pool.threads() == 1 ? 1 : 4 * engine.pool.threads();
  plan.strip = std::max<int64_t>(1, kStripColumns / kernels.tile_columns) * kernels.tile_columns;
  plan.strips = CeilDivide(op.n, plan.strip);
  const int64_t least_rows = 16 * kernels.tile_rows;
  plan.row_blocks = std::clamp<int64_t>(CeilDivide(wanted_items, plan.strips), 1, CeilDivide(op.m, least_rows));
  while (plan.strip > kernels.tile_columns && plan.strips * plan.row_blocks < engine.pool.threads()) {
    plan.strip = RoundUpTo(plan.strip / 2, kernels.tile_columns);
    plan.strips = CeilDivide(op.n, plan.strip);
  }
  plan.rows = RoundUpTo(CeilDivide(op.m, plan.row_blocks), kernels.tile_rows);
  plan.row_blocks = CeilDivide(op.m, plan.rows);

  const int64_t steps = plan.block_k / kernels.elements;
  plan.packed_b = (steps * kernels.tile_columns + kPanelGap) * (plan.strip / kernels.tile_columns);
  plan.packed_a = plan.read_a_in_place ? 0 : (steps * kernels.tile_rows + kPanelGap) * kPackedPanels;
  const bool needs_partial = plan.blocks_k > 1 && op.c.dtype != DType::kF32;
  plan.partial = needs_partial ? plan.rows * plan.strip : 0;
  return plan;
}

// `rows` rows of `bytes` bytes each, asked for within `turns` turns of the tiles.
Prefetch Soon(const void* data, int64_t row_stride, int64_t rows, int64_t bytes, int64_t turns) {
  Prefetch soon = {};
  if (rows <= 0 || bytes <= 0 || turns <= 0) return soon;
  soon.row = static_cast<const char*>(data);
  soon.row_stride = row_stride;
  soon.rows = rows;
  soon.lines_per_row = static_cast<int>(CeilDivide(bytes, 64));
  soon.lines_per_turn = static_cast<int>(CeilDivide(rows * soon.lines_per_row, turns));
  return soon;
}

// The part of a stored matrix with `rows` rows of `columns` elements from (row, column).
Prefetch SoonPart(const Tensor& matrix, int64_t ld, int64_t row, int64_t column, int64_t rows, int64_t columns,
                  int64_t turns) {
  const int64_t size = static_cast<int64_t>(SizeOf(matrix.dtype));
  return Soon(RowAt(matrix, row * ld + column).data, ld * size, rows, columns * size, turns);
}

void FetchTile(Row target, int64_t stride, int rows, int columns) {
  if (target.data == nullptr) return;
  const int64_t size = target.bf16 ? 2 : 4;
  for (int r = 0; r < rows; ++r) {
    const char* row = static_cast<const char*>(target.data) + r * stride * size;
    for (int64_t byte = 0; byte < columns * size; byte += 64) __builtin_prefetch(row + byte, 1);
    __builtin_prefetch(row + columns * size - 1, 1);
  }
}

// One strip of columns by one block of rows.
void RunItem(const Engine& engine, const Plan& plan, int64_t item, float* packed_b) {
  const kotodama::Gemm& op = *plan.op;
  const GemmKernels& kernels = *plan.kernels;
  float* packed_a = packed_b + plan.packed_b;
  float* partial = packed_a + plan.packed_a;
  alignas(64) float tile[8 * 48];

  const int64_t n0 = item / plan.row_blocks * plan.strip, columns = std::min(plan.strip, op.n - n0);
  const int64_t m0 = item % plan.row_blocks * plan.rows, rows = std::min(plan.rows, op.m - m0);
  const bool sums_bias = op.bias_gradient && m0 == 0;
  float bias_sums[kStripColumns + 64] = {};

  TileOutput to = {};
  to.c_stride = plan.ldc;
  to.epilogue = static_cast<int>(op.epilogue);
  to.aux_stride = op.n;

  for (int64_t block = 0; block < plan.blocks_k; ++block) {
    const int64_t k0 = block * plan.block_k, k = std::min(plan.block_k, op.k - k0);
    const int64_t steps = CeilDivide(k, kernels.elements);
    const int64_t b_panel = steps * kernels.tile_columns + kPanelGap;
    const int64_t a_panel = steps * kernels.tile_rows + kPanelGap;
    kernels.pack_b(RowAt(op.b, op.transpose_b ? n0 * plan.ldb + k0 : k0 * plan.ldb + n0), plan.ldb, op.transpose_b, k,
                   columns, packed_b, b_panel);
    if (sums_bias) {
      for (int64_t j = 0, panel = 0; j < columns; j += kernels.tile_columns, ++panel) {
        kernels.panel_sums(packed_b + panel * b_panel, steps, bias_sums + j);
      }
    }
    to.last = block + 1 == plan.blocks_k;
    to.add_partial = op.accumulate || block > 0;

    const int64_t turns_of_tile = CeilDivide(steps, kStepsPerTurn);
    const int64_t turns_of_row = turns_of_tile * CeilDivide(columns, kernels.tile_columns);
    const int64_t turns = turns_of_row * CeilDivide(rows, kernels.tile_rows);
    // The next block of b: of this strip, or the first of the next one.
    Prefetch soon[2] = {};
    const bool next_strip = to.last && (item + 1) % plan.row_blocks == 0 && n0 + plan.strip < op.n;
    if (!to.last || next_strip) {
      const int64_t next_k = to.last ? 0 : k0 + plan.block_k, next_n = to.last ? n0 + plan.strip : n0;
      const int64_t count_k = std::min(plan.block_k, op.k - next_k), count_n = std::min(plan.strip, op.n - next_n);
      soon[1] = op.transpose_b ? SoonPart(op.b, plan.ldb, next_n, next_k, count_n, count_k, turns)
                               : SoonPart(op.b, plan.ldb, next_k, next_n, count_k, count_n, turns);
    }

    for (int64_t r = 0; r < rows; r += kernels.tile_rows) {
      const int64_t m = m0 + r;
      const int tile_rows = static_cast<int>(std::min<int64_t>(kernels.tile_rows, rows - r));
      const void* a;
      int64_t row_stride = 4, step_stride = 4;
      if (plan.read_a_in_place) {
        a = RowAt(op.a, m * plan.lda + k0).data;
        row_stride = plan.lda * static_cast<int64_t>(SizeOf(op.a.dtype));
        const int64_t next_rows = std::min<int64_t>(kernels.tile_rows, rows - r - kernels.tile_rows);
        soon[0] = SoonPart(op.a, plan.lda, m + kernels.tile_rows, k0, next_rows, k, turns_of_row);
      } else {
        const int64_t panel = r / kernels.tile_rows % kPackedPanels;
        if (panel == 0) {
          const int64_t packed_rows = std::min(kPackedPanels * kernels.tile_rows, rows - r);
          kernels.pack_a(RowAt(op.a, op.transpose_a ? k0 * plan.lda + m : m * plan.lda + k0), plan.lda, op.transpose_a,
                         k, packed_rows, packed_a, a_panel);
          const int64_t next_m = m + packed_rows, next_rows = std::min(packed_rows, m0 + rows - next_m);
          const int64_t turns_of_panels = turns_of_row * CeilDivide(packed_rows, kernels.tile_rows);
          soon[0] = op.transpose_a ? SoonPart(op.a, plan.lda, k0, next_m, k, next_rows, turns_of_panels)
                                   : SoonPart(op.a, plan.lda, next_m, k0, next_rows, k, turns_of_panels);
        }
        a = packed_a + panel * a_panel;
        step_stride = kernels.tile_rows * 4;
      }
      for (int64_t j = 0, panel = 0; j < columns; j += kernels.tile_columns, ++panel) {
        const int64_t n = n0 + j;
        const int tile_columns = static_cast<int>(std::min<int64_t>(kernels.tile_columns, columns - j));
        if (op.c.dtype == DType::kF32) {
          to.partial = FloatsAt(op.c, m * plan.ldc + n);
          to.partial_stride = plan.ldc;
        } else {
          to.partial = partial + r * plan.strip + j;
          to.partial_stride = plan.strip;
        }
        to.c = RowAt(op.c, m * plan.ldc + n);
        to.bias = op.bias ? FloatsAt(op.bias, n) : nullptr;
        to.aux = op.aux ? RowAt(op.aux, m * op.n + n) : Row{nullptr, op.c.dtype == DType::kBF16};
        FetchTile(to.c, to.c_stride, tile_rows, tile_columns);
        if (to.last) FetchTile(to.aux, to.aux_stride, tile_rows, tile_columns);
        kernels.tile(tile_rows, tile_columns, steps, a, row_stride, step_stride, packed_b + panel * b_panel, tile,
                     soon);
        engine.kernels.finish_tile(tile, kernels.tile_columns, tile_rows, tile_columns, to);
      }
    }
  }
  if (sums_bias) {
    float* target = FloatsAt(op.bias_gradient, n0);
    if (op.accumulate) {
      engine.kernels.add(target, bias_sums, columns);
    } else {
      std::copy(bias_sums, bias_sums + columns, target);
    }
  }
}

// ---- Few rows: generation, one position at a time. b is read once, where it is. ----

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

void RunSkinny(const Engine& engine, const kotodama::Gemm& op) {
  constexpr int64_t kRowsOfB = 64;  // of K, whose products one item sums
  constexpr int64_t kDots = 128;    // rows of b of one item
  const int64_t lda = op.lda != 0 ? op.lda : op.k, ldb = op.ldb != 0 ? op.ldb : (op.transpose_b ? op.k : op.n);
  const int64_t ldc = op.ldc != 0 ? op.ldc : op.n;
  const int64_t pieces = op.transpose_b ? 1 : std::max<int64_t>(1, CeilDivide(op.k, kRowsOfB));
  float* sums = engine.scratch.Floats(op.m * op.n * pieces + op.m * op.k);
  float* a = sums + op.m * op.n * pieces;
  for (int64_t i = 0; i < op.m; ++i) engine.kernels.cast({a + i * op.k, false}, RowAt(op.a, i * lda), op.k);
  if (op.transpose_b) {
    ForRanges(engine.pool, op.n, kDots, [&](int64_t begin, int64_t end, int) {
      engine.kernels.skinny_dots(a, op.m, op.k, RowAt(op.b, begin * ldb), ldb, op.k, end - begin, sums + begin, op.n);
    });
  } else {
    ForRanges(engine.pool, op.k, kRowsOfB, [&](int64_t begin, int64_t end, int) {
      float* piece = sums + begin / kRowsOfB * op.m * op.n;
      std::fill(piece, piece + op.m * op.n, 0.0f);
      engine.kernels.skinny_rows(a + begin, op.m, op.k, RowAt(op.b, begin * ldb), ldb, end - begin, op.n, piece);
    });
    if (op.k == 0) std::fill(sums, sums + op.m * op.n, 0.0f);
    for (int64_t piece = 1; piece < pieces; ++piece) {
      engine.kernels.add(sums, sums + piece * op.m * op.n, op.m * op.n);
    }
  }
  FinishSkinny(engine, op, ldc, sums);
}

}  // namespace

void Run(const Engine& engine, const kotodama::Gemm& op) {
  if (op.m == 0 || op.n == 0) return;
  if (op.m <= kSkinnyRows && !op.transpose_a && !op.bias_gradient) {
    RunSkinny(engine, op);
    return;
  }
  const Plan plan = MakePlan(engine, op);
  const int64_t per_worker = RoundUpTo(plan.packed_b + plan.packed_a + plan.partial, 1024) + 64;
  float* scratch = engine.scratch.Floats(per_worker * engine.pool.threads());
  engine.pool.Run(plan.strips * plan.row_blocks,
                  [&](int64_t item, int worker) { RunItem(engine, plan, item, scratch + worker * per_worker); });
}

}  // namespace kotodama::cpu
