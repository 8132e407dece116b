#include <cstring>

#include "check.h"
#include "reference.h"

namespace kotodama::test {
namespace {

struct Shape {
  int64_t b, t, h, d;
};

struct Reference {
  std::vector<double> out, lse, dqkv;
};

// Plain attention and its gradient in float64.
Reference Compute(const Shape& s, const std::vector<float>& qkv, const std::vector<float>& dout,
                  const Dropout& dropout) {
  const int64_t c = s.h * s.d;
  Reference result;
  result.out.assign(s.b * s.t * c, 0);
  result.lse.assign(s.b * s.h * s.t, 0);
  result.dqkv.assign(s.b * s.t * 3 * c, 0);
  const double scale = 1 / std::sqrt(static_cast<double>(s.d));
  for (int64_t head = 0; head < s.b * s.h; ++head) {
    const int64_t base = head / s.h * s.t * 3 * c + head % s.h * s.d, row0 = head / s.h * s.t * c + head % s.h * s.d;
    for (int64_t q = 0; q < s.t; ++q) {
      std::vector<double> p(q + 1);
      const float* qv = &qkv[base + q * 3 * c];
      const auto key = [&](int64_t k) { return base + k * 3 * c + c; };
      double top = -INFINITY, sum = 0;
      for (int64_t k = 0; k <= q; ++k) {
        p[k] = 0;
        for (int64_t i = 0; i < s.d; ++i) p[k] += static_cast<double>(qv[i]) * qkv[key(k) + i];
        top = std::max(top, p[k] *= scale);
      }
      for (int64_t k = 0; k <= q; ++k) sum += std::exp(p[k] - top);
      result.lse[head * s.t + q] = top + std::log(sum);
      double delta = 0;
      std::vector<double> dp(q + 1), factor(q + 1);
      for (int64_t k = 0; k <= q; ++k) {
        p[k] = std::exp(p[k] - top) / sum;
        factor[k] = DropoutReference(dropout, (head * s.t + q) * s.t + k);
        for (int64_t i = 0; i < s.d; ++i) {
          const double v = qkv[key(k) + c + i], d = dout[row0 + q * c + i];
          result.out[row0 + q * c + i] += p[k] * factor[k] * v;
          dp[k] += d * v * factor[k];
          result.dqkv[key(k) + c + i] += p[k] * factor[k] * d;
        }
        delta += p[k] * dp[k];
      }
      for (int64_t k = 0; k <= q; ++k) {
        const double ds = p[k] * (dp[k] - delta) * scale;
        for (int64_t i = 0; i < s.d; ++i) {
          result.dqkv[base + q * 3 * c + i] += ds * qkv[key(k) + i];
          result.dqkv[key(k) + i] += ds * qv[i];
        }
      }
    }
  }
  return result;
}

struct Found {
  std::vector<float> out, lse, dqkv;
};

Found RunBoth(Device& device, const Shape& s, DType type, const std::vector<float>& qkv, const std::vector<float>& dout,
              const Dropout& dropout) {
  const int64_t c = s.h * s.d;
  AttentionForward forward;
  forward.b = s.b, forward.t = s.t, forward.h = s.h, forward.d = s.d;
  forward.qkv = device.Put(qkv, type, {s.b, s.t, 3 * c});
  forward.out = device.Make(type, {s.b, s.t, c});
  forward.lse = device.Make(DType::kF32, {s.b, s.h, s.t});
  forward.dropout = dropout;
  device->Run(forward);

  AttentionBackward backward;
  backward.b = s.b, backward.t = s.t, backward.h = s.h, backward.d = s.d;
  backward.qkv = forward.qkv;
  backward.out = forward.out;
  backward.lse = forward.lse;
  backward.dout = device.Put(dout, type, {s.b, s.t, c});
  backward.dqkv = device.Put(RandomFloats(s.b * s.t * 3 * c), type, {s.b, s.t, 3 * c});
  backward.dropout = dropout;
  device->Run(backward);
  return {Device::Get(forward.out), Device::Get(forward.lse), Device::Get(backward.dqkv)};
}

void CheckAttention(const Shape& s, DType type, float magnitude, float p) {
  const int64_t c = s.h * s.d;
  const auto qkv = As(RandomFloats(s.b * s.t * 3 * c, magnitude), type);
  const auto dout = As(RandomFloats(s.b * s.t * c), type);
  DropoutKey key = {0x123456789abcdefull, 5};
  const Dropout dropout = {p, 7, &key};
  const Reference expected = Compute(s, qkv, dout, dropout);
  const std::string what =
      Text("B", s.b, "T", s.t, "H", s.h, "D", s.d, type == DType::kBF16 ? "bf16" : "f32", magnitude, p);
  // In bfloat16 p and ds are rounded before they are multiplied.
  const double bound = type == DType::kBF16 ? 1e-2 : 1e-5 * std::max(1.0f, magnitude);
  Found first;
  for (int threads : {1, 2, 3, 7}) {
    Device device(threads);
    const Found found = RunBoth(device, s, type, qkv, dout, dropout);
    CHECK(WorstError(found.out, expected.out) < bound, what, WorstError(found.out, expected.out));
    CHECK(WorstError(found.lse, expected.lse) < 1e-5, what, WorstError(found.lse, expected.lse));
    const double gradient_bound = type == DType::kBF16 ? 2e-2 : 5e-5 * std::max(1.0f, magnitude);
    CHECK(RelativeL2(found.dqkv, expected.dqkv) < gradient_bound, what, RelativeL2(found.dqkv, expected.dqkv));
    if (first.out.empty()) first = found;
    CHECK(std::memcmp(first.out.data(), found.out.data(), found.out.size() * 4) == 0, what, threads);
    CHECK(std::memcmp(first.dqkv.data(), found.dqkv.data(), found.dqkv.size() * 4) == 0, what, threads);
  }
}

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

TEST(AttentionShapes) {
  for (DType type : kTypes) {
    for (const Shape& s : {Shape{1, 1, 1, 1},
                           {2, 1, 3, 8},
                           {1, 63, 2, 5},
                           {2, 97, 3, 16},
                           {1, 193, 2, 17},
                           {1, 64, 2, 64},
                           {1, 33, 1, 49},
                           {1, 40, 1, 128},
                           {1, 2, 1, 3},
                           {3, 10, 5, 96}}) {
      CheckAttention(s, type, 1, 0);
    }
  }
}

TEST(AttentionLong) {
  for (DType type : kTypes) {
    CheckAttention({1, 450, 2, 24}, type, 1, 0);
    CheckAttention({1, 577, 1, 64}, type, 1, 0);
    CheckAttention({1, 300, 1, 96}, type, 1, 0);
  }
}

TEST(AttentionExtremeScores) {
  CheckAttention({1, 250, 2, 16}, DType::kF32, 8, 0);
  CheckAttention({1, 70, 2, 16}, DType::kF32, 0.01f, 0);
  CheckAttention({1, 70, 2, 16}, DType::kBF16, 0.01f, 0);
}

TEST(AttentionDropout) {
  for (DType type : kTypes) {
    CheckAttention({1, 31, 2, 8}, type, 1, 0.3f);
    CheckAttention({2, 203, 3, 12}, type, 1, 0.1f);
  }
}

// What other operations left in the working memory reaches no result.
TEST(AttentionAfterNaN) {
  for (DType type : kTypes) {
    for (float p : {0.0f, 0.2f}) {
      const Shape s = {1, 70, 2, 24};
      const int64_t c = s.h * s.d;
      const auto qkv = RandomFloats(s.t * 3 * c), dout = RandomFloats(s.t * c);
      DropoutKey key = {0x123456789abcdefull, 5};
      Found found[2];
      for (bool poisoned : {false, true}) {
        Device device(2);
        if (poisoned) {
          Gemm product;
          product.m = product.n = product.k = 700;
          product.transpose_a = true;
          product.a = device.Put(std::vector<float>(700 * 700, NAN), DType::kF32, {700, 700});
          product.b = product.a;
          product.c = device.Make(DType::kF32, {700, 700});
          device->Run(product);
        }
        found[poisoned] = RunBoth(device, s, type, qkv, dout, {p, 7, &key});
      }
      CHECK(found[0].out == found[1].out, type == DType::kBF16 ? "bf16" : "f32", p);
      CHECK(found[0].dqkv == found[1].dqkv, type == DType::kBF16 ? "bf16" : "f32", p);
    }
  }
}

// Attending position by position through the cache gives what the whole sequence gives.
TEST(AttentionCache) {
  for (DType type : kTypes) {
    for (const Shape& s : {Shape{1, 1, 1, 1}, {2, 9, 3, 5}, {1, 40, 2, 64}, {2, 33, 2, 17}}) {
      const int64_t c = s.h * s.d, capacity = s.t + 3;
      const auto qkv = As(RandomFloats(s.b * s.t * 3 * c), type);
      const Reference expected = Compute(s, qkv, std::vector<float>(s.b * s.t * c), {});
      Device device(2);
      const Tensor keys = device.Make(type, {s.b, s.h, capacity, s.d}),
                   values = device.Make(type, {s.b, s.h, capacity, s.d});
      std::vector<float> found(s.b * s.t * c);
      for (int64_t past = 0; past < s.t;) {
        const int64_t n = std::min<int64_t>(past == 0 ? 4 : 1, s.t - past);
        std::vector<float> part;
        for (int64_t b = 0; b < s.b; ++b) {
          const auto begin = qkv.begin() + (b * s.t + past) * 3 * c;
          part.insert(part.end(), begin, begin + n * 3 * c);
        }
        AttentionCached op;
        op.b = s.b, op.n = n, op.h = s.h, op.d = s.d, op.past = past, op.capacity = capacity;
        op.qkv = device.Put(part, type, {s.b, n, 3 * c});
        op.keys = keys;
        op.values = values;
        op.out = device.Make(type, {s.b, n, c});
        device->Run(op);
        const auto out = Device::Get(op.out);
        for (int64_t b = 0; b < s.b; ++b) {
          std::copy(out.begin() + b * n * c, out.begin() + (b + 1) * n * c, found.begin() + (b * s.t + past) * c);
        }
        past += n;
      }
      CHECK(WorstError(found, expected.out) < (type == DType::kBF16 ? 5e-3 : 1e-5), s.t, s.d,
            WorstError(found, expected.out));
    }
  }
}

}  // namespace
}  // namespace kotodama::test
