#include <cmath>

#include "bench.h"
#include "plain_attention.h"

// Attention by flash-attention's rule: the plain implementation stores every intermediate result (scores,
// probabilities, their gradients) in the tensors' precision.

namespace kotodama::test {
namespace {

constexpr DropoutKey kKey = {42, 3};
constexpr uint32_t kSite = 9;

struct Shape {
  int64_t b, t, h, d;
};

template <typename Op>
void Run(Backend& backend, Side side, const Op& op) {
  if (side == Side::kPlain) {
    PlainAttention(op);
  } else {
    backend.Run(op);
  }
}

void CheckAttention(Bench& bench, DType type, Shape s, float p, float scale) {
  const int64_t c = s.h * s.d;
  const Trio qkv = bench.Input(type, {s.b, s.t, 3 * c}, scale), dout = bench.Input(type, {s.b, s.t, c});
  const Trio out = bench.Output(type, {s.b, s.t, c}), lse = bench.Output(DType::kF32, {s.b, s.h, s.t});
  const Trio dqkv = bench.Output(type, {s.b, s.t, 3 * c});
  const auto key = bench.Struct(kKey);
  bench.Run(
      [&](Backend& backend, const On& on) {
        AttentionForward op;
        op.b = s.b;
        op.t = s.t;
        op.h = s.h;
        op.d = s.d;
        op.qkv = on(qkv);
        op.out = on(out);
        op.lse = on(lse);
        op.dropout = Dropout{p, kSite, on(key)};
        Run(backend, on.side, op);
      },
      {out, lse});
  bench.Expect("lse", lse, {1e-5, 1e-5});
  // The same saved output on all sides, so that backward is checked alone.
  const Trio saved_out = bench.Input(type, {s.b, s.t, c}, bench.Read(out, Side::kReference));
  const Trio saved_lse = bench.Input(DType::kF32, {s.b, s.h, s.t}, bench.Read(lse, Side::kReference));
  bench.Run(
      [&](Backend& backend, const On& on) {
        AttentionBackward op;
        op.b = s.b;
        op.t = s.t;
        op.h = s.h;
        op.d = s.d;
        op.qkv = on(qkv);
        op.out = on(saved_out);
        op.lse = on(saved_lse);
        op.dout = on(dout);
        op.dqkv = on(dqkv);
        op.dropout = Dropout{p, kSite, on(key)};
        Run(backend, on.side, op);
      },
      {dqkv});
  // Large scores make all errors larger.
  const double size = static_cast<double>(scale), unit = (type == DType::kBF16 ? 0.01 : 1e-5) * size;
  bench.Expect("out", out, {unit, 2 * unit});
  bench.Expect("dqkv", dqkv, {2 * unit, 3 * unit}, 4 * size * std::sqrt(static_cast<double>(s.d)));
}

// A prompt in two parts and one more position; the cache and every output must be those of the reference.
void CheckCached(Bench& bench, DType type, int64_t b, int64_t h, int64_t d, int64_t capacity) {
  const Trio keys = bench.Output(type, {b, h, capacity, d}), values = bench.Output(type, {b, h, capacity, d});
  int64_t past = 0;
  for (int64_t n : {capacity / 2, capacity / 3, int64_t{1}}) {
    const Trio qkv = bench.Input(type, {b, n, 3 * h * d}), out = bench.Output(type, {b, n, h * d});
    bench.Run(
        [&](Backend& backend, const On& on) {
          AttentionCached op;
          op.b = b;
          op.n = n;
          op.h = h;
          op.d = d;
          op.past = past;
          op.capacity = capacity;
          op.qkv = on(qkv);
          op.keys = on(keys);
          op.values = on(values);
          op.out = on(out);
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
    add(type, {1, 150, 1, 200}, 0, 1);
    add(type, {1, 193, 2, 32}, 0, 1);
    add(type, {1, 200, 1, 64}, 0, 1);
    add(type, {1, 1025, 1, 64}, 0, 1);
    add(type, {1, 199, 2, 32}, 0.2f, 1);
    add(type, {1, 70, 1, 72}, 0.5f, 1);
    // Rows of T that start with a group of four random numbers.
    add(type, {2, 68, 2, 64}, 0.2f, 1);
    add(type, {1, 72, 3, 96}, 0.3f, 1);
    for (int64_t d : {24, 64, 128}) {
      cases.push_back({std::string("cached attention ") + NameOf(type) + " D" + std::to_string(d),
                       [=](Bench& bench) { CheckCached(bench, type, 2, 2, d, d == 24 ? 310 : 150); }});
    }
    cases.push_back({std::string("cached attention ") + NameOf(type) + " in splits",
                     [=](Bench& bench) { CheckCached(bench, type, 1, 2, 64, 600); }});
  }
  return cases;
}

}  // namespace kotodama::test
