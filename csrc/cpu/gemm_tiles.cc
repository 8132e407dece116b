// The matrix product with tile registers. Factors are packed once, whole, with two exceptions: a is read where it is if
// b has few columns, and each item packs its own columns of b if C has few rows. C is cut into items, blocks of rows by
// columns: the panels of b of an item (32 columns each) stay in the second-level cache while the rows of a pass by, 48
// at a time; sums between blocks of K stay in the item's own memory. Only the blocks of K decide in which order an
// element is summed, so neither the number of threads nor the cut of C changes a bit.
#include <algorithm>

#include "cpu/gemm.h"

namespace kotodama::cpu {
namespace {

// How large items are, for second-level caches of 2 MiB. A short K is one block, and no sums are stored in between. A
// longer one is cut into blocks, so long that sums are read and written rarely; the columns are so few that a block of
// b and the item's sums take little more than half of the cache.
struct Blocking {
  int64_t units, rows, columns;
};
constexpr Blocking kOneBlock = {32, 384, 384}, kManyBlocks = {48, 768, 192};
constexpr int64_t kLeastItemRows = 96;  // of items made small for many threads
constexpr int64_t kTileRows = 16, kRowsAtOnce = 48;
constexpr int64_t kElementBytes = 2;
constexpr int64_t kMostPanelsInPlace = 24;  // of b, where a is read in place
constexpr int64_t kWorstLines = 32;         // rows that far apart share two of the first-level cache's 64 sets
constexpr int64_t kMostOwnBytes = 3 << 19;  // of an item's columns of b: beyond, they leave the cache before their use
// Bytes of C. A smaller one stays in the cache for the next operation, and leaves room there for the factors.
constexpr int64_t kLeastStreamed = 256 << 10;
constexpr int64_t kPanelGap = 64 * 17;        // bytes between panels, so that they do not fall on the same cache sets
constexpr int64_t kMostPanelsOfPacking = 12;  // of one item of the packing

struct Plan {
  const kotodama::Gemm* op;
  const TileRegisterKernels* tiles;
  LeadingDimensions ld;
  int64_t units;        // of K
  int64_t panel_bytes;  // of a packed panel, gap included
  int64_t a_panels;     // packed: none where a is read in place
  int64_t b_panels;
  int64_t rows, columns;  // of an item, whole panels
  int64_t row_blocks, groups;
  bool streams;      // C goes past the caches
  bool packs_own_b;  // each item
  bool read_a_in_place;
  int64_t a_row_bytes, a_unit_bytes;
  const char* packed_a;
  const char* packed_b;
  int64_t units_of_block;  // of K
};

bool WholeLines(Row row, int64_t stride) {
  return reinterpret_cast<uintptr_t>(row.data) % kLine == 0 && stride * (row.bf16 ? 2 : 4) % kLine == 0;
}

// Rows of a serve as tiles where they are if they consist of whole units, and if the 16 lines of a tile fall on enough
// sets of the first-level cache. It pays where b has few columns, since packing a takes as long as many of its
// products, and where K is one block: longer rows were slower in place.
bool ReadsInPlace(const Plan& plan) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t stride = plan.ld.a * kElementBytes;
  return !op.transpose_a && plan.b_panels <= kMostPanelsInPlace && plan.units <= kOneBlock.units &&
         op.k % plan.tiles->unit == 0 && op.m % kTileRows == 0 && stride % kLine == 0 &&
         stride / kLine % kWorstLines != 0;
}

// The caller says that it multiplies by these weights again.
bool KeepsPacked(const kotodama::Gemm& op) {
  return op.weight_version != 0 && op.reused;
}

// Where all rows of C are one block, an item packs its own columns of b right before it multiplies them, and no other
// item needs them.
void CutIntoItems(const kotodama::Gemm& op, const Blocking& blocking, int threads, Plan* plan) {
  const int64_t panel = plan->tiles->panel;
  const int64_t wanted = threads == 1 ? 1 : 4 * threads;
  plan->groups = CeilDivide(op.n, blocking.columns);
  plan->row_blocks = CeilDivide(op.m, blocking.rows);
  plan->packs_own_b = plan->row_blocks == 1 && plan->b_panels >= threads && !KeepsPacked(op) &&
                      blocking.columns / panel * plan->panel_bytes <= kMostOwnBytes;
  if (plan->packs_own_b) {
    plan->groups = std::max(plan->groups, std::min(wanted, plan->b_panels));
  } else if (plan->groups * plan->row_blocks < wanted) {
    plan->row_blocks = std::clamp<int64_t>(CeilDivide(wanted, plan->groups), plan->row_blocks,
                                           std::max(plan->row_blocks, op.m / kLeastItemRows));
  }
  plan->columns = RoundUpTo(CeilDivide(op.n, plan->groups), panel);
  plan->groups = CeilDivide(op.n, plan->columns);
  plan->rows = RoundUpTo(CeilDivide(op.m, plan->row_blocks), kRowsAtOnce);
  plan->row_blocks = CeilDivide(op.m, plan->rows);
}

Plan MakePlan(const Engine& engine, const kotodama::Gemm& op) {
  Plan plan = {};
  plan.op = &op;
  plan.tiles = &engine.kernels.tile_registers;
  const int64_t panel = plan.tiles->panel;
  plan.ld = LeadingDimensionsOf(op);
  plan.units = CeilDivide(op.k, plan.tiles->unit);
  plan.panel_bytes = plan.units * plan.tiles->unit_bytes + kPanelGap;
  plan.b_panels = CeilDivide(op.n, panel);
  const Blocking& blocking = plan.units <= kOneBlock.units ? kOneBlock : kManyBlocks;
  plan.units_of_block = std::clamp<int64_t>(plan.units, 1, blocking.units);

  const int64_t c_bytes = op.m * op.n * static_cast<int64_t>(SizeOf(op.c.dtype));
  plan.streams = engine.kernels.streams && !op.accumulate && c_bytes >= kLeastStreamed;
  plan.read_a_in_place = ReadsInPlace(plan);
  plan.a_panels = plan.read_a_in_place ? 0 : CeilDivide(op.m, panel);
  plan.a_row_bytes = plan.read_a_in_place ? plan.ld.a * kElementBytes : plan.tiles->unit * kElementBytes;
  plan.a_unit_bytes = plan.read_a_in_place ? plan.tiles->unit * kElementBytes : plan.tiles->unit_bytes;

  CutIntoItems(op, blocking, engine.pool.threads(), &plan);
  return plan;
}

// Panels first ... end, to `packed` on.
void PackA(const Plan& plan, int64_t first, int64_t end, char* packed) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t row = first * plan.tiles->panel;
  plan.tiles->pack_a(RowAt(op.a, op.transpose_a ? row : row * plan.ld.a).data, plan.ld.a, !op.transpose_a, op.k,
                     std::min(end * plan.tiles->panel, op.m) - row, packed, plan.panel_bytes);
}

