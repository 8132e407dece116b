#include "cpu/ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace kotodama::cpu {
namespace {

// What one item of an operation over rows or elements takes. Sums have one slot per item, so these numbers decide bits.
constexpr int64_t kRowsOfItem = 32;
constexpr int64_t kElementsOfItem = 1 << 16;
constexpr int64_t kColumnsOfItem = 64;

RoundingFactors MakeRounding(const RoundingKey& key) {
  return {{static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)},
          {static_cast<uint32_t>(key.step), static_cast<uint32_t>(key.step >> 32)}};
}

// (items, 2, C): dweight and dbias of each item's rows
int64_t FloatsOfSums(const kotodama::LayerNormBackward& op) {
  return CeilDivide(op.x.shape[0], kRowsOfItem) * 2 * op.x.shape[1];
}

// One row for each thread, where the gradient has too few bits to hold the powers.
int64_t FloatsOfPowers(const Engine& engine, const kotodama::CrossEntropy& op) {
  const bool needs_powers = op.gradient && op.logits.dtype == DType::kBF16;
  return needs_powers ? op.logits.shape[1] * engine.pool.threads() : 0;
}

}  // namespace

WorkingMemory WorkingMemoryOf(const kotodama::LayerNormBackward& op) {
  return SharedFloats(FloatsOfSums(op));
}

WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::CrossEntropy& op) {
  return SharedFloats(FloatsOfPowers(engine, op));
}

DropoutFactors MakeDropout(const Dropout& dropout) {
  DropoutFactors factors = {};
  factors.active = dropout.p > 0;
  if (!factors.active) return factors;
  factors.key[0] = static_cast<uint32_t>(dropout.key->seed);
  factors.key[1] = static_cast<uint32_t>(dropout.key->seed >> 32);
  factors.site = dropout.site;
  factors.micro_step = static_cast<uint32_t>(dropout.key->micro_step);
  factors.threshold = static_cast<uint64_t>(std::ceil(static_cast<double>(dropout.p) * 4294967296.0));
  factors.scale = dropout.p < 1 ? 1 / (1 - dropout.p) : 0;
  return factors;
}

void Run(const Engine& engine, const kotodama::EmbeddingForward& op) {
  const int64_t rows = op.ids.size(), t = op.ids.shape[1], c = op.wte.shape[1];
  const DropoutFactors dropout = MakeDropout(op.dropout);
  ForRanges(engine.pool, rows, kRowsOfItem, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* out = FloatsAt(op.out, r * c);
      engine.kernels.sum_of_two(out, FloatsAt(op.wte, op.ids.as<int32_t>()[r] * c),
                                FloatsAt(op.wpe, (op.position + r % t) * c), c);
      if (dropout.active) engine.kernels.dropout(out, out, r * c, c, dropout);
    }
  });
}

void Run(const Engine& engine, const kotodama::EmbeddingBackward& op) {
  const int64_t rows = op.ids.size(), t = op.ids.shape[1], c = op.dwte.shape[1];
  const DropoutFactors dropout = MakeDropout(op.dropout);
  // An item owns some columns and adds the rows in their order.
  ForRanges(engine.pool, c, kColumnsOfItem, [&](int64_t begin, int64_t end, int) {
    float masked[kColumnsOfItem];
    for (int64_t r = 0; r < rows; ++r) {
      const float* dout = FloatsAt(op.dout, r * c + begin);
      if (dropout.active) {
        engine.kernels.dropout(masked, dout, r * c + begin, end - begin, dropout);
        dout = masked;
      }
      engine.kernels.add(FloatsAt(op.dwte, op.ids.as<int32_t>()[r] * c + begin), dout, end - begin);
      engine.kernels.add(FloatsAt(op.dwpe, r % t * c + begin), dout, end - begin);
    }
  });
}

