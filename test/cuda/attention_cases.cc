#include <algorithm>
#include <cmath>

#include "bench.h"

// Attention by flash-attention's rule: the error against float64 is at most twice that of a plain implementation which
// stores every intermediate result (scores, probabilities, their gradients) in the same precision.

namespace kotodama::test {
namespace {

constexpr DropoutKey kKey = {42, 3};

struct Shape {
  int64_t b, t, h, d;
};

float Rounded(DType type, double value) {
  const float narrow = static_cast<float>(value);
  return type == DType::kBF16 ? FromBf16(RoundToBf16(narrow)) : narrow;
}

// The plain implementation, without dropout: what PyTorch's unfused attention does in this precision.
struct Plain {
  std::vector<float> out, dqkv;

  Plain(DType type, Shape s, const std::vector<float>& qkv, const std::vector<float>& dout)
      : out(dout.size()), dqkv(qkv.size()) {
    const auto t = static_cast<size_t>(s.t), d = static_cast<size_t>(s.d), c = static_cast<size_t>(s.h) * d;
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.d)));
    for (int64_t b = 0; b < s.b; ++b) {
      for (int64_t h = 0; h < s.h; ++h) {
        const size_t head = static_cast<size_t>(b) * t * 3 * c + static_cast<size_t>(h) * d;
        const size_t out_head = static_cast<size_t>(b) * t * c + static_cast<size_t>(h) * d;
        const auto at = [&](size_t row, size_t which, size_t i) { return head + row * 3 * c + which * c + i; };
        for (size_t i = 0; i < t; ++i) {
          std::vector<float> p(i + 1), ds(i + 1);
          float max = -1e30f, sum = 0, delta = 0;
          for (size_t j = 0; j <= i; ++j) {
            float score = 0;
            for (size_t k = 0; k < d; ++k) score += qkv[at(i, 0, k)] * qkv[at(j, 1, k)];
            p[j] = Rounded(type, Rounded(type, score) * scale);
            max = std::max(max, p[j]);
          }
          for (float& x : p) sum += x = std::exp(x - max);
          for (float& x : p) x = Rounded(type, x / sum);
          for (size_t k = 0; k < d; ++k) {
            float total = 0;
            for (size_t j = 0; j <= i; ++j) total += p[j] * qkv[at(j, 2, k)];
            out[out_head + i * c + k] = Rounded(type, total);
          }
          for (size_t j = 0; j <= i; ++j) {
            float total = 0;
            for (size_t k = 0; k < d; ++k) total += dout[out_head + i * c + k] * qkv[at(j, 2, k)];
            ds[j] = Rounded(type, total);
            delta += ds[j] * p[j];
          }
          for (size_t j = 0; j <= i; ++j) ds[j] = Rounded(type, Rounded(type, p[j] * (ds[j] - delta)) * scale);
          for (size_t j = 0; j <= i; ++j) {
            for (size_t k = 0; k < d; ++k) {
              dqkv[at(i, 0, k)] += ds[j] * qkv[at(j, 1, k)];
              dqkv[at(j, 1, k)] += ds[j] * qkv[at(i, 0, k)];
              dqkv[at(j, 2, k)] += p[j] * dout[out_head + i * c + k];
            }
          }
        }
      }
    }
    for (float& x : dqkv) x = Rounded(type, x);
  }
};

double WorstError(const std::vector<float>& got, const std::vector<float>& want) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

void ExpectTwice(Bench& bench, const std::string& what, const Pair& pair, const std::vector<float>& plain) {
  const std::vector<float> want = bench.Reference(pair);
  const double error = WorstError(bench.Device(pair), want), allowed = 2 * WorstError(plain, want) + 1e-6;
  bench.ExpectTrue(
      what + ": error " + std::to_string(error) + " is at most twice the plain one's, " + std::to_string(allowed),
      error <= allowed);
}