void PackB(const Plan& plan, int64_t first, int64_t end, char* packed) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t column = first * plan.tiles->panel;
  plan.tiles->pack_b(RowAt(op.b, op.transpose_b ? column * plan.ld.b : column).data, plan.ld.b, op.transpose_b, op.k,
                     std::min(end * plan.tiles->panel, op.n) - column, packed, plan.panel_bytes);
}

// Of the columns of panels first ... end, which are packed.
void AddBiasGradient(const Engine& engine, const Plan& plan, int64_t first, int64_t end, const char* packed) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t panel = plan.tiles->panel;
  for (int64_t i = first; i < end; ++i, packed += plan.panel_bytes) {
    float sums[32];
    plan.tiles->column_sums(packed, plan.units, sums);
    float* target = FloatsAt(op.bias_gradient, i * panel);
    const int64_t count = std::min(panel, op.n - i * panel);
    if (op.accumulate) {
      engine.kernels.add(target, sums, count);
    } else {
      std::copy(sums, sums + count, target);
    }
  }
}

// The tiles of an item in their turn: where the sums of the next one go, and the one before, which is written
// meanwhile.
class Finisher {
 public:
  Finisher(const Engine& engine, const Plan& plan) : engine_(engine), plan_(plan) {
    const kotodama::Gemm& op = *plan_.op;
    for (int i = 0; i < 2; ++i) {
      pending_[i] = {};
      pending_[i].sums = sums_[i];
      TileOutput& to = pending_[i].to;
      to.last = true;
      to.add_partial = op.accumulate;
      to.c_stride = plan_.ld.c;
      to.partial_stride = plan_.ld.c;
      to.epilogue = static_cast<int>(op.epilogue);
      to.aux = {nullptr, op.c.dtype == DType::kBF16};
      to.aux_stride = op.n;
    }
  }

