#include "reference/reference_backend.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "error.h"
#include "reference/philox.h"

namespace kotodama {
namespace {

float LoadFloat(const Tensor& tensor, int64_t i) {
  if (tensor.dtype == DType::kF32) return tensor.as<float>()[i];
  const uint32_t bits = static_cast<uint32_t>(tensor.as<uint16_t>()[i]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

void Store(const Tensor& tensor, int64_t i, double value) {
  const float narrow = static_cast<float>(value);
  if (tensor.dtype == DType::kF32) {
    tensor.as<float>()[i] = narrow;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  const bool nan = (bits & 0x7fffffff) > 0x7f800000;
  tensor.as<uint16_t>()[i] =
      nan ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest even
}

// The factor of element i: 0 or 1 / (1 - p).
double MaskOf(const Dropout& dropout, uint64_t i) {
  if (dropout.p == 0) return 1;
  const uint64_t group = i / 4;
  const auto words = Philox({static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), dropout.site,
                             static_cast<uint32_t>(dropout.key->micro_step)},
                            static_cast<uint32_t>(dropout.key->seed), static_cast<uint32_t>(dropout.key->seed >> 32));
  const double threshold = static_cast<double>(dropout.p) * 4294967296.0;
  return words[i % 4] < threshold ? 0 : 1 / (1 - static_cast<double>(dropout.p));
}

// Element i rounded to bf16, up or down at random.
float RoundedAtRandom(const StochasticRounding& rounding, float value, int64_t i) {
  const RoundingKey& key = *rounding.key;
  const uint64_t index = static_cast<uint64_t>(rounding.first + i), group = index / 4;
  const auto words = Philox({static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32),
                             static_cast<uint32_t>(key.step), static_cast<uint32_t>(key.step >> 32)},
                            static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
  if (std::isnan(value)) return value;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  // The lower half is how far the number lies from the neighbour towards zero, in parts of 2^16 of the gap.
  const bool away = (bits & 0xffff) + (words[index % 4] & 0xffff) >= 0x10000;
  bits = (bits & 0xffff0000) + (away ? 0x10000 : 0);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// sqrt(2 / pi) and the cubic coefficient of the tanh form.
constexpr double kGeluScale = 0.79788456080286535588;
constexpr double kGeluCubic = 0.044715;

// All arithmetic is done in Real, in the order of these lines.
template <typename Real>
class PlainBackend final : public Backend {
 public:
  // Claims a gibibyte, so that what plans its memory accepts it.
  DeviceInfo Info() const override {
    return {"cpu", "reference", "float" + std::to_string(8 * sizeof(Real)) + " sums, 1 thread", 1u << 30, 1u << 30};
  }
  bool SupportsBF16() const override { return true; }

  void* Allocate(size_t bytes) override {
    void* data = std::calloc(bytes == 0 ? 1 : bytes, 1);
    if (data == nullptr) throw Error(ErrorCode::kMemory, "needs " + std::to_string(bytes) + " bytes");
    return data;
  }
  void Free(void* data) noexcept override { std::free(data); }
  void Upload(void* target, const void* source, size_t bytes) override { std::memcpy(target, source, bytes); }
  void Download(void* target, const void* source, size_t bytes) override { std::memcpy(target, source, bytes); }
  void Zero(void* data, size_t bytes) override { std::memset(data, 0, bytes); }
  void Synchronize() override {}
  void Record(uint64_t, const std::function<void()>& enqueue) override { enqueue(); }

  void Run(const EmbeddingForward& op) override {
    const int64_t t = op.ids.shape[1], c = op.wte.shape[1];
    for (int64_t row = 0; row < op.ids.size(); ++row) {
      const int64_t id = op.ids.as<int32_t>()[row], position = op.position + row % t;
      for (int64_t j = 0; j < c; ++j) {
        const Real value = Load(op.wte, id * c + j) + Load(op.wpe, position * c + j);
        Store(op.out, row * c + j, value * Mask(op.dropout, row * c + j));
      }
    }
  }

  void Run(const EmbeddingBackward& op) override {
    const int64_t t = op.ids.shape[1], c = op.dwte.shape[1];
    std::vector<Real> dwte(op.dwte.size()), dwpe(op.dwpe.size());
    for (int64_t row = 0; row < op.ids.size(); ++row) {
      const int64_t id = op.ids.as<int32_t>()[row];
      for (int64_t j = 0; j < c; ++j) {
        const Real value = Load(op.dout, row * c + j) * Mask(op.dropout, row * c + j);
        dwte[id * c + j] += value;
        dwpe[row % t * c + j] += value;
      }
    }
    for (int64_t i = 0; i < op.dwte.size(); ++i) Put(op.dwte, i, dwte[i], true);
    for (int64_t i = 0; i < op.dwpe.size(); ++i) Put(op.dwpe, i, dwpe[i], true);
  }

  void Run(const LayerNormForward& op) override {
    const int64_t n = op.x.shape[0], c = op.x.shape[1];
    std::vector<Real> sum(c);
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t j = 0; j < c; ++j) {
        const int64_t i = row * c + j;
        sum[j] = Load(op.x, i);
        if (op.addend) {
          sum[j] = static_cast<float>(sum[j] + Load(op.addend, i) * Mask(op.dropout, i));
          Store(op.sum, i, sum[j]);
        }
      }
      Real mean = 0, variance = 0;
      for (Real value : sum) mean += value / c;
      for (Real value : sum) variance += (value - mean) * (value - mean) / c;
      const Real rstd = 1 / std::sqrt(variance + op.eps);
      for (int64_t j = 0; j < c; ++j) {
        Store(op.out, row * c + j, (sum[j] - mean) * rstd * Load(op.weight, j) + Load(op.bias, j));
      }
      if (op.mean) Store(op.mean, row, mean);
      if (op.rstd) Store(op.rstd, row, rstd);
    }
  }

  // With xhat = (x - mean) rstd and g = dout weight: dx = rstd (g - mean(g) - xhat mean(g xhat)).
  void Run(const LayerNormBackward& op) override {
    const int64_t n = op.x.shape[0], c = op.x.shape[1];
    std::vector<Real> dweight(c), dbias(c);
    for (int64_t row = 0; row < n; ++row) {
      const Real mean = Load(op.mean, row), rstd = Load(op.rstd, row);
      Real mean_g = 0, mean_gx = 0;
      for (int64_t j = 0; j < c; ++j) {
        const Real xhat = (Load(op.x, row * c + j) - mean) * rstd, dout = Load(op.dout, row * c + j);
        const Real g = dout * Load(op.weight, j);
        mean_g += g / c;
        mean_gx += g * xhat / c;
        dweight[j] += dout * xhat;
        dbias[j] += dout;
      }
      for (int64_t j = 0; j < c; ++j) {
        const int64_t i = row * c + j;
        const Real xhat = (Load(op.x, i) - mean) * rstd, g = Load(op.dout, i) * Load(op.weight, j);
        Put(op.dx, i, rstd * (g - mean_g - xhat * mean_gx), op.accumulate_dx);
        if (op.daddend) Store(op.daddend, i, Load(op.dx, i) * Mask(op.dropout, i));
      }
    }
    for (int64_t j = 0; j < c; ++j) {
      Put(op.dweight, j, dweight[j], op.accumulate);
      Put(op.dbias, j, dbias[j], op.accumulate);
    }
  }

  void Run(const Gemm& op) override {
    const int64_t lda = op.lda ? op.lda : (op.transpose_a ? op.m : op.k);
    const int64_t ldb = op.ldb ? op.ldb : (op.transpose_b ? op.k : op.n);
    const int64_t ldc = op.ldc ? op.ldc : op.n;
    // Rows of b, read once: each sum still is taken along K in its order, but many at a time.
    std::vector<Real> b(op.k * op.n), sums(op.n);
    for (int64_t p = 0; p < op.k; ++p) {
      for (int64_t j = 0; j < op.n; ++j) b[p * op.n + j] = Load(op.b, op.transpose_b ? j * ldb + p : p * ldb + j);
    }
    for (int64_t i = 0; i < op.m; ++i) {
      for (int64_t j = 0; j < op.n; ++j) sums[j] = op.bias ? Load(op.bias, j) : 0;
      for (int64_t p = 0; p < op.k; ++p) {
        const Real a = Load(op.a, op.transpose_a ? p * lda + i : i * lda + p);
        const Real* const row = b.data() + p * op.n;
        for (int64_t j = 0; j < op.n; ++j) sums[j] += a * row[j];
      }
      for (int64_t j = 0; j < op.n; ++j) {
        Real value = sums[j];
        if (op.epilogue == Epilogue::kGelu) {
          Store(op.aux, i * op.n + j, value);
          value = GeluOf(Load(op.aux, i * op.n + j));
        } else if (op.epilogue == Epilogue::kGeluBackward) {
          value *= GeluSlope(Load(op.aux, i * op.n + j));
        }
        Put(op.c, i * ldc + j, value, op.accumulate);
      }
    }
    if (!op.bias_gradient) return;
    for (int64_t j = 0; j < op.n; ++j) {
      Real sum = 0;
      for (int64_t p = 0; p < op.k; ++p) sum += b[p * op.n + j];
      Put(op.bias_gradient, j, sum, op.accumulate);
    }
  }

  void Run(const AttentionForward& op) override {
    std::vector<Real> weights(op.t);
    ForEachHead(op, [&](int64_t b, int64_t h) {
      for (int64_t q = 0; q < op.t; ++q) {
        const Real lse = Probabilities(op, b, h, q, weights.data());
        Store(op.lse, (b * op.h + h) * op.t + q, lse);
        for (int64_t j = 0; j < op.d; ++j) {
          Real value = 0;
          for (int64_t k = 0; k <= q; ++k) {
            value +=
                weights[k] * Mask(op.dropout, AttentionIndex(op, b, h, q, k)) * Load(op.qkv, At(op, b, k, 2, h, j));
          }
          Store(op.out, ((b * op.t + q) * op.h + h) * op.d + j, value);
        }
      }
    });
  }

  void Run(const AttentionBackward& op) override {
    const Real scale = 1 / std::sqrt(static_cast<Real>(op.d));
    std::vector<Real> weights(op.t), slope(op.t), grad(op.dqkv.size());
    ForEachHead(op, [&](int64_t b, int64_t h) {
      for (int64_t q = 0; q < op.t; ++q) {
        Probabilities(op, b, h, q, weights.data());
        Real mean = 0;
        for (int64_t k = 0; k <= q; ++k) {
          const Real mask = Mask(op.dropout, AttentionIndex(op, b, h, q, k));
          slope[k] = 0;
          for (int64_t j = 0; j < op.d; ++j) {
            const Real dout = Load(op.dout, ((b * op.t + q) * op.h + h) * op.d + j);
            slope[k] += dout * mask * Load(op.qkv, At(op, b, k, 2, h, j));
            grad[At(op, b, k, 2, h, j)] += dout * mask * weights[k];
          }
          mean += weights[k] * slope[k];
        }
        for (int64_t k = 0; k <= q; ++k) {
          const Real dscore = weights[k] * (slope[k] - mean) * scale;
          for (int64_t j = 0; j < op.d; ++j) {
            grad[At(op, b, q, 0, h, j)] += dscore * Load(op.qkv, At(op, b, k, 1, h, j));
            grad[At(op, b, k, 1, h, j)] += dscore * Load(op.qkv, At(op, b, q, 0, h, j));
          }
        }
      }
    });
    for (int64_t i = 0; i < op.dqkv.size(); ++i) Store(op.dqkv, i, grad[i]);
  }

  void Run(const AttentionCached& op) override {
    const Real scale = 1 / std::sqrt(static_cast<Real>(op.d));
    const auto qkv_at = [&](int64_t b, int64_t t, int64_t part, int64_t h, int64_t j) {
      return Load(op.qkv, (((b * op.n + t) * 3 + part) * op.h + h) * op.d + j);
    };
    for (int64_t b = 0; b < op.b; ++b) {
      for (int64_t h = 0; h < op.h; ++h) {
        const int64_t cache = (b * op.h + h) * op.capacity * op.d;
        for (int64_t t = 0; t < op.n; ++t) {
          const int64_t keys = op.past + t + 1;
          std::vector<Real> weights(keys);
          Real sum = 0, largest = -INFINITY;
          for (int64_t j = 0; j < op.d; ++j) {
            Store(op.keys, cache + (op.past + t) * op.d + j, qkv_at(b, t, 1, h, j));
            Store(op.values, cache + (op.past + t) * op.d + j, qkv_at(b, t, 2, h, j));
          }
          for (int64_t k = 0; k < keys; ++k) {
            for (int64_t j = 0; j < op.d; ++j) {
              weights[k] += scale * qkv_at(b, t, 0, h, j) * Load(op.keys, cache + k * op.d + j);
            }
            largest = std::fmax(largest, weights[k]);
          }
          for (Real& weight : weights) sum += weight = std::exp(weight - largest);
          for (int64_t j = 0; j < op.d; ++j) {
            Real value = 0;
            for (int64_t k = 0; k < keys; ++k) value += weights[k] / sum * Load(op.values, cache + k * op.d + j);
            Store(op.out, ((b * op.n + t) * op.h + h) * op.d + j, value);
          }
        }
      }
    }
  }

  void Run(const CrossEntropy& op) override {
    const int64_t rows = op.logits.shape[0], vp = op.logits.shape[1];
    for (int64_t r = 0; r < rows; ++r) {
      const int32_t label = op.labels.as<int32_t>()[r];
      Real largest = -INFINITY, sum = 0;
      for (int64_t v = 0; v < op.v; ++v) largest = std::fmax(largest, Load(op.logits, r * vp + v));
      for (int64_t v = 0; v < op.v; ++v) sum += std::exp(Load(op.logits, r * vp + v) - largest);
      const Real lse = largest + std::log(sum);
      Store(op.losses, r, label == kIgnoredLabel ? 0 : lse - Load(op.logits, r * vp + label));
      if (!op.gradient) continue;
      for (int64_t v = 0; v < vp; ++v) {
        const bool counts = label != kIgnoredLabel && v < op.v;
        Store(op.logits, r * vp + v, counts ? std::exp(Load(op.logits, r * vp + v) - lse) - (v == label) : 0);
      }
    }
  }

  // Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2, as torch.optim.AdamW computes it.
  void Run(const AdamW& op) override {
    const OptimizerScalars& s = *op.scalars;
    if (!s.applied) return;
    for (int64_t i = 0; i < op.param.size(); ++i) {
      const Real grad = Load(op.grad, i) * s.grad_clip;
      const Real m = s.beta1 * Load(op.exp_avg, i) + (1 - static_cast<Real>(s.beta1)) * grad;
      const Real v = s.beta2 * Load(op.exp_avg_sq, i) + (1 - static_cast<Real>(s.beta2)) * grad * grad;
      const Real decayed = Load(op.param, i) * (1 - (op.decay ? 1.0 * s.learning_rate * s.weight_decay : 0));
      const Real update = (m / s.correction1) / (std::sqrt(v / s.correction2) + s.eps);
      Store(op.exp_avg, i, m);
      Store(op.exp_avg_sq, i, v);
      Store(op.param, i, decayed - s.learning_rate * update);
      if (!op.compute) continue;
      const float copy = LoadFloat(op.param, i);
      Store(op.compute, i, op.rounding.key != nullptr ? RoundedAtRandom(op.rounding, copy, i) : copy);
    }
  }

  void Gelu(const Tensor& target, const Tensor& source) override {
    for (int64_t i = 0; i < source.size(); ++i) Store(target, i, GeluOf(Load(source, i)));
  }

  void Cast(const Tensor& target, const Tensor& source) override {
    for (int64_t i = 0; i < source.size(); ++i) Store(target, i, Load(source, i));
  }

  void Round(const Tensor& target, const Tensor& source, const StochasticRounding& rounding) override {
    for (int64_t i = 0; i < source.size(); ++i) Store(target, i, RoundedAtRandom(rounding, LoadFloat(source, i), i));
  }

  void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) override {
    *totals = {};
    for (int64_t i = 0; i < losses.size(); ++i) {
      totals->sum += Load(losses, i);
      totals->count += labels.as<int32_t>()[i] != kIgnoredLabel;
    }
  }

  void GlobalNorm(const Tensor& grads, OptimizerScalars* scalars) override {
    Real sum = 0;
    for (int64_t i = 0; i < grads.size(); ++i) sum += Load(grads, i) * Load(grads, i);
    const Real norm = std::sqrt(sum) * scalars->gradient_scale;
    scalars->grad_norm = static_cast<float>(norm);
    scalars->applied = std::isfinite(scalars->grad_norm);
    const Real clip = scalars->max_grad_norm > 0 ? std::fmin(1, scalars->max_grad_norm / (norm + 1e-6)) : 1;
    scalars->grad_clip = scalars->applied ? static_cast<float>(scalars->gradient_scale * clip) : 0;
  }

 private:
  static Real Load(const Tensor& tensor, int64_t i) { return LoadFloat(tensor, i); }

  static void Put(const Tensor& tensor, int64_t i, Real value, bool accumulate) {
    Store(tensor, i, accumulate ? Load(tensor, i) + value : value);
  }

  static Real Mask(const Dropout& dropout, uint64_t i) { return static_cast<Real>(MaskOf(dropout, i)); }

  static Real GeluOf(Real x) { return x / 2 * (1 + std::tanh(kScale * (x + kCubic * x * x * x))); }

  static Real GeluSlope(Real x) {
    const Real tanh = std::tanh(kScale * (x + kCubic * x * x * x));
    return (1 + tanh) / 2 + x / 2 * (1 - tanh * tanh) * kScale * (1 + 3 * kCubic * x * x);
  }

  static constexpr Real kScale = static_cast<Real>(kGeluScale), kCubic = static_cast<Real>(kGeluCubic);

  template <typename Op>
  static int64_t At(const Op& op, int64_t b, int64_t t, int64_t part, int64_t h, int64_t j) {
    return (((b * op.t + t) * 3 + part) * op.h + h) * op.d + j;
  }

  template <typename Op>
  static uint64_t AttentionIndex(const Op& op, int64_t b, int64_t h, int64_t q, int64_t k) {
    return ((b * op.h + h) * op.t + q) * op.t + k;
  }

  template <typename Op, typename Body>
  static void ForEachHead(const Op& op, const Body& body) {
    for (int64_t b = 0; b < op.b; ++b) {
      for (int64_t h = 0; h < op.h; ++h) body(b, h);
    }
  }

  // weights[0..q] = softmax of the scaled scores of query q; gives their log-sum-exp.
  template <typename Op>
  static Real Probabilities(const Op& op, int64_t b, int64_t h, int64_t q, Real* weights) {
    const Real scale = 1 / std::sqrt(static_cast<Real>(op.d));
    Real largest = -INFINITY, sum = 0;
    for (int64_t k = 0; k <= q; ++k) {
      weights[k] = 0;
      for (int64_t j = 0; j < op.d; ++j) {
        weights[k] += scale * Load(op.qkv, At(op, b, q, 0, h, j)) * Load(op.qkv, At(op, b, k, 1, h, j));
      }
      largest = std::fmax(largest, weights[k]);
    }
    for (int64_t k = 0; k <= q; ++k) sum += weights[k] = std::exp(weights[k] - largest);
    for (int64_t k = 0; k <= q; ++k) weights[k] /= sum;
    return largest + std::log(sum);
  }
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() {
  return std::make_unique<PlainBackend<double>>();
}

std::unique_ptr<Backend> MakePlainBackend() {
  return std::make_unique<PlainBackend<float>>();
}

}  // namespace kotodama