void Run(const Engine& engine, const kotodama::LayerNormForward& op) {
  const int64_t c = op.x.shape[1];
  const DropoutFactors dropout = MakeDropout(op.dropout);
  ForRanges(engine.pool, op.x.shape[0], kRowsOfItem, [&](int64_t begin, int64_t end, int) {
    LayerNormRows rows = {};
    rows.first = begin * c;
    rows.rows = end - begin;
    rows.c = c;
    rows.x = FloatsAt(op.x, begin * c);
    rows.addend = RowAt(op.addend, begin * c);
    rows.sum = FloatsAt(op.sum, begin * c);
    rows.weight = FloatsAt(op.weight, 0);
    rows.bias = FloatsAt(op.bias, 0);
    rows.out = RowAt(op.out, begin * c);
    rows.mean = FloatsAt(op.mean, begin);
    rows.rstd = FloatsAt(op.rstd, begin);
    rows.eps = op.eps;
    rows.dropout = dropout;
    engine.kernels.layernorm_forward(rows);
  });
}

void Run(const Engine& engine, const kotodama::LayerNormBackward& op) {
  const int64_t count = op.x.shape[0], c = op.x.shape[1];
  const int64_t items = CeilDivide(count, kRowsOfItem);
  const DropoutFactors dropout = MakeDropout(op.dropout);
  float* sums = engine.scratch.Floats(FloatsOfSums(op));
  ForRanges(engine.pool, count, kRowsOfItem, [&](int64_t begin, int64_t end, int) {
    LayerNormGradientRows rows = {};
    rows.first = begin * c;
    rows.rows = end - begin;
    rows.c = c;
    rows.dout = RowAt(op.dout, begin * c);
    rows.x = FloatsAt(op.x, begin * c);
    rows.weight = FloatsAt(op.weight, 0);
    rows.mean = FloatsAt(op.mean, begin);
    rows.rstd = FloatsAt(op.rstd, begin);
    rows.dx = FloatsAt(op.dx, begin * c);
    rows.accumulate_dx = op.accumulate_dx;
    rows.daddend = RowAt(op.daddend, begin * c);
    rows.dweight = sums + begin / kRowsOfItem * 2 * c;
    rows.dbias = rows.dweight + c;
    rows.dropout = dropout;
    engine.kernels.layernorm_backward(rows);
  });
  ForRanges(engine.pool, c, kColumnsOfItem, [&](int64_t begin, int64_t end, int) {
    for (int part = 0; part < 2; ++part) {
      float* target = FloatsAt(part == 0 ? op.dweight : op.dbias, begin);
      if (!op.accumulate) std::fill(target, target + (end - begin), 0.0f);
      for (int64_t item = 0; item < items; ++item) {
        engine.kernels.add(target, sums + (item * 2 + part) * c + begin, end - begin);
      }
    }
  });
}

void Run(const Engine& engine, const kotodama::CrossEntropy& op) {
  const int64_t vp = op.logits.shape[1];
  const int64_t floats = FloatsOfPowers(engine, op);
  float* powers = engine.scratch.Floats(floats);
  ForRanges(engine.pool, op.logits.shape[0], 1, [&](int64_t r, int64_t, int worker) {
    const int32_t label = op.labels.as<int32_t>()[r];
    const Row logits = RowAt(op.logits, r * vp);
    float loss = 0;
    if (label != kIgnoredLabel) {
      loss = engine.kernels.cross_entropy(logits, op.v, vp, label, op.gradient,
                                          floats > 0 ? powers + worker * vp : nullptr);
    } else if (op.gradient) {
      std::memset(logits.data, 0, static_cast<size_t>(vp) * SizeOf(op.logits.dtype));
    }
    op.losses.as<float>()[r] = loss;
  });
}

