// The matrix product with vector registers. C is cut into items, a block of rows by a group of columns each, and the
// columns into strips. For every block of K an item packs a strip of b into memory that stays in the second-level
// cache (or reads it where it is, where few rows use it), then streams the rows of a past it, one register tile after
// another. Rows of a are read where they are if their elements lie side by side along K. Else the item packs them once
// for all its strips (or, where all of b is one strip, some at a time); a large a that several items read is packed by
// all threads together, before the items of each block of K. With several threads the items of a small gradient of
// weights are blocks of K themselves, and their sums are added at the end. Threads that find no item left take rows of
// the others' strips. Only the blocks of K, which follow from the shapes, decide in which order an element is summed:
// neither the number of threads nor the cut of C changes a bit. gemm_vectors_plan.cc has the sizes.
#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "cpu/gemm_vectors_plan.h"
#include "cpu/shared_loop.h"

namespace kotodama::cpu {
namespace {

static_assert(static_cast<int>(Epilogue::kNone) == 0 && static_cast<int>(Epilogue::kGelu) == 1 &&
                  static_cast<int>(Epilogue::kGeluBackward) == 2,
              "kernels/gemm_finish-inl.h counts on these numbers");

constexpr int64_t kElementsOfAdding = 8192;  // of one item of adding the parts

// Of the bias's gradient, whole panels.
int64_t FloatsOfSums(const kotodama::Gemm& op, const VectorPlan& plan) {
  return op.bias_gradient ? RoundUpTo(plan.columns, plan.kernels->tile_columns) : 0;
}

int64_t FloatsOfWorker(const kotodama::Gemm& op, const VectorPlan& plan) {
  return RoundUpTo(plan.packed_b + plan.packed_a + plan.partial + FloatsOfSums(op, plan), 1024) + 64;
}

// `rows` rows of `bytes` bytes each, asked for within `turns` turns of the tiles.
Prefetch Soon(const void* data, int64_t row_stride, int64_t rows, int64_t bytes, int64_t turns) {
  Prefetch soon = {};
  if (rows <= 0 || bytes <= 0 || turns <= 0) return soon;
  const int64_t before = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % kLine);
  soon.row = static_cast<const char*>(data) - before;
  soon.row_stride = row_stride;
  soon.rows = rows;
  soon.lines_per_row = static_cast<int>(CeilDivide(before + bytes, kLine));
  soon.lines_per_turn = static_cast<int>(CeilDivide(rows * soon.lines_per_row, turns));
  return soon;
}

// The part of a stored matrix with `rows` rows of `columns` elements from (row, column).
Prefetch SoonPart(const Tensor& matrix, int64_t ld, int64_t row, int64_t column, int64_t rows, int64_t columns,
                  int64_t turns) {
  const int64_t size = static_cast<int64_t>(SizeOf(matrix.dtype));
  return Soon(RowAt(matrix, row * ld + column).data, ld * size, rows, columns * size, turns);
}

// Asks for the memory of a part of a matrix that will be written.
void FetchTile(Row target, int64_t stride, int rows, int columns) {
  if (target.data == nullptr) return;
  const int64_t size = target.bf16 ? 2 : 4;
  for (int r = 0; r < rows; ++r) {
    const char* row = static_cast<const char*>(target.data) + r * stride * size;
    for (int64_t byte = 0; byte < columns * size; byte += kLine) __builtin_prefetch(row + byte, 1);
    __builtin_prefetch(row + columns * size - 1, 1);
  }
}

// The panel that begins with row m, where a is packed for all threads.
float* SharedPanelsOfA(const VectorPlan& plan, int64_t m) {
  return plan.shared_a + m / plan.kernels->tile_rows * plan.panel_of_a;
}

// Of K, from the first to before the end.
struct BlocksOfK {
  int64_t first, end;
};

// What a worker packed last.
struct Packed {
  int64_t m0 = -1, k0_of_a = -1;
  int64_t n = -1, k0_of_b = -1;
};

// What one item works on; the packed parts are for one block of K.
struct Item {
  int64_t m0, rows, n0, columns;
  int64_t k0, k, steps;
  bool first_block, last_block;
  bool packs_a;  // its first strip does
  float* packed_b;
  float* packed_a;
  float* partial;  // (rows, plan.columns), where C cannot hold sums between blocks of K
};

// Rows of a from m on, in the block of K that begins at k0.
Row PartOfA(const VectorPlan& plan, int64_t k0, int64_t m) {
  const kotodama::Gemm& op = *plan.op;
  return RowAt(op.a, op.transpose_a ? k0 * plan.ld.a + m : m * plan.ld.a + k0);
}

Prefetch SoonRowsOfA(const VectorPlan& plan, const Item& item, int64_t m, int64_t rows, int64_t turns) {
  const Tensor& a = plan.op->a;
  return plan.op->transpose_a ? SoonPart(a, plan.ld.a, item.k0, m, item.k, rows, turns)
                              : SoonPart(a, plan.ld.a, m, item.k0, rows, item.k, turns);
}

// The next strip of b that this item, or the one after it, will pack.
Prefetch SoonStrip(const VectorPlan& plan, const Item& item, int64_t n, int64_t turns) {
  const kotodama::Gemm& op = *plan.op;
  const bool one_block = plan.parts > 1 || plan.shares_a;  // of K in an item
  int64_t next_k = item.k0, next_n = n + plan.strip;
  if (next_n >= item.n0 + item.columns) {
    if (!item.last_block && !one_block) {
      next_k += plan.block_k;
      next_n = item.n0;
    } else {
      if (item.m0 + item.rows < op.m) return {};  // the next item packs these strips, which are in the cache
      next_k = one_block ? item.k0 : 0;
      next_n = item.n0 + item.columns;
    }
  }
  if (next_n >= op.n) return {};
  const int64_t k = std::min(plan.block_k, op.k - next_k),
                columns = std::min({plan.strip, plan.columns, op.n - next_n});
  return op.transpose_b ? SoonPart(op.b, plan.ld.b, next_n, next_k, columns, k, turns)
                        : SoonPart(op.b, plan.ld.b, next_k, next_n, k, columns, turns);
}

PanelsOfB FindB(const VectorPlan& plan, const Item& item, int64_t n) {
  const int columns = plan.kernels->tile_columns;
  if (plan.read_b_in_place) return {FloatsAt(plan.op->b, item.k0 * plan.ld.b + n), columns, plan.ld.b, columns};
  return {item.packed_b, item.steps * columns + kPanelGap, columns, columns};
}

// Where the sums of the tile at (m, n) are between blocks of K.
float* PartialAt(const VectorPlan& plan, const Item& item, int64_t m, int64_t n, int64_t* stride) {
  const kotodama::Gemm& op = *plan.op;
  if (plan.parts > 1) {
    *stride = op.n;
    return plan.sums + (item.k0 / plan.block_k * op.m + m) * op.n + n;
  }
  if (op.c.dtype == DType::kF32) {
    *stride = plan.ld.c;
    return FloatsAt(op.c, m * plan.ld.c + n);
  }
  *stride = plan.columns;
  return item.partial + (m - item.m0) * plan.columns + n - item.n0;
}

// What becomes of the sums of tiles from (m, n) on.
TileOutput OutputAt(const VectorPlan& plan, const Item& item, int64_t m, int64_t n) {
  const kotodama::Gemm& op = *plan.op;
  TileOutput to = {};
  to.partial = PartialAt(plan, item, m, n, &to.partial_stride);
  to.add_partial = plan.parts == 1 && (op.accumulate || !item.first_block);
  to.last = item.last_block && plan.parts == 1;
  to.c = RowAt(op.c, m * plan.ld.c + n);
  to.c_stride = plan.ld.c;
  to.bias = op.bias ? FloatsAt(op.bias, n) : nullptr;
  to.epilogue = static_cast<int>(op.epilogue);
  to.aux = op.aux ? RowAt(op.aux, m * op.n + n) : Row{nullptr, op.c.dtype == DType::kBF16};
  to.aux_stride = op.n;
  return to;
}

// Where the sums of tiles go straight from the registers, with at most a bias and, of f32, what is there added. Else no
// rows.
TileTarget StraightTarget(const TileOutput& to) {
  if (!to.last) return {{to.partial, false}, to.partial_stride, to.add_partial, nullptr, true};
  if (to.epilogue != static_cast<int>(Epilogue::kNone) || (to.add_partial && to.c.bf16)) return {};
  return {to.c, to.c_stride, to.add_partial, to.bias, true};
}

// Packs the item's rows of a from r on, as many as are packed at a time; what to ask for meanwhile.
Prefetch PackRowsOfA(const VectorPlan& plan, const Item& item, int64_t r, int64_t turns_of_row) {
  const GemmKernels& kernels = *plan.kernels;
  const int64_t rows = std::min(item.rows - r, plan.panels_of_a * kernels.tile_rows);
  kernels.pack_a(PartOfA(plan, item.k0, item.m0 + r), plan.ld.a, plan.op->transpose_a, item.k, rows, item.packed_a,
                 plan.panel_of_a);
  const int64_t next_rows = std::min(rows, item.rows - r - rows);
  return SoonRowsOfA(plan, item, item.m0 + r + rows, next_rows, turns_of_row * plan.panels_of_a);
}

// A strip of b, from column n on, and the item that it is for.
struct StripOfItem {
  const Engine& engine;
  const VectorPlan& plan;
  const Item& item;
  int64_t n, columns;
  PanelsOfB b;
};

// The item's rows `first` to `end` by one strip. `next_b` may be null.
void MultiplyRows(const StripOfItem& strip, int64_t first, int64_t end, Prefetch* next_b) {
  const auto& [engine, plan, item, n, columns, b] = strip;
  const kotodama::Gemm& op = *plan.op;
  const GemmKernels& kernels = *plan.kernels;
  const int64_t turns_of_row = CeilDivide(item.steps, kStepsPerTurn) * CeilDivide(columns, kernels.tile_columns);
  Prefetch soon[2] = {};
  Prefetch& next_a = soon[0];
  if (next_b != nullptr) soon[1] = *next_b;
  // A tile that cannot go straight is summed here.
  alignas(64) float tile[kMostTileRows * kMostTileColumns];
  const TileTarget to_tile = {{tile, false}, kernels.tile_columns, /*add=*/false, /*bias=*/nullptr, /*far=*/false};
  TileTarget straight = StraightTarget(OutputAt(plan, item, item.m0 + first, n));
  const int64_t bytes_of_rows = kernels.tile_rows * straight.stride * (straight.rows.bf16 ? 2 : 4);
  // Of the last tile only if it is whole vectors.
  const int64_t whole = columns % kVectorColumns == 0 ? columns : columns - columns % kernels.tile_columns;
  const int64_t straight_columns = straight.rows.data != nullptr ? whole : 0;
  TileProduct product = {};
  product.steps = item.steps;
  product.row_stride = product.step_stride = 4;
  product.b = b;
  product.soon = soon;
  for (int64_t r = first; r < end; r += kernels.tile_rows) {
    const int64_t m = item.m0 + r;
    const int tile_rows = static_cast<int>(std::min<int64_t>(kernels.tile_rows, item.rows - r));
    const int64_t rows_after = std::min<int64_t>(kernels.tile_rows, item.rows - r - tile_rows);
    if (plan.read_a_in_place) {
      product.a = static_cast<const char*>(RowAt(op.a, m * plan.ld.a + item.k0).data);
      product.row_stride = plan.ld.a * static_cast<int64_t>(SizeOf(op.a.dtype));
      next_a = SoonRowsOfA(plan, item, m + tile_rows, rows_after, turns_of_row);
    } else {
      const int64_t panel_index = r / kernels.tile_rows % plan.panels_of_a;
      float* panel = item.packed_a + panel_index * plan.panel_of_a;
      if (item.packs_a && panel_index == 0) next_a = PackRowsOfA(plan, item, r, turns_of_row);
      if (!plan.only_strip) {
        next_a = Soon(panel + plan.panel_of_a, 0, rows_after > 0 ? 1 : 0, plan.panel_of_a * 4, turns_of_row);
      }
      product.a = reinterpret_cast<const char*>(panel);
      product.step_stride = kernels.tile_rows * 4;
    }
    if (straight_columns > 0) {
      product.b.first = b.first;
      product.to = straight;
      kernels.tiles(product, tile_rows, straight_columns);
      straight.rows.data = static_cast<char*>(straight.rows.data) + bytes_of_rows;
    }
    if (straight_columns < columns) product.to = to_tile;
    for (int64_t j = straight_columns; j < columns; j += kernels.tile_columns) {
      const int tile_columns = static_cast<int>(std::min<int64_t>(kernels.tile_columns, columns - j));
      const TileOutput to = OutputAt(plan, item, m, n + j);
      // These arrive while the tile is computed.
      if (to.last) {
        FetchTile(to.c, to.c_stride, tile_rows, tile_columns);
        FetchTile(to.aux, to.aux_stride, tile_rows, tile_columns);
      }
      if (!to.last || (to.add_partial && to.c.bf16)) {
        FetchTile({to.partial, false}, to.partial_stride, tile_rows, tile_columns);
      }
      product.b.first = b.first + j / kernels.tile_columns * b.panel_stride;
      kernels.tiles(product, tile_rows, tile_columns);
      engine.kernels.finish_tile(tile, kernels.tile_columns, tile_rows, tile_columns, to);
    }
  }
  if (next_b != nullptr) *next_b = soon[1];
}

// All rows of the item by one strip; with a loop, threads that have nothing else to do help.
void MultiplyStrip(const StripOfItem& strip, SharedLoop* loop) {
  const VectorPlan& plan = strip.plan;
  const int64_t rows = strip.item.rows, steps = strip.item.steps, tile_rows = plan.kernels->tile_rows;
  const int64_t tiles = CeilDivide(rows, tile_rows) * CeilDivide(strip.columns, plan.kernels->tile_columns);
  Prefetch next_b = SoonStrip(plan, strip.item, strip.n, CeilDivide(steps, kStepsPerTurn) * tiles);
  if (loop == nullptr) {
    MultiplyRows(strip, 0, rows, &next_b);
    return;
  }
  const int64_t rows_of_turn = plan.rows_of_turn;
  loop->Run(CeilDivide(rows, rows_of_turn), [&](int64_t turn, bool owns) {
    const int64_t first = turn * rows_of_turn;
    // Helpers leave it to the owner to ask for the next strip.
    MultiplyRows(strip, first, std::min(first + rows_of_turn, rows), owns ? &next_b : nullptr);
  });
}

// What one block of K gives to the gradient of the bias.
void AddBlockOfBias(const Engine& engine, const VectorPlan& plan, const Item& item, const float* sums) {
  const kotodama::Gemm& op = *plan.op;
  if (plan.parts > 1) {
    std::copy(sums, sums + item.columns, plan.bias_sums + item.k0 / plan.block_k * op.n + item.n0);
    return;
  }
  float* target = FloatsAt(op.bias_gradient, item.n0);
  if (op.accumulate || !item.first_block) {
    engine.kernels.add(target, sums, item.columns);
  } else {
    std::copy(sums, sums + item.columns, target);
  }
}

// `blocks`: those of K to sum now, unless the item is itself a part.
void RunItem(const Engine& engine, const VectorPlan& plan, int64_t index, BlocksOfK blocks, float* scratch,
             float* bias_sums, Packed* packed, SharedLoop* loop) {
  const kotodama::Gemm& op = *plan.op;
  const GemmKernels& kernels = *plan.kernels;
  Item item = {};
  const int64_t part = index / (plan.row_blocks * plan.groups);
  if (plan.parts > 1) blocks = {part, part + 1};
  index %= plan.row_blocks * plan.groups;
  item.m0 = index % plan.row_blocks * plan.rows;
  item.rows = std::min(plan.rows, op.m - item.m0);
  item.n0 = index / plan.row_blocks * plan.columns;
  item.columns = std::min(plan.columns, op.n - item.n0);
  item.packed_b = scratch;
  item.packed_a = plan.shares_a ? SharedPanelsOfA(plan, item.m0) : item.packed_b + plan.packed_b;
  item.partial = item.packed_b + plan.packed_b + plan.packed_a;
  const bool sums_bias = op.bias_gradient && item.m0 == 0;

  for (int64_t block = blocks.first; block < blocks.end; ++block) {
    item.k0 = block * plan.block_k;
    item.k = std::min(plan.block_k, op.k - item.k0);
    item.steps = CeilDivide(item.k, kernels.elements);
    item.first_block = block == 0;
    item.last_block = block + 1 == plan.blocks_k;
    item.packs_a = !plan.read_a_in_place && !plan.shares_a && (packed->m0 != item.m0 || packed->k0_of_a != item.k0);
    packed->m0 = item.m0;
    packed->k0_of_a = item.k0;
    if (sums_bias) std::fill(bias_sums, bias_sums + FloatsOfSums(op, plan), 0.0f);
    for (int64_t j = 0; j < item.columns; j += plan.strip) {
      const int64_t n = item.n0 + j, columns = std::min(plan.strip, item.columns - j);
      const PanelsOfB b = FindB(plan, item, n);
      if (!plan.read_b_in_place && (packed->n != n || packed->k0_of_b != item.k0)) {
        packed->n = n;
        packed->k0_of_b = item.k0;
        kernels.pack_b(RowAt(op.b, op.transpose_b ? n * plan.ld.b + item.k0 : item.k0 * plan.ld.b + n), plan.ld.b,
                       op.transpose_b, item.k, columns, item.packed_b, b.panel_stride);
      }
      for (int64_t i = 0, panel = 0; sums_bias && i < columns; i += kernels.tile_columns, ++panel) {
        const int panel_columns = static_cast<int>(std::min<int64_t>(kernels.tile_columns, columns - i));
        kernels.panel_sums(b.first + panel * b.panel_stride, b.step_stride, panel_columns, item.steps,
                           bias_sums + j + i);
      }
      if (item.packs_a && !plan.only_strip) {
        PackRowsOfA(plan, item, 0, 0);
        item.packs_a = false;
      }
      MultiplyStrip({engine, plan, item, n, columns, b}, loop);
      item.packs_a = false;
    }
    if (sums_bias) AddBlockOfBias(engine, plan, item, bias_sums);
  }
}

// target = (or with `accumulate` +=) the rows of `parts`, `stride` apart, one after another.
void AddParts(const Engine& engine, const float* parts, int64_t stride, int64_t count, int64_t columns, bool accumulate,
              float* target) {
  int64_t part = 0;
  if (!accumulate) {
    engine.kernels.sum_of_two(target, parts, parts + stride, columns);
    part = 2;
  }
  for (; part < count; ++part) engine.kernels.add(target, parts + part * stride, columns);
}

// Memory that no worker has for itself.
struct CommonFloats {
  int64_t sums, bias_sums, a;
  int64_t all() const { return sums + bias_sums + a; }
};

CommonFloats CommonFloatsOf(const VectorPlan& plan) {
  const kotodama::Gemm& op = *plan.op;
  CommonFloats floats = {};
  if (plan.parts > 1) {
    floats.sums = RoundUpTo(plan.parts * op.m * op.n, 1024);
    floats.bias_sums = RoundUpTo(plan.parts * op.n, 1024);
  }
  if (plan.shares_a) floats.a = RoundUpTo(CeilDivide(op.m, plan.kernels->tile_rows) * plan.panel_of_a, 1024);
  return floats;
}

// All rows of a of one block of K.
void PackSharedA(const Engine& engine, const VectorPlan& plan, int64_t block) {
  const kotodama::Gemm& op = *plan.op;
  const int64_t k0 = block * plan.block_k, k = std::min(plan.block_k, op.k - k0);
  const int64_t rows = RoundUpTo(CeilDivide(op.m, engine.pool.threads()), plan.kernels->tile_rows);
  ForRanges(engine.pool, op.m, rows, [&](int64_t begin, int64_t end, int) {
    plan.kernels->pack_a(PartOfA(plan, k0, begin), plan.ld.a, op.transpose_a, k, end - begin,
                         SharedPanelsOfA(plan, begin), plan.panel_of_a);
  });
}

}  // namespace

