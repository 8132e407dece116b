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

int64_t FloatsOfWorker(const Engine& engine, const kotodama::AttentionForward& op) {
  return engine.kernels.attention_scratch(op.t, op.d, op.qkv.dtype == DType::kBF16, /*backward=*/false);
}

int64_t FloatsOfWorker(const Engine& engine, const kotodama::AttentionBackward& op) {
  return engine.kernels.attention_scratch(op.t, op.d, op.qkv.dtype == DType::kBF16, /*backward=*/true);
}

}  // namespace

WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::AttentionForward& op) {
  return SharedFloats(FloatsOfWorker(engine, op) * engine.pool.threads());
}

WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::AttentionBackward& op) {
  return SharedFloats(FloatsOfWorker(engine, op) * engine.pool.threads());
}

void Run(const Engine& engine, const kotodama::AttentionForward& op) {
  const int64_t per_worker = FloatsOfWorker(engine, op);
  float* scratch = engine.scratch.Floats(per_worker * engine.pool.threads());
  // A head is cut only where there are too few of them for the threads; the cut changes no bit.
  const int64_t heads = op.b * op.h;
  const int64_t most = CeilDivide(op.t, kQueriesOfItem);
  const int64_t wanted =
      engine.pool.threads() == 1 ? 1 : CeilDivide(4 * engine.pool.threads(), std::max<int64_t>(1, heads));
  const int64_t pieces = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, most));
  const int64_t queries = CeilDivide(CeilDivide(op.t, pieces), kQueriesOfItem) * kQueriesOfItem;
  engine.pool.Run(heads * pieces, [&](int64_t item, int worker) {
    AttentionHead head = MakeHead(op, item / pieces);
    head.first_query = item % pieces * queries;
    head.queries = std::min(queries, op.t - head.first_query);
    head.scratch = scratch + worker * per_worker;
    if (head.queries > 0) engine.kernels.attention_forward(head);
  });
}

void Run(const Engine& engine, const kotodama::AttentionBackward& op) {
  const int64_t per_worker = FloatsOfWorker(engine, op);
  float* scratch = engine.scratch.Floats(per_worker * engine.pool.threads());
  const int64_t c = op.h * op.d;
  engine.pool.Run(op.b * op.h, [&](int64_t item, int worker) {
    AttentionHead head = MakeHead(op, item);
    const int64_t b = item / op.h, h = item % op.h;
    head.dout = RowAt(op.dout, b * op.t * c + h * op.d);
    head.dqkv = RowAt(op.dqkv, b * op.t * 3 * c + h * op.d);
    head.scratch = scratch + worker * per_worker;
    engine.kernels.attention_backward(head);
  });
}

void Run(const Engine& engine, const kotodama::AttentionCached& op) {
  const int64_t c = op.h * op.d;
  const int64_t per_worker = CeilDivide(op.past + op.n + 2 * op.d, 64) * 64 + 64;
  float* scratch = engine.scratch.Floats(per_worker * engine.pool.threads());
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
    head.q = scratch + worker * per_worker;
    head.mix = head.q + op.d;
    head.scores = head.mix + op.d;
    engine.kernels.attention_cached(head);
  });
}

}  // namespace kotodama::cpu
