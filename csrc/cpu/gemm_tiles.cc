// The matrix product with tile registers. Both factors are packed once, whole. C is cut into items, blocks of rows by
// columns: the panels of b of an item (32 columns each) stay in the second-level cache while the rows of a pass by, 48
// at a time; sums between blocks of K stay in the item's own memory. Only the blocks of K decide in which order an
// element is summed, so neither the number of threads nor the cut of C changes a bit.
#include <algorithm>

#include "cpu/gemm.h"

namespace kotodama::cpu {
namespace {

// A short K is one block: no sums are stored in between. The columns of an item are so many that a block of K of them
// takes a third of a second-level cache of 2 MiB, the rows so many that their sums take another.
constexpr int64_t kUnitsOfOneBlock = 32, kUnitsOfBlock = 24;
constexpr int64_t kItemRows = 384, kItemColumns = 384;
constexpr int64_t kLeastItemRows = 96;  // of items made small for many threads
constexpr int64_t kTileRows = 16, kRowsAtOnce = 48;
constexpr int64_t kPanelGap = 64 * 17;        // bytes between panels, so that they do not fall on the same cache sets
constexpr int64_t kMostPanelsOfPacking = 12;  // of one item of the packing

struct Plan {
  const kotodama::Gemm* op;
  const TileRegisterKernels* tiles;
  LeadingDimensions ld;
  int64_t units;        // of K
  int64_t panel_bytes;  // of a packed panel, gap included
  int64_t a_panels, b_panels;
  int64_t rows, columns;  // of an item, whole panels
  int64_t row_blocks, groups;
  const char* packed_a;
  const char* packed_b;
  int64_t units_of_block;  // of K
};

Plan MakePlan(const Engine& engine, const kotodama::Gemm& op) {
  Plan plan = {};
  plan.op = &op;
  plan.tiles = &engine.kernels.tile_registers;
  const int64_t panel = plan.tiles->panel;
  plan.ld = LeadingDimensionsOf(op);
  plan.units = CeilDivide(op.k, plan.tiles->unit);
  plan.panel_bytes = plan.units * plan.tiles->unit_bytes + kPanelGap;
  plan.a_panels = CeilDivide(op.m, panel);
  plan.b_panels = CeilDivide(op.n, panel);
  plan.units_of_block = plan.units <= kUnitsOfOneBlock ? std::max<int64_t>(1, plan.units) : kUnitsOfBlock;

  const int64_t wanted = engine.pool.threads() == 1 ? 1 : 4 * engine.pool.threads();
  plan.groups = CeilDivide(op.n, kItemColumns);
  plan.row_blocks = CeilDivide(op.m, kItemRows);
  if (plan.groups * plan.row_blocks < wanted) {
    plan.row_blocks = std::clamp<int64_t>(CeilDivide(wanted, plan.groups), plan.row_blocks,
                                          std::max(plan.row_blocks, op.m / kLeastItemRows));
  }
  plan.columns = RoundUpTo(CeilDivide(op.n, plan.groups), panel);
  plan.groups = CeilDivide(op.n, plan.columns);
  plan.rows = RoundUpTo(CeilDivide(op.m, plan.row_blocks), kRowsAtOnce);
  plan.row_blocks = CeilDivide(op.m, plan.rows);
  return plan;
}

// Panels first ... end.
void PackA(const Plan& plan, int64_t first, int64_t end, char* packed) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t row = first * plan.tiles->panel;
  plan.tiles->pack_a(RowAt(op.a, op.transpose_a ? row : row * plan.ld.a).data, plan.ld.a, !op.transpose_a, op.k,
                     std::min(end * plan.tiles->panel, op.m) - row, packed + first * plan.panel_bytes,
                     plan.panel_bytes);
}

void PackB(const Plan& plan, int64_t first, int64_t end, char* packed) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t column = first * plan.tiles->panel;
  plan.tiles->pack_b(RowAt(op.b, op.transpose_b ? column * plan.ld.b : column).data, plan.ld.b, op.transpose_b, op.k,
                     std::min(end * plan.tiles->panel, op.n) - column, packed + first * plan.panel_bytes,
                     plan.panel_bytes);
}

void AddBiasGradient(const Engine& engine, const Plan& plan, int64_t index) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t first = index * plan.tiles->panel, count = std::min<int64_t>(plan.tiles->panel, op.n - first);
  float sums[32];
  plan.tiles->column_sums(plan.packed_b + index * plan.panel_bytes, plan.units, sums);
  float* target = FloatsAt(op.bias_gradient, first);
  if (op.accumulate) {
    engine.kernels.add(target, sums, count);
  } else {
    std::copy(sums, sums + count, target);
  }
}

