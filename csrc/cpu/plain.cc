#include "cpu/plain.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/philox.h"
#include "cpu/scalar.h"

namespace kotodama::cpu::plain {
namespace {

constexpr int64_t kChunk = 16384;

int64_t Chunks(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

float GeluValue(float x) {
  return 0.5f * x * (1 + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

float GeluSlope(float x) {
  const float t = std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608028654f * (1 + 3 * 0.044715f * x * x);
}

template <typename F>
void ForRange(ThreadPool& pool, int64_t count, int64_t chunk, F body) {
  pool.Run(Chunks(count, chunk), [&](int64_t item, int) { body(item * chunk, std::min(count, (item + 1) * chunk)); });
}

}  // namespace

void Run(ThreadPool& pool, const EmbeddingForward& op) {
  const int64_t rows = op.ids.size(), t = op.ids.shape[1], c = op.wte.shape[1];
  const DropoutMask mask(op.dropout);
  ForRange(pool, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> factors(c, 1.0f);
    for (int64_t r = begin; r < end; ++r) {
      const float* token = op.wte.as<float>() + op.ids.as<int32_t>()[r] * c;
      const float* position = op.wpe.as<float>() + (op.position + r % t) * c;
      float* out = op.out.as<float>() + r * c;
      if (mask.active()) mask.Factors(r * c, c, factors.data());
      for (int64_t i = 0; i < c; ++i) out[i] = (token[i] + position[i]) * factors[i];
    }
  });
}

void Run(ThreadPool& pool, const EmbeddingBackward& op) {
  const int64_t rows = op.ids.size(), t = op.ids.shape[1], c = op.dwte.shape[1];
  const DropoutMask mask(op.dropout);
  // Each item owns some columns, so rows are added in their order whatever the threads do.
  ForRange(pool, c, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> factors(end - begin, 1.0f);
    for (int64_t r = 0; r < rows; ++r) {
      const float* dout = op.dout.as<float>() + r * c;
      float* token = op.dwte.as<float>() + op.ids.as<int32_t>()[r] * c;
      float* position = op.dwpe.as<float>() + (r % t) * c;
      if (mask.active()) mask.Factors(r * c + begin, end - begin, factors.data());
      for (int64_t i = begin; i < end; ++i) {
        const float d = dout[i] * factors[i - begin];
        token[i] += d;
        position[i] += d;
      }
    }
  });
}

void Run(ThreadPool& pool, const LayerNormForward& op) {
  const int64_t rows = op.x.shape[0], c = op.x.shape[1];
  const DropoutMask mask(op.dropout);
  ForRange(pool, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(c), factors(c, 1.0f);
    for (int64_t r = begin; r < end; ++r) {
      const float* x = op.x.as<float>() + r * c;
      if (op.addend) {
        if (mask.active()) mask.Factors(r * c, c, factors.data());
        for (int64_t i = 0; i < c; ++i) sum[i] = x[i] + LoadAt(op.addend, r * c + i) * factors[i];
        std::copy(sum.begin(), sum.end(), op.sum.as<float>() + r * c);
      } else {
        std::copy(x, x + c, sum.begin());
      }
      double total = 0, squares = 0;
      for (int64_t i = 0; i < c; ++i) total += sum[i];
      const double mean = total / c;
      for (int64_t i = 0; i < c; ++i) squares += (sum[i] - mean) * (sum[i] - mean);
      const float m = static_cast<float>(mean), rstd = static_cast<float>(1 / std::sqrt(squares / c + op.eps));
      for (int64_t i = 0; i < c; ++i) {
        StoreAt(op.out, r * c + i, (sum[i] - m) * rstd * op.weight.as<float>()[i] + op.bias.as<float>()[i]);
      }
      if (op.mean) op.mean.as<float>()[r] = m;
      if (op.rstd) op.rstd.as<float>()[r] = rstd;
    }
  });
}

void Run(ThreadPool& pool, const LayerNormBackward& op) {
  const int64_t rows = op.x.shape[0], c = op.x.shape[1];
  const DropoutMask mask(op.dropout);
  const float* weight = op.weight.as<float>();
  ForRange(pool, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> factors(c, 1.0f);
    for (int64_t r = begin; r < end; ++r) {
      const float* x = op.x.as<float>() + r * c;
      float* dx = op.dx.as<float>() + r * c;
      const float mean = op.mean.as<float>()[r], rstd = op.rstd.as<float>()[r];
      double total = 0, dot = 0;
      for (int64_t i = 0; i < c; ++i) {
        const float dn = LoadAt(op.dout, r * c + i) * weight[i];
        total += dn;
        dot += dn * ((x[i] - mean) * rstd);
      }
      const float a = static_cast<float>(total / c), b = static_cast<float>(dot / c);
      if (op.daddend && mask.active()) mask.Factors(r * c, c, factors.data());
      for (int64_t i = 0; i < c; ++i) {
        const float dn = LoadAt(op.dout, r * c + i) * weight[i];
        const float d = (dn - a - (x[i] - mean) * rstd * b) * rstd + (op.accumulate_dx ? dx[i] : 0);
        dx[i] = d;
        if (op.daddend) StoreAt(op.daddend, r * c + i, d * factors[i]);
      }
    }
  });
  ForRange(pool, c, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double dweight = op.accumulate ? op.dweight.as<float>()[i] : 0,
             dbias = op.accumulate ? op.dbias.as<float>()[i] : 0;
      for (int64_t r = 0; r < rows; ++r) {
        const float d = LoadAt(op.dout, r * c + i);
        dweight += d * ((op.x.as<float>()[r * c + i] - op.mean.as<float>()[r]) * op.rstd.as<float>()[r]);
        dbias += d;
      }
      op.dweight.as<float>()[i] = static_cast<float>(dweight);
      op.dbias.as<float>()[i] = static_cast<float>(dbias);
    }
  });
}

