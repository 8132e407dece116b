#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "bench.h"

// Every operation but the GEMM and attention.

namespace kotodama::test {
namespace {

constexpr DropoutKey kKey = {0x123456789abcdef0, 7};

std::vector<int32_t> RandomIds(Bench& bench, int64_t count, int64_t vocabulary) {
  std::uniform_int_distribution<int32_t> distribution(0, static_cast<int32_t>(vocabulary - 1));
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = distribution(bench.random());
  return ids;
}

Dropout MakeDropout(float p, const DropoutKey* key) {
  return {p, 5, key};
}

void CheckEmbedding(Bench& bench, int64_t b, int64_t t, int64_t v, int64_t c, float p) {
  const Trio ids = bench.Integers({b, t}, RandomIds(bench, b * t, v));
  const Trio wte = bench.Input(DType::kF32, {v, c}), wpe = bench.Input(DType::kF32, {t + 3, c});
  const Trio out = bench.Output(DType::kF32, {b, t, c});
  const Trio dout = bench.Input(DType::kF32, {b, t, c});
  const Trio dwte = bench.Output(DType::kF32, {v, c}), dwpe = bench.Output(DType::kF32, {t + 3, c});
  const auto key = bench.Struct(kKey);
  bench.Run(
      [&](Backend& backend, const On& on) {
        EmbeddingForward forward;
        forward.ids = on(ids);
        forward.wte = on(wte);
        forward.wpe = on(wpe);
        forward.out = on(out);
        forward.position = 3;
        forward.dropout = MakeDropout(p, on(key));
        backend.Run(forward);
        EmbeddingBackward backward;
        backward.ids = on(ids);
        backward.dout = on(dout);
        backward.dwte = on(dwte);
        backward.dwpe = on(dwpe);
        backward.dropout = forward.dropout;
        backend.Run(backward);
      },
      {out, dwte, dwpe});
  bench.Expect("out", out, kFloat);
  bench.Expect("dwte", dwte, kFloat);
  bench.Expect("dwpe", dwpe, kFloat);
}

void CheckLayerNorm(Bench& bench, DType type, int64_t n, int64_t c, float p, bool has_addend) {
  const Trio x = bench.Input(DType::kF32, {n, c}, 3), addend = bench.Input(type, {n, c});
  const Trio weight = bench.Input(DType::kF32, {c}), bias = bench.Input(DType::kF32, {c});
  const Trio sum = bench.Output(DType::kF32, {n, c}), out = bench.Output(type, {n, c});
  const Trio mean = bench.Output(DType::kF32, {n}), rstd = bench.Output(DType::kF32, {n});
  const auto key = bench.Struct(kKey);
  bench.Run(
      [&](Backend& backend, const On& on) {
        LayerNormForward op;
        op.x = on(x);
        if (has_addend) op.addend = on(addend);
        op.sum = on(sum);
        op.weight = on(weight);
        op.bias = on(bias);
        op.out = on(out);
        op.mean = on(mean);
        op.rstd = on(rstd);
        op.dropout = MakeDropout(has_addend ? p : 0, on(key));
        backend.Run(op);
      },
      {sum, out, mean, rstd});
  bench.Expect("sum", sum, kFloat);
  bench.Expect("out", out, ToleranceOf(type));
  bench.Expect("mean", mean, kFloat, 3);
  bench.Expect("rstd", rstd, kFloat);

  const Trio dout = bench.Input(type, {n, c}), dx = bench.Output(DType::kF32, {n, c});
  const Trio dweight = bench.Output(DType::kF32, {c}), dbias = bench.Output(DType::kF32, {c});
  const Trio daddend = bench.Output(type, {n, c});
  // The reference's own statistics, so that backward is checked alone.
  const Trio saved_mean = bench.Input(DType::kF32, {n}, bench.Read(mean, Side::kReference));
  const Trio saved_rstd = bench.Input(DType::kF32, {n}, bench.Read(rstd, Side::kReference));
  for (bool accumulate : {true, false}) {
    bench.Run(
        [&](Backend& backend, const On& on) {
          LayerNormBackward op;
          op.dout = on(dout);
          op.x = on(x);
          op.weight = on(weight);
          op.mean = on(saved_mean);
          op.rstd = on(saved_rstd);
          op.dx = on(dx);
          op.dweight = on(dweight);
          op.dbias = on(dbias);
          op.accumulate_dx = op.accumulate = accumulate;
          if (has_addend) op.daddend = on(daddend);
          op.dropout = MakeDropout(p, on(key));
          backend.Run(op);
        },
        {dx, dweight, dbias, daddend});
    bench.Expect("dx", dx, {4e-6, 2e-5});
    bench.Expect("dweight", dweight, {4e-6, 2e-5});
    bench.Expect("dbias", dbias, {4e-6, 2e-5});
    bench.Expect("daddend", daddend, type == DType::kBF16 ? kBf16 : Tolerance{4e-6, 2e-5});
  }
}

void CheckCrossEntropy(Bench& bench, DType type, int64_t rows, int64_t v, int64_t vp, bool gradient, float scale) {
  std::vector<int32_t> labels = RandomIds(bench, rows, v);
  for (size_t i = 0; i < labels.size(); i += 3) labels[i] = kIgnoredLabel;
  const Trio label = bench.Integers({rows}, labels), losses = bench.Output(DType::kF32, {rows});
  const std::vector<float> values = bench.Normal(rows * vp, scale);
  const Trio logits = bench.Input(type, {rows, vp}, values);
  bench.Run(
      [&](Backend& backend, const On& on) {
        CrossEntropy op;
        op.logits = on(logits);
        op.labels = on(label);
        op.losses = on(losses);
        op.v = v;
        op.gradient = gradient;
        backend.Run(op);
      },
      {losses, logits});
  bench.Expect("losses", losses, {1e-5, 1e-5});
  bench.Expect("logits", logits, type == DType::kBF16 ? Tolerance{0.008, 1e-4} : Tolerance{1e-5, 1e-5});
  if (!gradient) return;
  bool is_zero = true;
  const std::vector<float> result = bench.Read(logits, Side::kDevice);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = v; i < vp; ++i) is_zero = is_zero && result[static_cast<size_t>(r * vp + i)] == 0;
  }
  bench.ExpectTrue("the gradient is 0 in the padding", is_zero);
}

