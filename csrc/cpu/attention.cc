#include <algorithm>

#include "cpu/ops.h"

namespace kotodama::cpu {
namespace {

// Queries of one item of the forward pass, at least: a multiple of all tiles.
constexpr int64_t kQueriesOfItem = 384;

template <typename Op>
AttentionHead MakeHead(const Op& op, int64_t index) {
  const int64_t b = index / op.h, h = index % op.h, c = op.h * op.d;
  AttentionHead head = {};
  head.t = op.t;
  head.d = op.d;
  head.c = c;
  head.queries = op.t;
  head.qkv = RowAt(op.qkv, b * op.t * 3 * c + h * op.d);
  head.out = RowAt(op.out, b * op.t * c + h * op.d);
  head.lse = FloatsAt(op.lse, index * op.t);
  head.first_element = index * op.t * op.t;
  head.dropout = MakeDropout(op.dropout);
  return head;
}

// Working memory for those items of an operation that run at the same time: never more than there are items.
struct Slots {
  int64_t count, floats;  // of them, and of each
  bool of_items;          // each belongs to an item, not to a thread

  int64_t total() const { return count * floats; }
  float* Of(float* scratch, int64_t item, int worker) const { return scratch + (of_items ? item : worker) * floats; }
};

Slots SlotsFor(const Engine& engine, int64_t items, int64_t floats) {
  const int64_t threads = engine.pool.threads();
  return {std::min(threads, items), floats, items <= threads};
}

// The items of the forward pass. A head is cut only where there are too few of them for the threads; the cut changes no
// bit.
struct Cut {
  int64_t pieces, queries;  // of a head, and of each piece
};

Cut CutOf(const Engine& engine, const kotodama::AttentionForward& op) {
  const int64_t heads = op.b * op.h;
  const int64_t most = CeilDivide(op.t, kQueriesOfItem);
  const int64_t wanted =
      engine.pool.threads() == 1 ? 1 : CeilDivide(4 * engine.pool.threads(), std::max<int64_t>(1, heads));
  const int64_t pieces = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, most));
  return {pieces, CeilDivide(CeilDivide(op.t, pieces), kQueriesOfItem) * kQueriesOfItem};
}

Slots SlotsOf(const Engine& engine, const kotodama::AttentionForward& op) {
  return SlotsFor(engine, op.b * op.h * CutOf(engine, op).pieces,
                  engine.kernels.attention_scratch(op.t, op.d, op.qkv.dtype == DType::kBF16, /*backward=*/false));
}

Slots SlotsOf(const Engine& engine, const kotodama::AttentionBackward& op) {
  return SlotsFor(engine, op.b * op.h,
                  engine.kernels.attention_scratch(op.t, op.d, op.qkv.dtype == DType::kBF16, /*backward=*/true));
}

Slots SlotsOf(const Engine& engine, const kotodama::AttentionCached& op) {
  return SlotsFor(engine, op.b * op.h, CeilDivide(op.past + op.n + 2 * op.d, 64) * 64 + 64);
}

}  // namespace

WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::AttentionForward& op) {
  return SharedFloats(SlotsOf(engine, op).total());
}

WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::AttentionBackward& op) {
  return SharedFloats(SlotsOf(engine, op).total());
}

void Run(const Engine& engine, const kotodama::AttentionForward& op) {
  const Slots slots = SlotsOf(engine, op);
  float* scratch = engine.scratch.Floats(slots.total());
  const Cut cut = CutOf(engine, op);
  engine.pool.Run(op.b * op.h * cut.pieces, [&](int64_t item, int worker) {
    AttentionHead head = MakeHead(op, item / cut.pieces);
    head.first_query = item % cut.pieces * cut.queries;
    head.queries = std::min(cut.queries, op.t - head.first_query);
    head.scratch = slots.Of(scratch, item, worker);
    if (head.queries > 0) engine.kernels.attention_forward(head);
  });
}

void Run(const Engine& engine, const kotodama::AttentionBackward& op) {
  const Slots slots = SlotsOf(engine, op);
  float* scratch = engine.scratch.Floats(slots.total());
  const int64_t c = op.h * op.d;
  engine.pool.Run(op.b * op.h, [&](int64_t item, int worker) {
    AttentionHead head = MakeHead(op, item);
    const int64_t b = item / op.h, h = item % op.h;
    head.dout = RowAt(op.dout, b * op.t * c + h * op.d);
    head.dqkv = RowAt(op.dqkv, b * op.t * 3 * c + h * op.d);
    head.scratch = slots.Of(scratch, item, worker);
    engine.kernels.attention_backward(head);
  });
}

void Run(const Engine& engine, const kotodama::AttentionCached& op) {
  const int64_t c = op.h * op.d;
  const Slots slots = SlotsOf(engine, op);
  float* scratch = engine.scratch.Floats(slots.total());
  engine.pool.Run(op.b * op.h, [&](int64_t item, int worker) {
    const int64_t b = item / op.h, h = item % op.h;
    AttentionCachedHead head = {};
    head.n = op.n;
    head.d = op.d;
    head.past = op.past;
    head.c = c;
    head.qkv = RowAt(op.qkv, b * op.n * 3 * c + h * op.d);
    head.keys = RowAt(op.keys, item * op.capacity * op.d);
    head.values = RowAt(op.values, item * op.capacity * op.d);
    head.out = RowAt(op.out, b * op.n * c + h * op.d);
    head.q = slots.Of(scratch, item, worker);
    head.mix = head.q + op.d;
    head.scores = head.mix + op.d;
    engine.kernels.attention_cached(head);
  });
}

}  // namespace kotodama::cpu