void Run(ThreadPool& pool, const kotodama::Gemm& op) {
  const int64_t lda = op.lda ? op.lda : (op.transpose_a ? op.m : op.k);
  const int64_t ldb = op.ldb ? op.ldb : (op.transpose_b ? op.k : op.n);
  const int64_t ldc = op.ldc ? op.ldc : op.n;
  ForRange(pool, op.m, 8, [&](int64_t begin, int64_t end) {
    std::vector<float> row(op.n);
    for (int64_t i = begin; i < end; ++i) {
      std::fill(row.begin(), row.end(), 0.0f);
      for (int64_t p = 0; p < op.k; ++p) {
        const float a = LoadAt(op.a, op.transpose_a ? p * lda + i : i * lda + p);
        for (int64_t j = 0; j < op.n; ++j) row[j] += a * LoadAt(op.b, op.transpose_b ? j * ldb + p : p * ldb + j);
      }
      for (int64_t j = 0; j < op.n; ++j) {
        float value = row[j];
        if (op.bias) value += op.bias.as<float>()[j];
        if (op.epilogue == Epilogue::kGelu) {
          StoreAt(op.aux, i * op.n + j, value);
          value = GeluValue(LoadAt(op.aux, i * op.n + j));
        } else if (op.epilogue == Epilogue::kGeluBackward) {
          value *= GeluSlope(LoadAt(op.aux, i * op.n + j));
        }
        if (op.accumulate) value += LoadAt(op.c, i * ldc + j);
        StoreAt(op.c, i * ldc + j, value);
      }
    }
  });
  if (!op.bias_gradient) return;
  ForRange(pool, op.n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      double sum = op.accumulate ? op.bias_gradient.as<float>()[j] : 0;
      for (int64_t p = 0; p < op.k; ++p) sum += LoadAt(op.b, op.transpose_b ? j * ldb + p : p * ldb + j);
      op.bias_gradient.as<float>()[j] = static_cast<float>(sum);
    }
  });
}