WorkingMemory WorkingMemoryWithVectors(const Engine& engine, const kotodama::Gemm& op) {
  const VectorPlan plan = MakeVectorPlan(engine, op);
  const int64_t floats = CommonFloatsOf(plan).all() + FloatsOfWorker(op, plan) * engine.pool.threads();
  return SharedFloats(floats);
}

void MultiplyWithVectors(const Engine& engine, const kotodama::Gemm& op) {
  VectorPlan plan = MakeVectorPlan(engine, op);
  const int64_t floats_of_bias = FloatsOfSums(op, plan);
  const int64_t per_worker = FloatsOfWorker(op, plan);
  const CommonFloats common = CommonFloatsOf(plan);
  plan.sums = engine.scratch.Floats(common.all() + per_worker * engine.pool.threads());
  plan.bias_sums = plan.sums + common.sums;
  plan.shared_a = plan.bias_sums + common.bias_sums;
  float* scratch = plan.shared_a + common.a;
  std::vector<Packed> packed(engine.pool.threads());
  const std::unique_ptr<SharedLoop[]> loops(plan.rows_of_turn > 0 ? new SharedLoop[engine.pool.threads()] : nullptr);
  std::atomic<int> busy{0};  // threads that may have a strip to share; RunItem does not throw
  const auto help = [&](int worker) {
    const int threads = engine.pool.threads();
    if (!loops) return;
    WaitUntil([&] {
      for (int other = 1; other < threads; ++other) loops[(worker + other) % threads].Help();
      return busy == 0;
    });
  };
  const int64_t blocks_at_once = plan.shares_a ? 1 : plan.blocks_k;
  for (int64_t block = 0; block < plan.blocks_k; block += blocks_at_once) {
    if (plan.shares_a) PackSharedA(engine, plan, block);
    const auto run = [&](int64_t item, int worker) {
      float* own = scratch + worker * per_worker;
      ++busy;
      RunItem(engine, plan, item, {block, block + blocks_at_once}, own, own + per_worker - floats_of_bias,
              &packed[worker], loops ? &loops[worker] : nullptr);
      --busy;
    };
    engine.pool.Run(plan.row_blocks * plan.groups * plan.parts, run, help);
  }
  if (plan.parts == 1) return;
  ForRanges(engine.pool, op.m, std::max<int64_t>(1, kElementsOfAdding / op.n), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      AddParts(engine, plan.sums + row * op.n, op.m * op.n, plan.parts, op.n, op.accumulate,
               FloatsAt(op.c, row * plan.ld.c));
    }
    if (op.bias_gradient && begin == 0) {
      AddParts(engine, plan.bias_sums, op.n, plan.parts, op.n, op.accumulate, FloatsAt(op.bias_gradient, 0));
    }
  });
}

}  // namespace kotodama::cpu