  // The tile at (m, n) of C with so many rows is next.
  float* Begin(int64_t m, int64_t n, int64_t tile_rows) {
    const kotodama::Gemm& op = *plan_.op;
    const int64_t panel = plan_.tiles->panel;
    at_ = 1 - at_;
    PendingTile& tile = pending_[at_];
    tile.rows = static_cast<int>(std::min(tile_rows, op.m - m));
    tile.columns = static_cast<int>(std::min(panel, op.n - n));
    TileOutput& to = tile.to;
    to.c = RowAt(op.c, m * plan_.ld.c + n);
    if (op.accumulate) to.partial = FloatsAt(op.c, m * plan_.ld.c + n);
    if (op.bias) to.bias = FloatsAt(op.bias, n);
    if (op.aux) to.aux = RowAt(op.aux, m * op.n + n);
    to.stream =
        plan_.streams && tile.columns == panel && WholeLines(to.c, to.c_stride) && WholeLines(to.aux, to.aux_stride);
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
  if (plan.read_a_in_place) return static_cast<const char*>(RowAt(plan.op->a, row * plan.ld.a).data);
  const int64_t panel = plan.tiles->panel;
  return plan.packed_a + row / panel * plan.panel_bytes + row % panel * plan.tiles->unit_bytes / panel;
}

// own_b, sums: the worker's memory.
void RunItem(const Engine& engine, const Plan& plan, int64_t index, char* own_b, float* sums) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t panel = plan.tiles->panel;
  const int64_t m0 = index % plan.row_blocks * plan.rows, rows = std::min(plan.rows, op.m - m0);
  const int64_t n0 = index / plan.row_blocks * plan.columns, columns = std::min(plan.columns, op.n - n0);
  const char* packed_b = plan.packs_own_b ? own_b : plan.packed_b + n0 / panel * plan.panel_bytes;
  if (plan.packs_own_b) {
    const int64_t first_panel = n0 / panel, end_panel = CeilDivide(n0 + columns, panel);
    PackB(plan, first_panel, end_panel, own_b);
    if (op.bias_gradient) AddBiasGradient(engine, plan, first_panel, end_panel, own_b);
  }
  Finisher finisher(engine, plan);
  plan.tiles->start();
  for (int64_t unit = 0; unit < plan.units || unit == 0; unit += plan.units_of_block) {
    const int64_t units = std::min(plan.units_of_block, plan.units - unit);
    const bool first = unit == 0, last = unit + units >= plan.units;
    const int64_t offset = unit * plan.tiles->unit_bytes;
    for (int64_t i = 0; i < rows; i += kRowsAtOnce) {
      const int tiles = static_cast<int>(CeilDivide(std::min(kRowsAtOnce, rows - i), kTileRows));
      TilesOfA a = {{}, plan.a_row_bytes, plan.a_unit_bytes};
      for (int t = 0; t < tiles; ++t) {
        a.first[t] = TileOfA(plan, m0 + i + t * kTileRows) + unit * plan.a_unit_bytes;
      }
      for (int64_t j = 0; j < columns; j += panel) {
        const char* b = packed_b + j / panel * plan.panel_bytes + offset;
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

struct WorkerBytes {
  int64_t b, sums;
};

WorkerBytes BytesOfWorker(const Plan& plan) {
  const int64_t b = plan.packs_own_b ? RoundUpTo(plan.columns / plan.tiles->panel * plan.panel_bytes, 4096) : 0;
  const int64_t sums = plan.units > plan.units_of_block ? plan.rows * plan.columns * 4 : 0;
  return {b, RoundUpTo(sums, 4096) + 256};
}

}  // namespace

WorkingMemory WorkingMemoryWithTiles(const Engine& engine, const kotodama::Gemm& op) {
  const Plan plan = MakePlan(engine, op);
  const WorkerBytes worker = BytesOfWorker(plan);
  const bool kept = KeepsPacked(op);
  const int64_t b = plan.packs_own_b ? 0 : BytesOfB(plan);
  const int64_t of_workers = (worker.b + worker.sums) * engine.pool.threads();
  return {static_cast<size_t>(kept ? b : 0), static_cast<size_t>(BytesOfA(plan) + (kept ? 0 : b) + of_workers)};
}

void MultiplyWithTiles(const Engine& engine, const kotodama::Gemm& op) {
  Plan plan = MakePlan(engine, op);
  const WorkerBytes worker_bytes = BytesOfWorker(plan);
  const PackedWeights::Key weight = {op.b.data, op.k, op.n, plan.ld.b, op.transpose_b ? 1 : 0};
  PackedWeights::Place kept = {nullptr, false};
  if (op.weight_version != 0) kept = engine.weights.Find(weight, op.weight_version, BytesOfB(plan), op.reused);
  if (kept.data != nullptr) plan.packs_own_b = false;
  const int64_t a_bytes = BytesOfA(plan), b_bytes = plan.packs_own_b || kept.data != nullptr ? 0 : BytesOfB(plan);
  const int64_t of_worker = worker_bytes.b + worker_bytes.sums;
  char* const packed_a =
      reinterpret_cast<char*>(engine.scratch.Floats((a_bytes + b_bytes + of_worker * engine.pool.threads()) / 4));
  char* const packed_b = kept.data == nullptr ? packed_a + a_bytes : static_cast<char*>(kept.data);
  char* const workers = packed_a + a_bytes + b_bytes;
  plan.packed_a = packed_a;
  plan.packed_b = packed_b;

  const int64_t b_panels = plan.packs_own_b || (kept.valid && !op.bias_gradient) ? 0 : plan.b_panels;
  const int64_t of_item =
      std::clamp<int64_t>((plan.a_panels + b_panels) / (4 * engine.pool.threads()), 1, kMostPanelsOfPacking);
  const int64_t a_items = CeilDivide(plan.a_panels, of_item), b_items = CeilDivide(b_panels, of_item);
  engine.pool.Run(a_items + b_items, [&](int64_t item, int) {
    const int64_t first = (item < a_items ? item : item - a_items) * of_item;
    if (item < a_items) {
      PackA(plan, first, std::min(first + of_item, plan.a_panels), packed_a + first * plan.panel_bytes);
      return;
    }
    const int64_t end = std::min(first + of_item, b_panels);
    char* const packed = packed_b + first * plan.panel_bytes;
    if (!kept.valid) PackB(plan, first, end, packed);
    if (op.bias_gradient) AddBiasGradient(engine, plan, first, end, packed);
  });
  if (kept.data != nullptr && !kept.valid) engine.weights.Packed(weight, op.weight_version);
  engine.pool.Run(plan.row_blocks * plan.groups, [&](int64_t item, int worker) {
    char* const own = workers + worker * of_worker;
    RunItem(engine, plan, item, own, reinterpret_cast<float*>(own + worker_bytes.b));
  });
}

}  // namespace kotodama::cpu
