#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

#include "cuda/backend_impl.h"

// Launches of every operation but the GEMM and attention.

namespace kotodama::cuda {
namespace {

// What the kernels read and write through pointers is the same bytes on both sides.
#define KOTODAMA_SAME(type, member)                                                          \
  static_assert(offsetof(type, member) == offsetof(kernels::type, member) &&                 \
                    std::is_same_v<decltype(type::member), decltype(kernels::type::member)>, \
                #type "::" #member " is another one in kernels/params.h than in csrc/backend.h")
KOTODAMA_SAME(OptimizerScalars, learning_rate);
KOTODAMA_SAME(OptimizerScalars, beta1);
KOTODAMA_SAME(OptimizerScalars, beta2);
KOTODAMA_SAME(OptimizerScalars, eps);
KOTODAMA_SAME(OptimizerScalars, weight_decay);
KOTODAMA_SAME(OptimizerScalars, correction1);
KOTODAMA_SAME(OptimizerScalars, correction2);
KOTODAMA_SAME(OptimizerScalars, gradient_scale);
KOTODAMA_SAME(OptimizerScalars, max_grad_norm);
KOTODAMA_SAME(OptimizerScalars, grad_norm);
KOTODAMA_SAME(OptimizerScalars, grad_clip);
KOTODAMA_SAME(OptimizerScalars, applied);
KOTODAMA_SAME(LossTotals, sum);
KOTODAMA_SAME(LossTotals, count);
#undef KOTODAMA_SAME
static_assert(kIgnoredLabel == kernels::kIgnoredLabel);
// Two words each, those of rounding in one load.
static_assert(offsetof(DropoutKey, seed) == 0 && offsetof(DropoutKey, micro_step) == sizeof(uint64_t));
static_assert(offsetof(RoundingKey, seed) == 0 && offsetof(RoundingKey, step) == sizeof(uint64_t) &&
              alignof(RoundingKey) == 2 * sizeof(uint64_t));

int32_t Narrow(int64_t value, const char* what) {
  if (value < 0 || value > INT32_MAX) {
    throw Error(ErrorCode::kOptions, std::string(what) + ": " + std::to_string(value) + " is too large for the device");
  }
  return static_cast<int32_t>(value);
}

// A whole vector of four; RequireWidth has seen to it.
int32_t Width(int64_t c) {
  if (c % 4 != 0) throw Error(ErrorCode::kOptions, "C: expected a multiple of 4, received " + std::to_string(c));
  return Narrow(c, "C");
}

// Threads for four columns of C each.
unsigned RowThreads(int32_t c) {
  const unsigned vectors = static_cast<unsigned>(c) / 4;
  return std::min(kThreads, (vectors + 31) / 32 * 32);
}

// Threads of a block for this much work.
unsigned WholeWarps(int64_t work) {
  return static_cast<unsigned>(std::clamp<int64_t>((work + 31) / 32 * 32, 32, 1024));
}

// Of the shared memory of the embedding's backward pass: eight columns, an id and a place in the tile.
constexpr size_t kEmbeddingRowBytes = 8 * sizeof(float) + sizeof(int32_t) + sizeof(uint16_t);

// Equal tiles of as many rows as fit: each row of the table that occurs in a tile is read and written once a tile. Of
// whole positions, where one fits.
int32_t EmbeddingTileRows(int32_t n, int32_t b, size_t shared_bytes) {
  const auto most = static_cast<int32_t>(std::min<size_t>(shared_bytes / kEmbeddingRowBytes, 65536));
  const auto equal = static_cast<int32_t>(Blocks(n, Blocks(n, most)));
  const int32_t whole = static_cast<int32_t>(Blocks(equal, b)) * b;
  return whole <= most ? whole : equal;
}

// Rows that a block takes: enough to spread what it reads once a block, and so many that every multiprocessor gets as
// many blocks.
int32_t RowsPerBlock(int64_t n, int multiprocessors) {
  const int64_t blocks =
      static_cast<int64_t>(Blocks(n, static_cast<int64_t>(multiprocessors) * kernels::kMostLayerNormRows));
  return static_cast<int32_t>(Blocks(std::max<int64_t>(1, n), std::max<int64_t>(1, blocks) * multiprocessors));
}

kernels::RoundingParams ToParams(const StochasticRounding& rounding) {
  return {reinterpret_cast<const uint64_t*>(rounding.key), rounding.first};
}

// Warps of a block so that `fixed + per_warp * warps` bytes of shared memory fit.
unsigned Warps(size_t fixed, size_t per_warp, size_t limit) {
  for (unsigned warps = 8; warps > 1; warps /= 2) {
    if (fixed + per_warp * warps <= limit) return warps;
  }
  return 1;
}

// What a block of LayerNorm holds, in rows of C floats: `fixed`, and `per_warp` for each of its warps.
struct RowsOfBlock {
  unsigned warps;
  size_t shared_bytes;  // 0: in global memory, since not even one warp's fit
  size_t rows;
};
RowsOfBlock PlanRows(size_t row_bytes, size_t fixed, size_t per_warp, size_t shared_bytes) {
  if ((fixed + per_warp) * row_bytes > shared_bytes) return {2, 0, fixed + 2 * per_warp};
  const unsigned warps = Warps(fixed * row_bytes, per_warp * row_bytes, shared_bytes / 2);
  const size_t rows = fixed + per_warp * warps;
  return {warps, rows * row_bytes, rows};
}

// What the embedding's backward pass sorts `n` ids into: ids and places in their tiles.
size_t SortedBytes(int64_t n) {
  return static_cast<size_t>(n) * (sizeof(int32_t) + sizeof(uint16_t));
}

// How LayerNorm's backward pass spreads its rows over blocks, and the scratch memory that they write to.
struct NormBackwardPlan {
  const char* kernel;
  int32_t rows_per_block;
  unsigned blocks;
  RowsOfBlock held;
  size_t scratch_bytes;
  bool is_wide() const { return held.shared_bytes == 0; }
};
NormBackwardPlan PlanNormBackward(const LayerNormBackward& op, int64_t n, Context& context) {
  const char* narrow = ForType(op.dout.dtype, "layernorm_backward_f32", "layernorm_backward_bf16");
  const char* wide = ForType(op.dout.dtype, "layernorm_backward_wide_f32", "layernorm_backward_wide_bf16");
  const size_t row_bytes = op.weight.bytes();
  NormBackwardPlan plan = {};
  plan.rows_per_block = RowsPerBlock(n, context.multiprocessors());
  plan.blocks = Blocks(n, plan.rows_per_block);
  plan.held = PlanRows(row_bytes, 3, 2, context.MaxDynamicShared(narrow));
  plan.kernel = plan.is_wide() ? wide : narrow;
  plan.scratch_bytes = plan.blocks * (2 + (plan.is_wide() ? plan.held.rows : 0)) * row_bytes;
  return plan;
}

}  // namespace

kernels::DropoutParams ToParams(const Dropout& dropout) {
  kernels::DropoutParams params = {};
  if (dropout.p <= 0) return params;
  params.key = reinterpret_cast<const uint64_t*>(dropout.key);
  params.threshold = static_cast<uint32_t>(std::ceil(static_cast<double>(dropout.p) * 4294967296.0));
  params.site = dropout.site;
  params.scale = 1.0f / (1.0f - dropout.p);
  return params;
}

void CudaBackend::RequireWidth(int64_t c) const {
  if (c % 4 == 0) return;
  throw Error(ErrorCode::kOptions, "nEmbd: expected a multiple of 4 on a CUDA device, received " + std::to_string(c) +
                                       "\n  hint: choose another width, or device 'cpu'");
}

void CudaBackend::Run(const EmbeddingForward& op) {
  Guarded([&] {
    kernels::EmbeddingForwardParams p = {};
    p.c = Width(op.wte.shape[1]);
    p.b = Narrow(op.ids.shape[0], "batch");
    p.t = Narrow(op.ids.shape[1], "block length");
    p.ids = op.ids.as<int32_t>();
    p.wte = op.wte.as<float>();
    p.wpe = op.wpe.as<float>() + op.position * p.c;
    p.out = op.out.as<float>();
    p.dropout = ToParams(op.dropout);
    context_.Launch("embedding_forward", {static_cast<unsigned>(p.t)}, {RowThreads((p.c / 2 + 3) / 4 * 4)}, 0, p);
  });
}

WorkingMemory CudaBackend::WorkingMemoryOf(const EmbeddingBackward& op) const {
  return {0, Context::WorkspaceBeyondStart(SortedBytes(op.ids.size()))};
}

void CudaBackend::Run(const EmbeddingBackward& op) {
  Guarded([&] {
    kernels::EmbeddingSortParams sort = {};
    sort.b = Narrow(op.ids.shape[0], "batch");
    sort.t = Narrow(op.ids.shape[1], "block length");
    const int32_t n = Narrow(op.ids.size(), "batch");
    sort.tile_rows = EmbeddingTileRows(n, sort.b, context_.MaxDynamicShared("embedding_backward"));
    sort.slots = 2;
    while (sort.slots < sort.tile_rows) sort.slots *= 2;
    auto* sorted = static_cast<int32_t*>(context_.Workspace(SortedBytes(n)));
    sort.ids = op.ids.as<int32_t>();
    sort.sorted_ids = sorted;
    sort.sorted_rows = reinterpret_cast<uint16_t*>(sorted + n);
    context_.Launch("embedding_sort", {Blocks(n, sort.tile_rows)}, {WholeWarps(sort.slots / 2)},
                    static_cast<size_t>(sort.slots) * sizeof(uint64_t), sort);

    kernels::EmbeddingBackwardParams p = {};
    p.ids = sort.sorted_ids;
    p.rows = sort.sorted_rows;
    p.dout = op.dout.as<float>();
    p.dwte = op.dwte.as<float>();
    p.dwpe = op.dwpe.as<float>();
    p.b = sort.b;
    p.t = sort.t;
    p.c = Width(op.dwte.shape[1]);
    p.tile_rows = sort.tile_rows;
    p.dropout = ToParams(op.dropout);
    context_.Launch("embedding_backward", {Blocks(p.c, kernels::kEmbeddingGroupColumns)},
                    {WholeWarps(2 * int64_t{p.tile_rows})}, static_cast<size_t>(p.tile_rows) * kEmbeddingRowBytes, p);
  });
}

void CudaBackend::Run(const LayerNormForward& op) {
  Guarded([&] {
    kernels::LayerNormForwardParams p = {};
    p.c = Width(op.weight.shape[0]);
    p.n = Narrow(op.x.size() / p.c, "rows");
    p.x = op.x.as<float>();
    p.addend = op.addend.data;
    p.sum = op.addend ? op.sum.as<float>() : nullptr;
    p.weight = op.weight.as<float>();
    p.bias = op.bias.as<float>();
    p.out = op.out.data;
    p.mean = op.mean.as<float>();
    p.rstd = op.rstd.as<float>();
    p.eps = op.eps;
    p.dropout = ToParams(op.dropout);
    p.rows_per_block = RowsPerBlock(p.n, context_.multiprocessors());
    const unsigned blocks = Blocks(p.n, p.rows_per_block);
    const size_t row_bytes = static_cast<size_t>(p.c) * sizeof(float);
    const char* narrow = ForType(op.out.dtype, "layernorm_forward_f32", "layernorm_forward_bf16");
    const RowsOfBlock held = PlanRows(row_bytes, 2, 1, context_.MaxDynamicShared(narrow));
    const bool wide = held.shared_bytes == 0;
    if (wide) p.wide = static_cast<float*>(context_.Workspace(blocks * held.rows * row_bytes));
    const char* name =
        wide ? ForType(op.out.dtype, "layernorm_forward_wide_f32", "layernorm_forward_wide_bf16") : narrow;
    context_.Launch(name, {blocks}, {32 * held.warps}, held.shared_bytes, p);
  });
}

WorkingMemory CudaBackend::WorkingMemoryOf(const LayerNormBackward& op) const {
  const CurrentContext current = context_.Enter();
  const int64_t n = op.x.size() / op.weight.shape[0];
  return {0, Context::WorkspaceBeyondStart(PlanNormBackward(op, n, context_).scratch_bytes)};
}

void CudaBackend::Run(const LayerNormBackward& op) {
  Guarded([&] {
    kernels::LayerNormBackwardParams p = {};
    p.c = Width(op.weight.shape[0]);
    p.n = Narrow(op.x.size() / p.c, "rows");
    const NormBackwardPlan plan = PlanNormBackward(op, p.n, context_);
    p.rows_per_block = plan.rows_per_block;
    p.dout = op.dout.data;
    p.x = op.x.as<float>();
    p.weight = op.weight.as<float>();
    p.mean = op.mean.as<float>();
    p.rstd = op.rstd.as<float>();
    p.dx = op.dx.as<float>();
    p.daddend = op.daddend.data;
    p.accumulate_dx = op.accumulate_dx;
    p.dropout = ToParams(op.dropout);
    p.partials = static_cast<float*>(context_.Workspace(plan.scratch_bytes));
    if (plan.is_wide()) p.wide = p.partials + int64_t{2} * plan.blocks * p.c;
    context_.Launch(plan.kernel, {plan.blocks}, {32 * plan.held.warps}, plan.held.shared_bytes, p);

    kernels::SumRowsParams sum = {};
    sum.partials = p.partials;
    sum.target = op.dweight.as<float>();
    sum.second = op.dbias.as<float>();
    sum.rows = static_cast<int32_t>(plan.blocks);
    sum.columns = 2 * p.c;
    sum.split = p.c;
    sum.accumulate = op.accumulate;
    context_.Launch("sum_rows", {Blocks(sum.columns, 32)}, {32, 8}, 0, sum);
  });
}

void CudaBackend::Run(const CrossEntropy& op) {
  Guarded([&] {
    kernels::CrossEntropyParams p = {};
    const int64_t rows = op.labels.size();
    p.vp = Narrow(op.logits.shape[1], "vocabulary");
    if (p.vp % 8 != 0) throw Error(ErrorCode::kOptions, "padded vocabulary: expected a multiple of 8");
    p.v = Narrow(op.v, "vocabulary");
    p.logits = op.logits.data;
    p.labels = op.labels.as<int32_t>();
    p.losses = op.losses.as<float>();
    p.gradient = op.gradient;
    const size_t element = SizeOf(op.logits.dtype);
    const char* name = ForType(op.logits.dtype, "cross_entropy_f32", "cross_entropy_bf16");
    if (op.gradient) {
      p.staged = static_cast<int32_t>(std::min<int64_t>(p.vp, context_.MaxDynamicShared(name) / element / 8 * 8));
    }
    context_.Launch(name, {static_cast<unsigned>(rows)}, {512}, static_cast<size_t>(p.staged) * element, p);
  });
}

void CudaBackend::Run(const AdamW& op) {
  Guarded([&] {
    kernels::AdamWParams p = {};
    p.n = op.param.size();
    if (p.n == 0) return;
    p.param = op.param.as<float>();
    p.grad = op.grad.as<float>();
    p.exp_avg = op.exp_avg.as<float>();
    p.exp_avg_sq = op.exp_avg_sq.as<float>();
    p.compute = op.compute.as<uint16_t>();
    p.scalars = op.scalars;
    p.decay = op.decay;
    p.rounding = ToParams(op.rounding);
    context_.Launch(op.rounding.key != nullptr ? "adamw_stochastic" : "adamw",
                    {Blocks(p.n, 4 * kernels::kAdamWPieces * kThreads)}, {kThreads}, 0, p);
  });
}

void CudaBackend::Gelu(const Tensor& target, const Tensor& source) {
  Guarded([&] {
    kernels::ElementwiseParams p = {source.data, target.data, source.size()};
    context_.Launch(ForType(source.dtype, "gelu_f32", "gelu_bf16"), {Blocks(p.n, 4 * kThreads)}, {kThreads}, 0, p);
  });
}

void CudaBackend::Cast(const Tensor& target, const Tensor& source) {
  Guarded([&] {
    if (target.dtype == source.dtype) {
      KOTODAMA_CUDA(copy_on_device(reinterpret_cast<CUdeviceptr>(target.data),
                                   reinterpret_cast<CUdeviceptr>(source.data), source.bytes(), context_.compute()));
      return;
    }
    kernels::ElementwiseParams p = {source.data, target.data, source.size()};
    context_.Launch(ForType(source.dtype, "cast_f32_to_bf16", "cast_bf16_to_f32"), {Blocks(p.n, 4 * kThreads)},
                    {kThreads}, 0, p);
  });
}

void CudaBackend::Round(const Tensor& target, const Tensor& source, const StochasticRounding& rounding) {
  Guarded([&] {
    kernels::RoundParams p = {source.as<float>(), target.as<uint16_t>(), source.size(), ToParams(rounding)};
    context_.Launch("round_stochastic", {Blocks(p.n, 4 * kThreads)}, {kThreads}, 0, p);
  });
}

void CudaBackend::ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) {
  Guarded([&] {
    kernels::ReduceLossParams p = {losses.as<float>(), labels.as<int32_t>(), totals, losses.size()};
    context_.Launch("reduce_loss", {1}, {1024}, 0, p);
  });
}

void CudaBackend::GlobalNorm(const Tensor& grads, OptimizerScalars* scalars) {
  Guarded([&] {
    kernels::GlobalNormParams p = {};
    p.grads = grads.as<float>();
    p.scalars = scalars;
    p.n = grads.size();
    // Not from the device's size: the same bits on every device.
    p.blocks = static_cast<int32_t>(std::clamp<int64_t>(p.n / (4 * kThreads), 1, 1024));
    p.partials = static_cast<double*>(context_.Workspace(static_cast<size_t>(p.blocks) * sizeof(double)));
    context_.Launch("global_norm_partial", {static_cast<unsigned>(p.blocks)}, {kThreads}, 0, p);
    context_.Launch("global_norm_finish", {1}, {kThreads}, 0, p);
  });
}

}  // namespace kotodama::cuda