OptimizerScalars Scalars() {
  OptimizerScalars scalars;
  scalars.learning_rate = 1e-2f;
  scalars.beta1 = 0.9f;
  scalars.beta2 = 0.95f;
  scalars.eps = 1e-8f;
  scalars.weight_decay = 0.1f;
  scalars.correction1 = 1 - 0.9f * 0.9f;
  scalars.correction2 = 1 - 0.95f * 0.95f;
  scalars.gradient_scale = 0.25f;
  scalars.max_grad_norm = 1;
  return scalars;
}

// Whether the device rounds up and down as the reference does; `copy` is what AdamW made of the same numbers, or empty.
void CheckRounding(Bench& bench, const std::vector<float>& values, const std::vector<float>& copy,
                   const StochasticRounding& rounding) {
  const auto n = static_cast<int64_t>(values.size());
  const Trio source = bench.Input(DType::kF32, {n}, values), target = bench.Output(DType::kBF16, {n});
  const auto key = bench.Struct(*rounding.key);
  bench.Run(
      [&](Backend& backend, const On& on) {
        backend.Round(on(target), on(source), {rounding.first, on(key)});
      },
      {target});
  const std::vector<float> want = bench.Read(target, Side::kReference), got = bench.Read(target, Side::kDevice);
  bool is_same = true;
  for (size_t i = 0; i < want.size(); ++i) {
    is_same = is_same && (got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])));
  }
  bench.ExpectTrue("numbers are rounded as by the reference", is_same);
  bench.ExpectTrue("AdamW's copy is the same", copy.empty() || copy == want);
}