bool WholeLines(Row row, int64_t stride) {
  constexpr uintptr_t kLine = 64;
  return reinterpret_cast<uintptr_t>(row.data) % kLine == 0 && stride * (row.bf16 ? 2 : 4) % kLine == 0;
}

// The tiles of an item in their turn: where the sums of the next one go, and the one before, which is written
// meanwhile.
class Finisher {
 public:
  Finisher(const Engine& engine, const Plan& plan) : engine_(engine), plan_(plan) {}

  // The tile at (m, n) of C with so many rows is next.
  float* Begin(int64_t m, int64_t n, int64_t tile_rows) {
    const kotodama::Gemm& op = *plan_.op;
    const int64_t panel = plan_.tiles->panel;
    at_ = 1 - at_;
    PendingTile& tile = pending_[at_];
    tile.sums = sums_[at_];
    tile.rows = static_cast<int>(std::min(tile_rows, op.m - m));
    tile.columns = static_cast<int>(std::min(panel, op.n - n));
    TileOutput& to = tile.to;
    to = {};
    to.last = true;
    to.add_partial = op.accumulate;
    to.c = RowAt(op.c, m * plan_.ld.c + n);
    to.c_stride = plan_.ld.c;
    to.partial = op.accumulate ? FloatsAt(op.c, m * plan_.ld.c + n) : nullptr;
    to.partial_stride = plan_.ld.c;
    to.bias = op.bias ? FloatsAt(op.bias, n) : nullptr;
    to.epilogue = static_cast<int>(op.epilogue);
    to.aux = op.aux ? RowAt(op.aux, m * op.n + n) : Row{nullptr, op.c.dtype == DType::kBF16};
    to.aux_stride = op.n;
    to.stream = engine_.kernels.streams && !op.accumulate && tile.columns == panel && WholeLines(to.c, to.c_stride) &&
                WholeLines(to.aux, to.aux_stride);
    if (op.accumulate) {
      soon_ = InputOf(to.c, to.c_stride, tile);
    } else if (op.epilogue == Epilogue::kGeluBackward) {
      soon_ = InputOf(to.aux, to.aux_stride, tile);
    }
    return sums_[at_];
  }

  // Of the tile that was begun.
  const TileInput* Soon() const { return soon_.rows == nullptr ? nullptr : &soon_; }
  // The one before, once.
  const PendingTile* TakePending() {
    const PendingTile* before = waiting_ ? &pending_[1 - at_] : nullptr;
    waiting_ = true;
    return before;
  }
  void FinishLast() {
    if (!waiting_) return;
    const PendingTile& tile = pending_[at_];
    engine_.kernels.finish_tile(tile.sums, static_cast<int>(plan_.tiles->panel), tile.rows, tile.columns, tile.to);
  }

 private:
  static TileInput InputOf(Row row, int64_t stride, const PendingTile& tile) {
    const int64_t size = row.bf16 ? 2 : 4;
    return {static_cast<const char*>(row.data), stride * size, tile.rows, static_cast<int>(tile.columns * size)};
  }

  const Engine& engine_;
  const Plan& plan_;
  alignas(64) float sums_[2][kRowsAtOnce * 32];
  PendingTile pending_[2];
  TileInput soon_ = {};
  int at_ = 0;
  bool waiting_ = false;
};

// A panel of a holds two tiles of rows, one after the other in each unit.
const char* TileOfA(const Plan& plan, int64_t row) {
  const int64_t panel = plan.tiles->panel;
  return plan.packed_a + row / panel * plan.panel_bytes + row % panel * plan.tiles->unit_bytes / panel;
}