void Run(ThreadPool& pool, const AttentionForward& op) {
  const int64_t t = op.t, c = op.h * op.d;
  const float scale = 1 / std::sqrt(static_cast<float>(op.d));
  const DropoutMask mask(op.dropout);
  pool.Run(op.b * op.h, [&](int64_t item, int) {
    const int64_t b = item / op.h, h = item % op.h;
    std::vector<float> p(t), factors(t, 1.0f), out(op.d);
    const int64_t base = b * t * 3 * c + h * op.d;
    for (int64_t q = 0; q < t; ++q) {
      float top = -INFINITY;
      for (int64_t k = 0; k <= q; ++k) {
        float dot = 0;
        for (int64_t i = 0; i < op.d; ++i) {
          dot += LoadAt(op.qkv, base + q * 3 * c + i) * LoadAt(op.qkv, base + k * 3 * c + c + i);
        }
        p[k] = dot * scale;
        top = std::max(top, p[k]);
      }
      float sum = 0;
      for (int64_t k = 0; k <= q; ++k) sum += p[k] = std::exp(p[k] - top);
      if (mask.active()) mask.Factors((item * t + q) * t, q + 1, factors.data());
      std::fill(out.begin(), out.end(), 0.0f);
      for (int64_t k = 0; k <= q; ++k) {
        const float weight = p[k] / sum * factors[k];
        for (int64_t i = 0; i < op.d; ++i) out[i] += weight * LoadAt(op.qkv, base + k * 3 * c + 2 * c + i);
      }
      for (int64_t i = 0; i < op.d; ++i) StoreAt(op.out, (b * t + q) * c + h * op.d + i, out[i]);
      op.lse.as<float>()[item * t + q] = top + std::log(sum);
    }
  });
}

void Run(ThreadPool& pool, const AttentionBackward& op) {
  const int64_t t = op.t, c = op.h * op.d, d = op.d;
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  const DropoutMask mask(op.dropout);
  pool.Run(op.b * op.h, [&](int64_t item, int) {
    const int64_t b = item / op.h, h = item % op.h;
    std::vector<float> dq(t * d), dk(t * d), dv(t * d), factors(t, 1.0f);
    const int64_t base = b * t * 3 * c + h * d;
    for (int64_t q = 0; q < t; ++q) {
      const int64_t row = (b * t + q) * c + h * d;
      float delta = 0;
      for (int64_t i = 0; i < d; ++i) delta += LoadAt(op.dout, row + i) * LoadAt(op.out, row + i);
      if (mask.active()) mask.Factors((item * t + q) * t, q + 1, factors.data());
      for (int64_t k = 0; k <= q; ++k) {
        float dot = 0, dp = 0;
        for (int64_t i = 0; i < d; ++i) {
          dot += LoadAt(op.qkv, base + q * 3 * c + i) * LoadAt(op.qkv, base + k * 3 * c + c + i);
          dp += LoadAt(op.dout, row + i) * LoadAt(op.qkv, base + k * 3 * c + 2 * c + i);
        }
        const float p = std::exp(dot * scale - op.lse.as<float>()[item * t + q]);
        const float ds = p * (dp * factors[k] - delta) * scale;
        for (int64_t i = 0; i < d; ++i) {
          dv[k * d + i] += p * factors[k] * LoadAt(op.dout, row + i);
          dq[q * d + i] += ds * LoadAt(op.qkv, base + k * 3 * c + c + i);
          dk[k * d + i] += ds * LoadAt(op.qkv, base + q * 3 * c + i);
        }
      }
    }
    for (int64_t q = 0; q < t; ++q) {
      for (int64_t i = 0; i < d; ++i) {
        StoreAt(op.dqkv, base + q * 3 * c + i, dq[q * d + i]);
        StoreAt(op.dqkv, base + q * 3 * c + c + i, dk[q * d + i]);
        StoreAt(op.dqkv, base + q * 3 * c + 2 * c + i, dv[q * d + i]);
      }
    }
  });
}