void CheckAttention(Bench& bench, DType type, Shape s, float p, float scale) {
  const int64_t c = s.h * s.d;
  const Pair qkv = bench.Input(type, {s.b, s.t, 3 * c}, scale), dout = bench.Input(type, {s.b, s.t, c});
  const Pair out = bench.Output(type, {s.b, s.t, c}), lse = bench.Output(DType::kF32, {s.b, s.h, s.t});
  const Pair dqkv = bench.Output(type, {s.b, s.t, 3 * c});
  const auto key = bench.Raw(&kKey, sizeof kKey);
  const auto dropout = [&](bool is_device) {
    return Dropout{p, 9, static_cast<const DropoutKey*>(is_device ? key.second : key.first)};
  };
  bench.Run(
      [&](Backend& backend, bool is_device) {
        const auto side = [&](const Pair& pair) { return is_device ? pair.device : pair.reference; };
        AttentionForward op;
        op.b = s.b;
        op.t = s.t;
        op.h = s.h;
        op.d = s.d;
        op.qkv = side(qkv);
        op.out = side(out);
        op.lse = side(lse);
        op.dropout = dropout(is_device);
        backend.Run(op);
      },
      {out, lse});
  bench.Expect("lse", lse, {1e-5, 1e-5});
  // The same saved output on both sides, so that backward is checked alone.
  const Pair saved_out = bench.Input(type, {s.b, s.t, c}, bench.Reference(out));
  const Pair saved_lse = bench.Input(DType::kF32, {s.b, s.h, s.t}, bench.Reference(lse));
  bench.Run(
      [&](Backend& backend, bool is_device) {
        const auto side = [&](const Pair& pair) { return is_device ? pair.device : pair.reference; };
        AttentionBackward op;
        op.b = s.b;
        op.t = s.t;
        op.h = s.h;
        op.d = s.d;
        op.qkv = side(qkv);
        op.out = side(saved_out);
        op.lse = side(saved_lse);
        op.dout = side(dout);
        op.dqkv = side(dqkv);
        op.dropout = dropout(is_device);
        backend.Run(op);
      },
      {dqkv});
  if (p > 0) {
    bench.Expect("out", out, type == DType::kBF16 ? Tolerance{0.01, 0.01} : Tolerance{1e-5, 1e-5});
    bench.Expect("dqkv", dqkv, type == DType::kBF16 ? Tolerance{0.02, 0.03} : Tolerance{2e-5, 2e-5});
    return;
  }
  const Plain plain(type, s, bench.Reference(qkv), bench.Reference(dout));
  ExpectTwice(bench, "out", out, plain.out);
  ExpectTwice(bench, "dqkv", dqkv, plain.dqkv);
}

// A prompt in two parts and one more position; the cache and every output must be those of the reference.
void CheckCached(Bench& bench, DType type, int64_t b, int64_t h, int64_t d, int64_t capacity) {
  const Pair keys = bench.Output(type, {b, h, capacity, d}), values = bench.Output(type, {b, h, capacity, d});
  int64_t past = 0;
  for (int64_t n : {capacity / 2, capacity / 3, int64_t{1}}) {
    const Pair qkv = bench.Input(type, {b, n, 3 * h * d}), out = bench.Output(type, {b, n, h * d});
    bench.Run(
        [&](Backend& backend, bool is_device) {
          const auto side = [&](const Pair& pair) { return is_device ? pair.device : pair.reference; };
          AttentionCached op;
          op.b = b;
          op.n = n;
          op.h = h;
          op.d = d;
          op.past = past;
          op.capacity = capacity;
          op.qkv = side(qkv);
          op.keys = side(keys);
          op.values = side(values);
          op.out = side(out);
          backend.Run(op);
        },
        {keys, values, out});
    bench.Expect("keys", keys, {});
    bench.Expect("values", values, {});
    bench.Expect("out", out, type == DType::kBF16 ? Tolerance{0.006, 0.002} : Tolerance{1e-5, 1e-5});
    past += n;
  }
}

}  // namespace

std::vector<Case> AttentionCases() {
  std::vector<Case> cases;
  const auto add = [&](DType type, Shape s, float p, float scale) {
    const std::string name = std::string("attention ") + NameOf(type) + " B" + std::to_string(s.b) + " T" +
                             std::to_string(s.t) + " H" + std::to_string(s.h) + " D" + std::to_string(s.d) +
                             (p > 0 ? " dropout" : "") + (scale > 1 ? " large" : "");
    cases.push_back({name, [=](Bench& bench) { CheckAttention(bench, type, s, p, scale); }});
  };
  for (DType type : {DType::kF32, DType::kBF16}) {
    add(type, {2, 1, 2, 64}, 0, 1);
    add(type, {1, 63, 2, 32}, 0, 1);
    add(type, {1, 97, 3, 64}, 0, 1);
    add(type, {2, 129, 1, 96}, 0, 1);
    add(type, {1, 150, 1, 128}, 0, 1);
    add(type, {1, 97, 5, 40}, 0, 1);
    add(type, {1, 70, 1, 64}, 0, 5);
    add(type, {1, 65, 2, 8}, 0, 1);
    add(type, {1, 67, 1, 20}, 0, 1);
    add(type, {1, 33, 1, 200}, 0, 1);
    add(type, {2, 99, 2, 32}, 0.2f, 1);
    add(type, {1, 70, 1, 72}, 0.5f, 1);
    // Rows of T that start with a group of four random numbers.
    add(type, {2, 68, 2, 64}, 0.2f, 1);
    add(type, {1, 72, 3, 96}, 0.3f, 1);
    for (int64_t d : {24, 64}) {
      cases.push_back({std::string("cached attention ") + NameOf(type) + " D" + std::to_string(d),
                       [=](Bench& bench) { CheckCached(bench, type, 2, 2, d, 150); }});
    }
    cases.push_back({std::string("cached attention ") + NameOf(type) + " in splits",
                     [=](Bench& bench) { CheckCached(bench, type, 1, 2, 64, 600); }});
  }
  return cases;
}

}  // namespace kotodama::test