void RunItem(const Engine& engine, const Plan& plan, int64_t index, float* sums) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t panel = plan.tiles->panel;
  const int64_t m0 = index % plan.row_blocks * plan.rows, rows = std::min(plan.rows, op.m - m0);
  const int64_t n0 = index / plan.row_blocks * plan.columns, columns = std::min(plan.columns, op.n - n0);
  Finisher finisher(engine, plan);
  plan.tiles->start();
  for (int64_t unit = 0; unit < plan.units || unit == 0; unit += plan.units_of_block) {
    const int64_t units = std::min(plan.units_of_block, plan.units - unit);
    const bool first = unit == 0, last = unit + units >= plan.units;
    const int64_t offset = unit * plan.tiles->unit_bytes;
    for (int64_t i = 0; i < rows; i += kRowsAtOnce) {
      const int tiles = static_cast<int>(CeilDivide(std::min(kRowsAtOnce, rows - i), kTileRows));
      const char* a[3] = {};
      for (int t = 0; t < tiles; ++t) a[t] = TileOfA(plan, m0 + i + t * kTileRows) + offset;
      for (int64_t j = 0; j < columns; j += panel) {
        const char* b = plan.packed_b + (n0 + j) / panel * plan.panel_bytes + offset;
        float* own = sums + i * plan.columns + j;
        const float* from = first ? nullptr : own;
        if (last) {
          float* to = finisher.Begin(m0 + i, n0 + j, tiles * kTileRows);
          plan.tiles->multiply(a, tiles, b, units, from, plan.columns, to, panel, finisher.TakePending(),
                               finisher.Soon());
        } else {
          plan.tiles->multiply(a, tiles, b, units, from, plan.columns, own, plan.columns, nullptr, nullptr);
        }
      }
    }
  }
  plan.tiles->stop();
  finisher.FinishLast();
}

int64_t BytesOfA(const Plan& plan) {
  return RoundUpTo(plan.a_panels * plan.panel_bytes, 4096);
}

int64_t BytesOfB(const Plan& plan) {
  return RoundUpTo(plan.b_panels * plan.panel_bytes, 4096);
}

// In floats.
int64_t SumsOfWorker(const Plan& plan) {
  return RoundUpTo(plan.units > plan.units_of_block ? plan.rows * plan.columns : 0, 1024) + 64;
}

}  // namespace

WorkingMemory WorkingMemoryWithTiles(const Engine& engine, const kotodama::Gemm& op) {
  const Plan plan = MakePlan(engine, op);
  const int64_t b = BytesOfB(plan), own = SumsOfWorker(plan) * engine.pool.threads() * 4;
  const bool kept = op.weight_version != 0 && op.reused;
  return {static_cast<size_t>(kept ? b : 0), static_cast<size_t>(BytesOfA(plan) + (kept ? 0 : b) + own)};
}

void MultiplyWithTiles(const Engine& engine, const kotodama::Gemm& op) {
  Plan plan = MakePlan(engine, op);
  const int64_t a_bytes = BytesOfA(plan), b_bytes = BytesOfB(plan);
  PackedWeights::Place kept = {nullptr, false};
  if (op.weight_version != 0) {
    const int layout = op.transpose_b ? 1 : 0;
    kept = engine.weights.Find({op.b.data, op.k, op.n, plan.ld.b, layout}, op.weight_version, b_bytes, op.reused);
  }
  const int64_t sums = SumsOfWorker(plan);
  const int64_t packed_floats = (a_bytes + (kept.data == nullptr ? b_bytes : 0)) / 4;
  float* scratch = engine.scratch.Floats(packed_floats + sums * engine.pool.threads());
  char* packed_a = reinterpret_cast<char*>(scratch);
  char* packed_b = kept.data == nullptr ? packed_a + a_bytes : static_cast<char*>(kept.data);
  plan.packed_a = packed_a;
  plan.packed_b = packed_b;

  const int64_t of_item =
      std::clamp<int64_t>((plan.a_panels + plan.b_panels) / (4 * engine.pool.threads()), 1, kMostPanelsOfPacking);
  const int64_t a_items = CeilDivide(plan.a_panels, of_item);
  const int64_t b_items = kept.valid && !op.bias_gradient ? 0 : CeilDivide(plan.b_panels, of_item);
  engine.pool.Run(a_items + b_items, [&](int64_t item, int) {
    if (item < a_items) {
      PackA(plan, item * of_item, std::min((item + 1) * of_item, plan.a_panels), packed_a);
      return;
    }
    const int64_t first = (item - a_items) * of_item, end = std::min(first + of_item, plan.b_panels);
    if (!kept.valid) PackB(plan, first, end, packed_b);
    for (int64_t i = first; i < end && op.bias_gradient; ++i) AddBiasGradient(engine, plan, i);
  });
  engine.pool.Run(plan.row_blocks * plan.groups, [&](int64_t item, int worker) {
    RunItem(engine, plan, item, scratch + packed_floats + worker * sums);
  });
}

}  // namespace kotodama::cpu