void Run(ThreadPool& pool, const AttentionCached& op) {
  const int64_t c = op.h * op.d, d = op.d;
  const float scale = 1 / std::sqrt(static_cast<float>(d));
  pool.Run(op.b * op.h, [&](int64_t item, int) {
    const int64_t b = item / op.h, h = item % op.h;
    const int64_t cache = item * op.capacity * d;
    std::vector<float> p(op.past + op.n), out(d);
    for (int64_t q = 0; q < op.n; ++q) {
      const int64_t base = (b * op.n + q) * 3 * c + h * d;
      const int64_t last = op.past + q;
      for (int64_t i = 0; i < d; ++i) {
        StoreAt(op.keys, cache + last * d + i, LoadAt(op.qkv, base + c + i));
        StoreAt(op.values, cache + last * d + i, LoadAt(op.qkv, base + 2 * c + i));
      }
      float top = -INFINITY;
      for (int64_t k = 0; k <= last; ++k) {
        float dot = 0;
        for (int64_t i = 0; i < d; ++i) dot += LoadAt(op.qkv, base + i) * LoadAt(op.keys, cache + k * d + i);
        p[k] = dot * scale;
        top = std::max(top, p[k]);
      }
      float sum = 0;
      for (int64_t k = 0; k <= last; ++k) sum += p[k] = std::exp(p[k] - top);
      std::fill(out.begin(), out.end(), 0.0f);
      for (int64_t k = 0; k <= last; ++k) {
        for (int64_t i = 0; i < d; ++i) out[i] += p[k] / sum * LoadAt(op.values, cache + k * d + i);
      }
      for (int64_t i = 0; i < d; ++i) StoreAt(op.out, (b * op.n + q) * c + h * d + i, out[i]);
    }
  });
}

void Run(ThreadPool& pool, const CrossEntropy& op) {
  const int64_t rows = op.logits.shape[0], vp = op.logits.shape[1];
  ForRange(pool, rows, 1, [&](int64_t r, int64_t) {
    const int32_t label = op.labels.as<int32_t>()[r];
    const int64_t base = r * vp;
    const bool ignored = label == kIgnoredLabel;
    float top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < op.v; ++i) top = std::max(top, LoadAt(op.logits, base + i));
    for (int64_t i = 0; i < op.v; ++i) sum += std::exp(LoadAt(op.logits, base + i) - top);
    op.losses.as<float>()[r] = ignored ? 0 : top + std::log(sum) - LoadAt(op.logits, base + label);
    if (!op.gradient) return;
    for (int64_t i = 0; i < vp; ++i) {
      const bool real = i < op.v && !ignored;
      const float p = real ? std::exp(LoadAt(op.logits, base + i) - top) / sum : 0;
      StoreAt(op.logits, base + i, real && i == label ? p - 1 : p);
    }
  });
}

void Run(ThreadPool& pool, const AdamW& op) {
  const OptimizerScalars s = *op.scalars;
  if (s.applied == 0) return;
  ForRange(pool, op.param.size(), kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float g = op.grad.as<float>()[i] * s.grad_clip;
      float& m = op.exp_avg.as<float>()[i];
      float& v = op.exp_avg_sq.as<float>()[i];
      float& p = op.param.as<float>()[i];
      m = s.beta1 * m + (1 - s.beta1) * g;
      v = s.beta2 * v + (1 - s.beta2) * g * g;
      if (op.decay) p *= 1 - s.learning_rate * s.weight_decay;
      p -= s.learning_rate / s.correction1 * m / (std::sqrt(v) / std::sqrt(s.correction2) + s.eps);
      if (op.compute) StoreAt(op.compute, i, p);
    }
  });
}

void Gelu(ThreadPool& pool, const Tensor& target, const Tensor& source) {
  ForRange(pool, target.size(), kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) StoreAt(target, i, GeluValue(LoadAt(source, i)));
  });
}

void Cast(ThreadPool& pool, const Tensor& target, const Tensor& source) {
  ForRange(pool, target.size(), kChunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) StoreAt(target, i, LoadAt(source, i));
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

void GlobalNorm(ThreadPool& pool, const Tensor& grads, OptimizerScalars* scalars) {
  std::vector<double> partial(Chunks(grads.size(), kChunk));
  ForRange(pool, grads.size(), kChunk, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      const double g = grads.as<float>()[i];
      sum += g * g;
    }
    partial[begin / kChunk] = sum;
  });
  double squares = 0;
  for (double part : partial) squares += part;
  const float norm = static_cast<float>(std::sqrt(squares) * scalars->gradient_scale);
  scalars->grad_norm = norm;
  scalars->applied = std::isfinite(norm) ? 1 : 0;
  scalars->grad_clip = scalars->gradient_scale;
  if (scalars->max_grad_norm > 0) scalars->grad_clip *= std::min(1.0f, scalars->max_grad_norm / (norm + 1e-6f));
}

}  // namespace kotodama::cpu::plain