void CheckRound(Bench& bench, int64_t n, int64_t first) {
  std::vector<float> values = bench.Normal(n);
  if (n > 8) {
    values[0] = std::numeric_limits<float>::infinity();
    values[1] = -std::numeric_limits<float>::infinity();
    values[2] = -0.0f;
    values[3] = 1.0f;
    values[4] = std::numeric_limits<float>::denorm_min();
    values[5] = -std::numeric_limits<float>::max();
    values[6] = std::numeric_limits<float>::quiet_NaN();
  }
  const RoundingKey key = {0xfedcba9876543210, (uint64_t{1} << 32) + 3};
  CheckRounding(bench, values, {}, {first, &key});
}

void CheckOptimizer(Bench& bench, int64_t n, float spoil, float max_norm, bool is_stochastic = false) {
  std::vector<float> values = bench.Normal(n);
  if (spoil != 0) values[static_cast<size_t>(n / 2)] = spoil;
  const Trio grad = bench.Input(DType::kF32, {n}, values);
  const Trio param = bench.Output(DType::kF32, {n}), m = bench.Output(DType::kF32, {n});
  std::vector<float> squares = bench.Normal(n);
  for (float& x : squares) x = x * x;
  const Trio v = bench.Input(DType::kF32, {n}, squares), compute = bench.Output(DType::kBF16, {n});
  OptimizerScalars scalars = Scalars();
  scalars.max_grad_norm = max_norm;
  const auto state = bench.Struct(scalars);
  const RoundingKey rounding = {0x123456789abcdef0, 7};
  const auto key = bench.Struct(rounding);
  constexpr int64_t kFirst = 6400;
  bench.Run(
      [&](Backend& backend, const On& on) {
        OptimizerScalars* shared = on(state);
        backend.GlobalNorm(on(grad), shared);
        AdamW op;
        op.param = on(param);
        op.grad = on(grad);
        op.exp_avg = on(m);
        op.exp_avg_sq = on(v);
        // The reference's copy would be fp32.
        if (on.side == Side::kDevice) op.compute = on(compute);
        if (is_stochastic) op.rounding = {kFirst, on(key)};
        op.decay = n % 2 == 1;
        op.scalars = shared;
        backend.Run(op);
        OptimizerScalars result;
        backend.Download(&result, shared, sizeof result);
        bench.ExpectTrue("a spoiled gradient is not applied", (result.applied != 0) == (spoil == 0));
        if (spoil != 0) return;
        double sum = 0;
        for (float g : values) sum += static_cast<double>(g) * g;
        const double norm = std::sqrt(sum) * scalars.gradient_scale;
        const double clip = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1;
        bench.ExpectTrue("the norm", std::abs(result.grad_norm - norm) <= 1e-6 * norm);
        bench.ExpectTrue("the clipping", std::abs(result.grad_clip - clip * scalars.gradient_scale) <= 2e-6 * clip);
      },
      {param, m, v, compute});
  bench.Expect("param", param, kFloat);
  bench.Expect("exp_avg", m, kFloat);
  bench.Expect("exp_avg_sq", v, kFloat);
  if (spoil != 0) return;
  const std::vector<float> full = bench.Read(param, Side::kDevice), copy = bench.Read(compute, Side::kDevice);
  if (is_stochastic) return CheckRounding(bench, full, copy, {kFirst, &rounding});
  bool is_rounded = true;
  for (size_t i = 0; i < full.size(); ++i) is_rounded = is_rounded && copy[i] == FromBf16(RoundToBf16(full[i]));
  bench.ExpectTrue("the copy is the parameter rounded to bf16", is_rounded);
}

void CheckReduceLoss(Bench& bench, int64_t n) {
  std::vector<int32_t> labels = RandomIds(bench, n, 50);
  for (size_t i = 1; i < labels.size(); i += 4) labels[i] = kIgnoredLabel;
  const Trio losses = bench.Input(DType::kF32, {n}), label = bench.Integers({n}, labels);
  const LossTotals nothing;
  const auto totals = bench.Struct(nothing);
  std::array<LossTotals, kSides> results;
  bench.Run(
      [&](Backend& backend, const On& on) {
        backend.ReduceLoss(on(losses), on(label), on(totals));
        backend.Download(&results[static_cast<size_t>(on.side)], on(totals), sizeof(LossTotals));
      },
      {});
  const LossTotals &want = results.front(), &got = results.back();
  bench.ExpectTrue("count", got.count == want.count);
  bench.ExpectTrue("sum", std::abs(got.sum - want.sum) <= 1e-12 * static_cast<double>(n));
}

