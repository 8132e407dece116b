#include "plain_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench.h"
#include "reference/philox.h"

namespace kotodama::test {
namespace {

std::vector<float> Values(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = tensor.dtype == DType::kBF16 ? FromBf16(tensor.as<uint16_t>()[i]) : tensor.as<float>()[i];
  }
  return values;
}

void Store(const Tensor& tensor, size_t i, float value) {
  if (tensor.dtype == DType::kBF16) {
    tensor.as<uint16_t>()[i] = RoundToBf16(value);
  } else {
    tensor.as<float>()[i] = value;
  }
}

// Of the element with this index, see Dropout in backend.h.
float Factor(const Dropout& dropout, uint64_t index) {
  if (dropout.p == 0) return 1;
  const uint64_t group = index / 4, seed = dropout.key->seed;
  const auto words = Philox({static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), dropout.site,
                             static_cast<uint32_t>(dropout.key->micro_step)},
                            static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return words[index % 4] < static_cast<double>(dropout.p) * 4294967296.0 ? 0.0f : 1 / (1 - dropout.p);
}

// One row of the probabilities of one head: what query `i` gives to the keys 0 ... i.
template <typename Op>
class Row {
 public:
  Row(const Op& op, const std::vector<float>& qkv, int64_t b, int64_t h)
      : op_(op),
        qkv_(qkv),
        t_(static_cast<size_t>(op.t)),
        d_(static_cast<size_t>(op.d)),
        c_(static_cast<size_t>(op.h) * d_),
        head_(static_cast<size_t>(b * op.h + h)),
        qkv_head_(static_cast<size_t>(b) * t_ * 3 * c_ + static_cast<size_t>(h) * d_),
        out_head_(static_cast<size_t>(b) * t_ * c_ + static_cast<size_t>(h) * d_),
        scale_(static_cast<float>(1 / std::sqrt(static_cast<double>(op.d)))) {}

  // Indices of element k of query (0), key (1) or value (2) `row`; of the output's; of a number per query.
  size_t At(size_t row, size_t which, size_t k) const { return qkv_head_ + row * 3 * c_ + which * c_ + k; }
  size_t Out(size_t row, size_t k) const { return out_head_ + row * c_ + k; }
  size_t Query(size_t row) const { return head_ * t_ + row; }

  float scale() const { return scale_; }
  float Rounded(float value) const { return op_.qkv.dtype == DType::kBF16 ? FromBf16(RoundToBf16(value)) : value; }
  float Dropped(size_t i, size_t j) const { return Factor(op_.dropout, (head_ * t_ + i) * t_ + j); }

  // Fills `p`, i + 1 probabilities before dropout; gives the log-sum-exp of the scores.
  float Probabilities(size_t i, float* p) const {
    float max = -INFINITY, sum = 0;
    for (size_t j = 0; j <= i; ++j) {
      float score = 0;
      for (size_t k = 0; k < d_; ++k) score += qkv_[At(i, 0, k)] * qkv_[At(j, 1, k)];
      p[j] = Rounded(Rounded(score) * scale_);
      max = std::max(max, p[j]);
    }
    for (size_t j = 0; j <= i; ++j) sum += p[j] = std::exp(p[j] - max);
    for (size_t j = 0; j <= i; ++j) p[j] = Rounded(p[j] / sum);
    return max + std::log(sum);
  }

 private:
  const Op& op_;
  const std::vector<float>& qkv_;
  size_t t_, d_, c_, head_, qkv_head_, out_head_;
  float scale_;
};

template <typename Op, typename Body>
void ForEachHead(const Op& op, const std::vector<float>& qkv, const Body& body) {
  for (int64_t b = 0; b < op.b; ++b) {
    for (int64_t h = 0; h < op.h; ++h) body(Row<Op>(op, qkv, b, h));
  }
}

}  // namespace

void PlainAttention(const AttentionForward& op) {
  const std::vector<float> qkv = Values(op.qkv);
  const auto t = static_cast<size_t>(op.t), d = static_cast<size_t>(op.d);
  std::vector<float> p(t);
  ForEachHead(op, qkv, [&](const auto& row) {
    for (size_t i = 0; i < t; ++i) {
      Store(op.lse, row.Query(i), row.Probabilities(i, p.data()));
      for (size_t j = 0; j <= i; ++j) p[j] = row.Rounded(p[j] * row.Dropped(i, j));
      for (size_t k = 0; k < d; ++k) {
        float total = 0;
        for (size_t j = 0; j <= i; ++j) total += p[j] * qkv[row.At(j, 2, k)];
        Store(op.out, row.Out(i, k), total);
      }
    }
  });
}

void PlainAttention(const AttentionBackward& op) {
  const std::vector<float> qkv = Values(op.qkv), dout = Values(op.dout);
  const auto t = static_cast<size_t>(op.t), d = static_cast<size_t>(op.d);
  std::vector<float> p(t), ds(t), dqkv(qkv.size());
  ForEachHead(op, qkv, [&](const auto& row) {
    for (size_t i = 0; i < t; ++i) {
      row.Probabilities(i, p.data());
      float delta = 0;
      for (size_t j = 0; j <= i; ++j) {
        float total = 0;
        for (size_t k = 0; k < d; ++k) total += dout[row.Out(i, k)] * qkv[row.At(j, 2, k)];
        const float factor = row.Dropped(i, j), weight = row.Rounded(p[j] * factor);
        ds[j] = row.Rounded(row.Rounded(total) * factor);
        delta += ds[j] * p[j];
        for (size_t k = 0; k < d; ++k) dqkv[row.At(j, 2, k)] += weight * dout[row.Out(i, k)];
      }
      for (size_t j = 0; j <= i; ++j) ds[j] = row.Rounded(row.Rounded(p[j] * (ds[j] - delta)) * row.scale());
      for (size_t j = 0; j <= i; ++j) {
        for (size_t k = 0; k < d; ++k) {
          dqkv[row.At(i, 0, k)] += ds[j] * qkv[row.At(j, 1, k)];
          dqkv[row.At(j, 1, k)] += ds[j] * qkv[row.At(i, 0, k)];
        }
      }
    }
  });
  for (size_t i = 0; i < dqkv.size(); ++i) Store(op.dqkv, i, dqkv[i]);
}

}  // namespace kotodama::test
