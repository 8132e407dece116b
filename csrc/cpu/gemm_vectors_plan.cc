// How a product with vector registers is cut into blocks of K, strips and items, for second-level caches of 2 MiB.
#include "cpu/gemm_vectors_plan.h"

#include <algorithm>

namespace kotodama::cpu {
namespace {

// Steps of one block of K. A strip of b shrinks as they grow, so that it fits its cache, and a is read once per strip:
// the longer block pays where it leaves at most two, since then C is read and written less often.
constexpr int64_t kSteps = 768, kLongSteps = 1536;
// Up to so many rows of a, b is read where it is, in blocks of so many steps: packing b takes as long as 20 rows do,
// and shorter blocks leave the part of b that they read in the second-level cache. Not where the rows of b are a whole
// number of pages apart, since those share a few sets of the caches.
constexpr int64_t kFewRows = 384, kStepsOfFewRows = 384, kPage = 4096;
constexpr int64_t kStripUnits = 768 * 192;            // of a packed strip of b: 576 KiB
constexpr int64_t kOnlyStripUnits = 2 * kStripUnits;  // where a strip is all of b and rows of a are packed
constexpr int64_t kMaxStripColumns = 192;
constexpr int64_t kLeastTiles = 16;      // one below another in an item, at least
constexpr int64_t kMaxPackedRows = 768;  // of a in one item, where they must be packed for several strips
// Of a in one block of K, where the threads pack it together. A smaller one mostly fits a thread's second-level cache,
// and the thread has packed it sooner than it would have waited for the others.
constexpr int64_t kLeastSharedUnits = 768 * 384;
constexpr int64_t kRowsAtOnce = 96;  // of a that are packed at a time, where only one strip reads them
// A gradient of weights whose sums over part of the rows stay in the cache: with several threads the parts of K are
// items, so that a thread takes the rows that it wrote, and their sums are added at the end.
constexpr int64_t kRowsOfPart = 384, kMostParts = 8;
constexpr int64_t kElementsOfParts = 768 * 192;  // of C
// Multiplications of one turn of a shared strip, and the fewest turns that are worth sharing: a helper first has to
// fetch the strip of b.
constexpr int64_t kProductsOfTurn = 4 << 20, kLeastTurns = 8;

bool FitsPairs(const Engine& engine, const kotodama::Gemm& op) {
  return engine.kernels.bf16.packed_a.elements == 2 && op.a.dtype == DType::kBF16 && op.b.dtype == DType::kBF16;
}

// Of a shared strip.
int64_t RowsOfTurn(const kotodama::Gemm& op, const GemmKernels& kernels, const VectorPlan& plan) {
  const int64_t products_of_row = std::max<int64_t>(1, plan.block_k * std::min(plan.strip, op.n));
  return RoundUpTo(CeilDivide(kProductsOfTurn, products_of_row), kernels.tile_rows);
}

// Whether an item of so many rows has enough turns for threads to help each other with its strips.
bool WorthSharing(int64_t rows, const kotodama::Gemm& op, const GemmKernels& kernels, const VectorPlan& plan) {
  return rows >= kLeastTurns * RowsOfTurn(op, kernels, plan);
}

// Where a is packed for several strips: at least as many items as `wanted`, if they do not become too small.
void CutForPackedA(const kotodama::Gemm& op, const GemmKernels& kernels, int threads, int64_t wanted,
                   int64_t* row_blocks, int64_t* groups) {
  *row_blocks = CeilDivide(op.m, kMaxPackedRows);
  *groups = 1;
  while (threads > 1 && *row_blocks * *groups < wanted) {
    const int64_t rows = op.m / *row_blocks, columns = op.n / *groups;
    // A thread that waits costs more than a strip of b that is packed twice.
    const int64_t least = (*row_blocks * *groups < threads ? 8 : 16) * kernels.tile_rows;
    const bool can_cut_rows = rows >= 2 * least, can_cut_columns = columns >= 2 * kernels.tile_columns;
    if (!can_cut_rows && !can_cut_columns) break;
    if (can_cut_columns && (columns >= rows || !can_cut_rows)) {
      *groups *= 2;
    } else {
      *row_blocks *= 2;
    }
  }
}

// Blocks of rows where a is read in place; `strips`: of all columns.
int64_t RowBlocksOfAInPlace(const kotodama::Gemm& op, const GemmKernels& kernels, int threads, int64_t strips,
                            const VectorPlan& plan) {
  // With several blocks of K every item packs all of its strips; then one item for each thread is enough if they help
  // each other.
  const bool few = plan.blocks_k > 1 && strips % threads == 0 && WorthSharing(op.m, op, kernels, plan);
  const int64_t wanted = threads == 1 ? 1 : (few ? 1 : 4) * threads;
  const int64_t most = CeilDivide(op.m, kLeastTiles * kernels.tile_rows);
  const int64_t least = std::clamp<int64_t>(CeilDivide(wanted, strips), 1, most);
  // As many items for every thread, where few more do that.
  for (int64_t more = least; more < std::min(least + threads, most + 1); ++more) {
    if (strips * more % threads == 0) return more;
  }
  return least;
}

// Cuts into blocks of rows alone where all of b may be one strip, which every thread packs once; else does nothing and
// returns false. A thread then has rows of a that are in its cache: other operations cut them the same way.
bool CutIntoRows(const kotodama::Gemm& op, const GemmKernels& kernels, int threads, VectorPlan* plan) {
  const int64_t columns = RoundUpTo(op.n, kernels.tile_columns);
  const int64_t most_units = plan->read_a_in_place ? kStripUnits : kOnlyStripUnits;
  if (plan->parts > 1 || (!plan->read_a_in_place && plan->needs_partial) ||
      columns * plan->block_k > most_units * kernels.elements || op.m < threads * kLeastTiles * kernels.tile_rows / 2) {
    return false;
  }
  plan->strip = plan->columns = columns;
  plan->groups = 1;
  plan->rows = RoundUpTo(CeilDivide(op.m, threads == 1 ? 1 : 4 * threads), kernels.tile_rows);
  plan->row_blocks = CeilDivide(op.m, plan->rows);
  return true;
}

// Enough items for the threads, yet large ones: a strip of b is packed once per block of rows, a row of a (if at all)
// once per group of columns, or once for all.
void CutIntoItems(const kotodama::Gemm& op, const GemmKernels& kernels, int threads, VectorPlan* plan) {
  if (CutIntoRows(op, kernels, threads, plan)) return;
  while (plan->strip > kernels.tile_columns &&
         CeilDivide(op.n, plan->strip) * CeilDivide(op.m, kLeastTiles * kernels.tile_rows) < threads) {
    plan->strip = RoundUpTo(plan->strip / 2, kernels.tile_columns);
  }
  const int64_t strips = CeilDivide(op.n, plan->strip);
  int64_t row_blocks = 1, groups = strips;
  if (plan->read_a_in_place) {
    row_blocks = RowBlocksOfAInPlace(op, kernels, threads, strips, *plan);
    plan->columns = plan->strip;
  } else {
    // One item for each thread is enough where they help each other with their strips, and where parts of K are shared
    // out evenly.
    const bool one_each = plan->parts == 1 || plan->parts % threads == 0;
    const int64_t wanted = (one_each ? 1 : 4) * threads;
    CutForPackedA(op, kernels, threads, CeilDivide(wanted, plan->parts), &row_blocks, &groups);
    if (plan->parts == 1 && !WorthSharing(op.m / row_blocks, op, kernels, *plan)) {
      CutForPackedA(op, kernels, threads, 2 * threads, &row_blocks, &groups);
    }
    // Not where an item keeps sums of its own: another thread may have its next block of K.
    plan->shares_a = groups > 1 && plan->parts == 1 && !plan->needs_partial &&
                     op.m * plan->block_k >= kLeastSharedUnits * kernels.elements;
    // A strip can be an item then, so that threads wait less for the last one.
    if (plan->shares_a && strips > groups && strips * row_blocks % threads == 0) groups = strips;
    plan->columns = RoundUpTo(CeilDivide(op.n, groups), plan->shares_a ? kernels.tile_columns : kVectorColumns);
  }
  plan->rows = RoundUpTo(CeilDivide(op.m, row_blocks), kernels.tile_rows);
  plan->row_blocks = CeilDivide(op.m, plan->rows);
  plan->groups = CeilDivide(op.n, plan->columns);
}

}  // namespace

VectorPlan MakeVectorPlan(const Engine& engine, const kotodama::Gemm& op) {
  VectorPlan plan = {};
  plan.op = &op;
  const GemmShapes& shapes = FitsPairs(engine, op) ? engine.kernels.bf16 : engine.kernels.f32;
  const int elements = shapes.packed_a.elements;
  const bool same_units = elements == 2 || op.a.dtype == DType::kF32;
  plan.read_a_in_place = !op.transpose_a && same_units && op.k % elements == 0;
  plan.kernels = plan.read_a_in_place ? &shapes.a_in_place : &shapes.packed_a;
  const GemmKernels& kernels = *plan.kernels;
  plan.ld = LeadingDimensionsOf(op);

  // Packing pays only where many rows use it.
  const bool can_read_b =
      kernels.elements == 1 && op.b.dtype == DType::kF32 && !op.transpose_b && op.n % kVectorColumns == 0;
  plan.read_b_in_place = can_read_b && plan.read_a_in_place && op.m <= kFewRows &&
                         plan.ld.b * static_cast<int64_t>(sizeof(float)) % kPage != 0;

  const int64_t all_steps = CeilDivide(op.k, kernels.elements);
  const int64_t most_steps =
      plan.read_b_in_place ? kStepsOfFewRows : (all_steps <= 2 * kLongSteps ? kLongSteps : kSteps);
  plan.blocks_k = std::max<int64_t>(1, CeilDivide(all_steps, most_steps));
  plan.block_k = RoundUpTo(CeilDivide(op.k, plan.blocks_k), kernels.elements);

  plan.parts = 1;
  const bool plain = op.c.dtype == DType::kF32 && op.epilogue == Epilogue::kNone && !op.bias;
  if (plain && op.transpose_a && op.m * op.n <= kElementsOfParts && op.k >= 2 * kRowsOfPart &&
      plan.blocks_k <= kMostParts) {
    plan.block_k = RoundUpTo(CeilDivide(op.k, std::min(kMostParts, op.k / kRowsOfPart)), kernels.elements);
    plan.blocks_k = CeilDivide(op.k, plan.block_k);
    // One thread gains nothing from sums kept apart: it adds block after block to C, in the same order.
    if (engine.pool.threads() > 1) plan.parts = plan.blocks_k;
    plan.read_b_in_place = can_read_b;
  }
  plan.needs_partial = plan.blocks_k > 1 && op.c.dtype != DType::kF32;

  const int64_t steps = plan.block_k / kernels.elements;
  const int64_t strip_columns = std::min(kMaxStripColumns, kStripUnits / std::max<int64_t>(1, steps));
  plan.strip = std::max<int64_t>(1, strip_columns / kernels.tile_columns) * kernels.tile_columns;
  CutIntoItems(op, kernels, engine.pool.threads(), &plan);

  plan.packed_b =
      plan.read_b_in_place ? 0 : (steps * kernels.tile_columns + kPanelGap) * (plan.strip / kernels.tile_columns);
  plan.only_strip = plan.groups == 1 && plan.columns <= plan.strip;
  plan.panels_of_a = CeilDivide(std::min(plan.rows, plan.only_strip ? kRowsAtOnce : plan.rows), kernels.tile_rows);
  const bool packs_as_it_goes = !plan.read_a_in_place && plan.only_strip;
  const bool shares = engine.pool.threads() > 1 && !packs_as_it_goes && WorthSharing(plan.rows, op, kernels, plan);
  plan.rows_of_turn = shares ? RowsOfTurn(op, kernels, plan) : 0;
  plan.panel_of_a = steps * kernels.tile_rows + kPanelGap;
  plan.packed_a = plan.read_a_in_place || plan.shares_a ? 0 : plan.panel_of_a * plan.panels_of_a;
  plan.partial = plan.needs_partial ? plan.rows * plan.columns : 0;
  return plan;
}

}  // namespace kotodama::cpu