void Run(const Engine& engine, const kotodama::AdamW& op) {
  const OptimizerScalars& s = *op.scalars;
  if (s.applied == 0) return;
  ForRanges(engine.pool, op.param.size(), kElementsOfItem, [&](int64_t begin, int64_t end, int) {
    AdamWRange range = {};
    range.count = end - begin;
    range.param = FloatsAt(op.param, begin);
    range.grad = FloatsAt(op.grad, begin);
    range.exp_avg = FloatsAt(op.exp_avg, begin);
    range.exp_avg_sq = FloatsAt(op.exp_avg_sq, begin);
    BF16* compute = op.compute ? op.compute.as<BF16>() + begin : nullptr;
    const bool rounds = compute != nullptr && op.rounding.key != nullptr;
    range.compute = rounds ? nullptr : compute;
    range.beta1 = s.beta1;
    range.beta2 = s.beta2;
    range.eps = s.eps;
    range.gradient_factor = s.grad_clip;
    range.step_size = s.learning_rate / s.correction1;
    range.second_scale = 1 / std::sqrt(s.correction2);
    range.decay_factor = op.decay ? 1 - s.learning_rate * s.weight_decay : 1;
    engine.kernels.adamw(range);
    // The parameters are in the cache still.
    if (rounds) {
      engine.kernels.round(compute, range.param, op.rounding.first + begin, range.count,
                           MakeRounding(*op.rounding.key));
    }
  });
}

void Gelu(const Engine& engine, const Tensor& target, const Tensor& source) {
  ForRanges(engine.pool, target.size(), kElementsOfItem, [&](int64_t begin, int64_t end, int) {
    engine.kernels.gelu(RowAt(target, begin), RowAt(source, begin), end - begin);
  });
}

void Cast(const Engine& engine, const Tensor& target, const Tensor& source) {
  ForRanges(engine.pool, target.size(), kElementsOfItem, [&](int64_t begin, int64_t end, int) {
    engine.kernels.cast(RowAt(target, begin), RowAt(source, begin), end - begin);
  });
}

void Round(const Engine& engine, const Tensor& target, const Tensor& source, const StochasticRounding& rounding) {
  const RoundingFactors factors = MakeRounding(*rounding.key);
  ForRanges(engine.pool, target.size(), kElementsOfItem, [&](int64_t begin, int64_t end, int) {
    engine.kernels.round(target.as<BF16>() + begin, FloatsAt(source, begin), rounding.first + begin, end - begin,
                         factors);
  });
}

void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) {
  LossTotals result;
  for (int64_t i = 0; i < losses.size(); ++i) {
    if (labels.as<int32_t>()[i] == kIgnoredLabel) continue;
    result.sum += losses.as<float>()[i];
    ++result.count;
  }
  *totals = result;
}

void GlobalNorm(const Engine& engine, const Tensor& grads, OptimizerScalars* scalars) {
  std::vector<double> squares(CeilDivide(grads.size(), kElementsOfItem));
  ForRanges(engine.pool, grads.size(), kElementsOfItem, [&](int64_t begin, int64_t end, int) {
    squares[begin / kElementsOfItem] = engine.kernels.sum_of_squares(FloatsAt(grads, begin), end - begin);
  });
  double total = 0;
  for (double part : squares) total += part;
  const float norm = static_cast<float>(std::sqrt(total) * scalars->gradient_scale);
  scalars->grad_norm = norm;
  scalars->applied = std::isfinite(norm) ? 1 : 0;
  scalars->grad_clip = scalars->gradient_scale;
  // The small constant is that of torch.nn.utils.clip_grad_norm_.
  if (scalars->max_grad_norm > 0) scalars->grad_clip *= std::min(1.0f, scalars->max_grad_norm / (norm + 1e-6f));
}

void Zero(const Engine& engine, void* data, size_t bytes) {
  constexpr int64_t kBytesOfItem = 1 << 20;
  ForRanges(engine.pool, static_cast<int64_t>(bytes), kBytesOfItem, [&](int64_t begin, int64_t end, int) {
    std::memset(static_cast<char*>(data) + begin, 0, static_cast<size_t>(end - begin));
  });
}

}  // namespace kotodama::cpu