void CheckElementwise(Bench& bench, int64_t n) {
  std::vector<float> values = bench.Normal(n, 4);
  if (n > 8) {
    values[0] = 0;
    values[1] = 80;
    values[2] = -80;
    values[3] = std::numeric_limits<float>::infinity();
    values[4] = 1.00390625f;  // halfway between two bf16 numbers: to the even one
    values[5] = 1.01171875f;
  }
  const Trio source = bench.Input(DType::kF32, {n}, values), narrow = bench.Output(DType::kBF16, {n});
  const Trio wide = bench.Output(DType::kF32, {n});
  bench.Run(
      [&](Backend& backend, const On& on) {
        backend.Cast(on(narrow), on(source));
        backend.Cast(on(wide), on(narrow));
      },
      {narrow, wide});
  const std::vector<float> rounded = bench.Read(narrow, Side::kDevice), widened = bench.Read(wide, Side::kDevice);
  bool is_exact = rounded == widened;
  for (size_t i = 0; i < values.size(); ++i) is_exact = is_exact && rounded[i] == FromBf16(RoundToBf16(values[i]));
  bench.ExpectTrue("casts round to nearest even and widen exactly", is_exact);

  for (DType type : {DType::kF32, DType::kBF16}) {
    if (n > 8) values[3] = 3;
    const Trio x = bench.Input(type, {n}, values), y = bench.Output(type, {n});
    bench.Run([&](Backend& backend, const On& on) { backend.Gelu(on(y), on(x)); }, {y});
    bench.Expect(std::string("gelu ") + NameOf(type), y, ToleranceOf(type));
  }
}

// Gelu of the kept pre-activation gives the bits that the GEMM's epilogue gave.
void CheckGeluBits(Bench& bench, DType type) {
  const int64_t m = 33, n = 136, k = 64;
  const Trio a = bench.Input(type, {m, k}), b = bench.Input(type, {k, n});
  const Trio c = bench.Output(type, {m, n}), aux = bench.Output(type, {m, n}), again = bench.Output(type, {m, n});
  bench.Run(
      [&](Backend& backend, const On& on) {
        Gemm gemm;
        gemm.m = m;
        gemm.n = n;
        gemm.k = k;
        gemm.a = on(a);
        gemm.b = on(b);
        gemm.c = on(c);
        gemm.aux = on(aux);
        gemm.epilogue = Epilogue::kGelu;
        backend.Run(gemm);
        backend.Gelu(on(again), on(aux));
      },
      {c, aux, again});
  bench.ExpectTrue("the same bits", bench.Read(c, Side::kDevice) == bench.Read(again, Side::kDevice));
}

}  // namespace

