// The matrix product with tile registers. Both factors are packed once, whole: a panel of b (32 columns) then stays in
// the first-level cache while the panels of a stream past it from the second. C is cut into items, blocks of rows by
// columns; sums between blocks of K stay in the item's own memory. Only the blocks of K decide in which order an
// element is summed, so neither the number of threads nor the cut of C changes a bit.
#include <algorithm>

#include "cpu/gemm.h"

namespace kotodama::cpu {
namespace {

// A short K is one block: no sums are stored in between. A long one is cut into blocks whose panel of b takes half of
// the first-level cache; larger items then read less from beyond the second-level cache, which their sums and their
// parts of one block of K fill.
constexpr int64_t kUnitsOfOneBlock = 24, kUnitsOfBlock = 12;
constexpr int64_t kItemRows = 256, kLongItemRows = 512;
constexpr int64_t kItemColumns = 384;
constexpr int64_t kLeastItemRows = 128;  // of items made small for many threads
constexpr int64_t kPanelGap = 64 * 17;   // bytes between panels, so that they do not fall on the same cache sets
constexpr int64_t kPanelsOfPacking = 4;  // of one item of the packing

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
  plan.row_blocks = CeilDivide(op.m, plan.units <= kUnitsOfOneBlock ? kItemRows : kLongItemRows);
  if (plan.groups * plan.row_blocks < wanted) {
    plan.row_blocks = std::clamp<int64_t>(CeilDivide(wanted, plan.groups), plan.row_blocks,
                                          std::max(plan.row_blocks, op.m / kLeastItemRows));
  }
  plan.columns = RoundUpTo(CeilDivide(op.n, plan.groups), panel);
  plan.groups = CeilDivide(op.n, plan.columns);
  plan.rows = RoundUpTo(CeilDivide(op.m, plan.row_blocks), panel);
  plan.row_blocks = CeilDivide(op.m, plan.rows);
  return plan;
}

void PackA(const Plan& plan, int64_t index, char* packed) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t first = index * plan.tiles->panel;
  plan.tiles->pack_a(RowAt(op.a, op.transpose_a ? first : first * plan.ld.a).data, plan.ld.a, !op.transpose_a, op.k,
                     op.m - first, packed + index * plan.panel_bytes);
}

void PackB(const Plan& plan, int64_t index, char* packed) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t first = index * plan.tiles->panel;
  plan.tiles->pack_b(RowAt(op.b, op.transpose_b ? first * plan.ld.b : first).data, plan.ld.b, op.transpose_b, op.k,
                     op.n - first, packed + index * plan.panel_bytes);
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

// A finished tile on its way to memory. It is written after the next one was begun, so that the processor works on both
// at once.
class Finisher {
 public:
  Finisher(const Engine& engine, const Plan& plan) : engine_(engine), plan_(plan) {}
  ~Finisher() { Finish(); }
  Finisher(const Finisher&) = delete;
  Finisher& operator=(const Finisher&) = delete;

  // Where the sums of the next tile go, the one at (m, n) of C. Asks for what will be read with them.
  float* Next(int64_t m, int64_t n) {
    const kotodama::Gemm& op = *plan_.op;
    const int64_t panel = plan_.tiles->panel;
    const int rows = static_cast<int>(std::min(panel, op.m - m)), columns = static_cast<int>(std::min(panel, op.n - n));
    if (op.accumulate) FetchTile(RowAt(op.c, m * plan_.ld.c + n), plan_.ld.c, rows, columns);
    if (op.epilogue == Epilogue::kGeluBackward) FetchTile(RowAt(op.aux, m * op.n + n), op.n, rows, columns);
    return tiles_[1 - at_];
  }

  // They are there; writes the tile before.
  void Take(int64_t m, int64_t n) {
    Finish();
    at_ = 1 - at_;
    m_ = m;
    n_ = n;
    waiting_ = true;
  }

 private:
  void Finish() {
    if (!waiting_) return;
    const kotodama::Gemm& op = *plan_.op;
    const int64_t panel = plan_.tiles->panel;
    const int rows = static_cast<int>(std::min(panel, op.m - m_)),
              columns = static_cast<int>(std::min(panel, op.n - n_));
    TileOutput to = {};
    to.last = true;
    to.add_partial = op.accumulate;
    to.c = RowAt(op.c, m_ * plan_.ld.c + n_);
    to.c_stride = plan_.ld.c;
    to.partial = op.accumulate ? FloatsAt(op.c, m_ * plan_.ld.c + n_) : nullptr;
    to.partial_stride = plan_.ld.c;
    to.bias = op.bias ? FloatsAt(op.bias, n_) : nullptr;
    to.epilogue = static_cast<int>(op.epilogue);
    to.aux = op.aux ? RowAt(op.aux, m_ * op.n + n_) : Row{nullptr, op.c.dtype == DType::kBF16};
    to.aux_stride = op.n;
    to.stream = engine_.kernels.streams && !op.accumulate && rows == panel && columns == panel &&
                WholeLines(to.c, to.c_stride) && WholeLines(to.aux, to.aux_stride);
    engine_.kernels.finish_tile(tiles_[at_], static_cast<int>(panel), rows, columns, to);
    waiting_ = false;
  }

  const Engine& engine_;
  const Plan& plan_;
  alignas(64) float tiles_[2][32 * 32];
  int at_ = 0;
  int64_t m_ = 0, n_ = 0;
  bool waiting_ = false;
};

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
    for (int64_t j = 0; j < columns; j += panel) {
      const char* b = plan.packed_b + (n0 + j) / panel * plan.panel_bytes + unit * plan.tiles->unit_bytes;
      for (int64_t i = 0; i < rows; i += panel) {
        const char* a = plan.packed_a + (m0 + i) / panel * plan.panel_bytes + unit * plan.tiles->unit_bytes;
        float* own = sums + i * plan.columns + j;
        float* to = last ? finisher.Next(m0 + i, n0 + j) : own;
        plan.tiles->multiply(a, b, units, first ? nullptr : own, plan.columns, to, last ? panel : plan.columns);
        if (last) finisher.Take(m0 + i, n0 + j);
      }
    }
  }
  plan.tiles->stop();
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

  const int64_t a_items = CeilDivide(plan.a_panels, kPanelsOfPacking);
  const int64_t b_items = kept.valid && !op.bias_gradient ? 0 : CeilDivide(plan.b_panels, kPanelsOfPacking);
  engine.pool.Run(a_items + b_items, [&](int64_t item, int) {
    const bool of_a = item < a_items;
    const int64_t first = (of_a ? item : item - a_items) * kPanelsOfPacking;
    const int64_t end = std::min(first + kPanelsOfPacking, of_a ? plan.a_panels : plan.b_panels);
    for (int64_t i = first; i < end; ++i) {
      if (of_a) {
        PackA(plan, i, packed_a);
        continue;
      }
      if (!kept.valid) PackB(plan, i, packed_b);
      if (op.bias_gradient) AddBiasGradient(engine, plan, i);
    }
  });
  engine.pool.Run(plan.row_blocks * plan.groups, [&](int64_t item, int worker) {
    RunItem(engine, plan, item, scratch + packed_floats + worker * sums);
  });
}

}  // namespace kotodama::cpu