std::vector<Case> SmallCases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, const std::function<void(Bench&)>& run) {
    cases.push_back({name, run});
  };
  add("embedding 1x1 V97 C64", [](Bench& b) { CheckEmbedding(b, 1, 1, 97, 64, 0); });
  add("embedding 3x97 V97 C200", [](Bench& b) { CheckEmbedding(b, 3, 97, 97, 200, 0); });
  add("embedding 1x1025 V97 C64 dropout", [](Bench& b) { CheckEmbedding(b, 1, 1025, 97, 64, 0.1f); });
  add("embedding 2x129 V50257 C8 dropout", [](Bench& b) { CheckEmbedding(b, 2, 129, 50257, 8, 0.1f); });
  add("embedding 7x33 V40 C12", [](Bench& b) { CheckEmbedding(b, 7, 33, 40, 12, 0); });
  // More rows than fit into one tile; and more sequences, so that a position lies in two.
  add("embedding 5x1000 V3000 C8", [](Bench& b) { CheckEmbedding(b, 5, 1000, 3000, 8, 0); });
  add("embedding 4600x2 V50 C20 dropout", [](Bench& b) { CheckEmbedding(b, 4600, 2, 50, 20, 0.1f); });
  add("embedding 5x63 V3 C1096 dropout", [](Bench& b) { CheckEmbedding(b, 5, 63, 3, 1096, 0.3f); });
  for (DType type : {DType::kF32, DType::kBF16}) {
    const std::string suffix = std::string(" ") + NameOf(type);
    add("layernorm 1x64" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 1, 64, 0, true); });
    add("layernorm 97x200" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 97, 200, 0, false); });
    add("layernorm 300x136 dropout" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 300, 136, 0.2f, true); });
    add("layernorm 1025x64" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 1025, 64, 0, true); });
    add("layernorm 63x8" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 63, 8, 0, true); });
    add("layernorm 5x2048" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 5, 2048, 0, true); });
    // Rows that fill 99 KiB of shared memory but for what the kernel declares: backward's five, forward's three.
    add("layernorm 5x5032" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 5, 5032, 0, true); });
    add("layernorm 5x8400" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 5, 8400, 0, true); });
    // Too wide for shared memory: backward alone, and both.
    add("layernorm 220x8400" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 220, 8400, 0, true); });
    add("layernorm 120x16384 dropout" + suffix, [=](Bench& b) { CheckLayerNorm(b, type, 120, 16384, 0.2f, true); });
    add("cross-entropy 7x97 of 128" + suffix, [=](Bench& b) { CheckCrossEntropy(b, type, 7, 97, 128, true, 2); });
    add("cross-entropy 5x4999 of 5056, large" + suffix,
        [=](Bench& b) { CheckCrossEntropy(b, type, 5, 4999, 5056, true, 40); });
    // A row of 48 KiB, beside which the kernel's own shared memory must fit; before the larger ones, which raise the
    // limit.
    const auto vp = static_cast<int64_t>(48 * 1024 / SizeOf(type));
    add("cross-entropy 2x" + std::to_string(vp) + suffix,
        [=](Bench& b) { CheckCrossEntropy(b, type, 2, vp, vp, true, 1); });
    add("cross-entropy 2x50257 of 50304" + suffix,
        [=](Bench& b) { CheckCrossEntropy(b, type, 2, 50257, 50304, true, 1); });
    add("cross-entropy 4x64 without gradient" + suffix,
        [=](Bench& b) { CheckCrossEntropy(b, type, 4, 64, 64, false, 1); });
    add("gelu bits" + suffix, [=](Bench& b) { CheckGeluBits(b, type); });
  }
  add("adamw 1", [](Bench& b) { CheckOptimizer(b, 1, 0, 1); });
  add("adamw 12345", [](Bench& b) { CheckOptimizer(b, 12345, 0, 1); });
  add("adamw 4096 without clipping", [](Bench& b) { CheckOptimizer(b, 4096, 0, 0); });
  add("adamw, stochastic rounding, 12345", [](Bench& b) { CheckOptimizer(b, 12345, 0, 1, true); });
  add("adamw, stochastic rounding, infinity",
      [](Bench& b) { CheckOptimizer(b, 1001, std::numeric_limits<float>::infinity(), 0, true); });
  add("round 3", [](Bench& b) { CheckRound(b, 3, 0); });
  add("round 4099", [](Bench& b) { CheckRound(b, 4099, (int64_t{1} << 34) - 64); });
  add("adamw NaN", [](Bench& b) { CheckOptimizer(b, 1000, std::numeric_limits<float>::quiet_NaN(), 1); });
  add("adamw infinity", [](Bench& b) { CheckOptimizer(b, 1001, std::numeric_limits<float>::infinity(), 0); });
  add("reduce loss 1", [](Bench& b) { CheckReduceLoss(b, 1); });
  add("reduce loss 5000", [](Bench& b) { CheckReduceLoss(b, 5000); });
  add("elementwise 3", [](Bench& b) { CheckElementwise(b, 3); });
  add("elementwise 2050", [](Bench& b) { CheckElementwise(b, 2050); });
  return cases;
}

}  // namespace kotodama::test
