#include <array>
#include <cstring>

#include "check.h"
#include "reference.h"

namespace kotodama::test {

std::array<uint32_t, 4> PhiloxReference(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * counter[0], p1 = 0xCD9E8D57ull * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

double DropoutReference(const Dropout& dropout, uint64_t index) {
  if (dropout.p <= 0) return 1;
  const uint64_t block = index / 4, seed = dropout.key->seed;
  const auto words = PhiloxReference({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), dropout.site,
                                      static_cast<uint32_t>(dropout.key->micro_step)},
                                     {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return words[index % 4] < dropout.p * 4294967296.0 ? 0 : 1 / (1 - static_cast<double>(dropout.p));
}

namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

// Runs `compute` with 1, 2 and 3 threads and checks that it gives the same bits; returns them.
std::vector<std::vector<float>> SameForAnyThreads(
    const std::function<std::vector<std::vector<float>>(Device& device)>& compute) {
  std::vector<std::vector<float>> first;
  for (int threads : {1, 2, 3}) {
    Device device(threads);
    const auto found = compute(device);
    if (first.empty()) first = found;
    for (size_t i = 0; i < found.size(); ++i) {
      CHECK(std::memcmp(found[i].data(), first[i].data(), found[i].size() * 4) == 0, "threads", threads, "result", i);
    }
  }
  return first;
}

// The vectors that the authors publish in Random123 (tests/kat_vectors, philox4x32, 10 rounds).
TEST(PhiloxKnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  CHECK((PhiloxReference({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK((PhiloxReference({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((PhiloxReference({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
         Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(EmbeddingForwardAndBackward) {
  const int64_t v = 11, positions = 40;
  for (int64_t c : {1, 7, 64, 131}) {
    for (int64_t t : {1, 37}) {
      for (float p : {0.0f, 0.25f}) {
        const int64_t b = 3, position = t == 1 ? 5 : 0;
        std::vector<int32_t> ids(b * t);
        for (int32_t& id : ids) id = static_cast<int32_t>(Random()() % v);
        const auto wte = RandomFloats(v * c), wpe = RandomFloats(positions * c), dout = RandomFloats(b * t * c);
        DropoutKey key = {99, 3};
        const Dropout dropout = {p, 2, &key};
        const auto found = SameForAnyThreads([&](Device& device) {
          EmbeddingForward forward;
          forward.ids = device.PutInts(ids, {b, t});
          forward.wte = device.Put(wte, DType::kF32, {v, c});
          forward.wpe = device.Put(wpe, DType::kF32, {positions, c});
          forward.out = device.Make(DType::kF32, {b, t, c});
          forward.position = position;
          forward.dropout = dropout;
          device->Run(forward);
          EmbeddingBackward backward;
          backward.ids = forward.ids;
          backward.dout = device.Put(dout, DType::kF32, {b, t, c});
          backward.dwte = device.Put(wte, DType::kF32, {v, c});
          backward.dwpe = device.Put(wpe, DType::kF32, {positions, c});
          backward.dropout = dropout;
          device->Run(backward);
          return std::vector<std::vector<float>>{Device::Get(forward.out), Device::Get(backward.dwte),
                                                 Device::Get(backward.dwpe)};
        });
        std::vector<double> out(b * t * c), dwte(wte.begin(), wte.end()), dwpe(wpe.begin(), wpe.end());
        for (int64_t r = 0; r < b * t; ++r) {
          for (int64_t i = 0; i < c; ++i) {
            const double factor = DropoutReference(dropout, r * c + i);
            out[r * c + i] = (wte[ids[r] * c + i] + wpe[(position + r % t) * c + i]) * factor;
            dwte[ids[r] * c + i] += dout[r * c + i] * factor;
            dwpe[r % t * c + i] += dout[r * c + i] * factor;
          }
        }
        CHECK(WorstError(found[0], out) < 1e-6, c, t, p);
        CHECK(WorstError(found[1], dwte) < 1e-5, c, t, p);
        CHECK(WorstError(found[2], dwpe) < 1e-5, c, t, p);
      }
    }
  }
}

void CheckLayerNorm(int64_t rows, int64_t c, DType type, float p, bool with_addend, float offset) {
  auto x = RandomFloats(rows * c);
  for (float& value : x) value += offset;
  const auto addend = As(RandomFloats(rows * c), type), weight = RandomFloats(c), bias = RandomFloats(c);
  const auto dout = As(RandomFloats(rows * c), type), dx0 = RandomFloats(rows * c), dweight0 = RandomFloats(c);
  DropoutKey key = {7, 1ull << 33 | 4};
  const Dropout dropout = {p, 31, &key};
  const float eps = 1e-5f;
  const auto found = SameForAnyThreads([&](Device& device) {
    LayerNormForward forward;
    forward.x = device.Put(x, DType::kF32, {rows, c});
    if (with_addend) {
      forward.addend = device.Put(addend, type, {rows, c});
      forward.sum = forward.x;
    }
    forward.weight = device.Put(weight, DType::kF32, {c});
    forward.bias = device.Put(bias, DType::kF32, {c});
    forward.out = device.Make(type, {rows, c});
    forward.mean = device.Make(DType::kF32, {rows});
    forward.rstd = device.Make(DType::kF32, {rows});
    forward.eps = eps;
    forward.dropout = dropout;
    device->Run(forward);
    LayerNormBackward backward;
    backward.dout = device.Put(dout, type, {rows, c});
    backward.x = forward.x;
    backward.weight = forward.weight;
    backward.mean = forward.mean;
    backward.rstd = forward.rstd;
    backward.dx = device.Put(dx0, DType::kF32, {rows, c});
    backward.dweight = device.Put(dweight0, DType::kF32, {c});
    backward.dbias = device.Put(dweight0, DType::kF32, {c});
    backward.accumulate_dx = with_addend;
    backward.accumulate = with_addend;
    if (with_addend) backward.daddend = device.Make(type, {rows, c});
    backward.dropout = dropout;
    device->Run(backward);
    std::vector<std::vector<float>> results = {Device::Get(forward.out), Device::Get(forward.x),
                                               Device::Get(backward.dx), Device::Get(backward.dweight),
                                               Device::Get(backward.dbias)};
    if (with_addend) results.push_back(Device::Get(backward.daddend));
    return results;
  });
  std::vector<double> sum(x.begin(), x.end()), out(rows * c), dx(rows * c), dweight(c), dbias(c), daddend(rows * c);
  for (int64_t j = 0; j < c && with_addend; ++j) dweight[j] = dbias[j] = dweight0[j];
  for (int64_t r = 0; r < rows; ++r) {
    double mean = 0, squares = 0, total = 0, dot = 0;
    for (int64_t j = 0; j < c; ++j) {
      double& s = sum[r * c + j];
      if (with_addend) s += addend[r * c + j] * DropoutReference(dropout, r * c + j);
      mean += s / c;
    }
    for (int64_t j = 0; j < c; ++j) squares += (sum[r * c + j] - mean) * (sum[r * c + j] - mean);
    const double rstd = 1 / std::sqrt(squares / c + eps);
    for (int64_t j = 0; j < c; ++j) {
      const double normal = (sum[r * c + j] - mean) * rstd, d = dout[r * c + j];
      out[r * c + j] = normal * weight[j] + bias[j];
      total += d * weight[j] / c;
      dot += d * weight[j] * normal / c;
      dweight[j] += d * normal;
      dbias[j] += d;
    }
    for (int64_t j = 0; j < c; ++j) {
      const double normal = (sum[r * c + j] - mean) * rstd;
      dx[r * c + j] = rstd * (dout[r * c + j] * weight[j] - total - normal * dot) + (with_addend ? dx0[r * c + j] : 0);
      daddend[r * c + j] = dx[r * c + j] * DropoutReference(dropout, r * c + j);
    }
  }
  const std::string what = Text(rows, 'x', c, type == DType::kBF16 ? "bf16" : "f32", p, with_addend, offset);
  const double rounding = type == DType::kBF16 ? 4e-3 : (c < 16 ? 2e-3 : 2e-5) * std::max(1.0f, offset);
  CHECK(WorstError(found[0], out) < rounding, what, WorstError(found[0], out));
  // Inputs are of the order of 1; a sum may cancel.
  CHECK(WorstError(found[1], sum, 1.0) < 1e-6, what);
  // Few columns can lie close together, which magnifies their rounding.
  const double gradient_bound = (c < 16 ? 2e-3 : 2e-5) * std::max(1.0f, offset);
  if (c > 1) {
    CHECK(WorstError(found[2], dx) < gradient_bound, what, WorstError(found[2], dx));
  } else {
    // One column has no variance: what remains is rounding times 1 / sqrt(eps).
    for (int64_t r = 0; r < rows; ++r) CHECK(std::abs(found[2][r] - dx[r]) < 1e-3, what, found[2][r], dx[r]);
  }
  if (c > 1) CHECK(WorstError(found[3], dweight, 1.0) < gradient_bound, what, WorstError(found[3], dweight));
  CHECK(WorstError(found[4], dbias, 1.0) < 2e-5, what, WorstError(found[4], dbias));
  if (with_addend) CHECK(WorstError(found[5], daddend, 1.0) < std::max(1e-3, rounding), what);
}

TEST(LayerNormShapes) {
  for (DType type : kTypes) {
    for (int64_t c : {1, 3, 16, 63, 65, 200, 768}) {
      for (int64_t rows : {1, 33, 70}) {
        CheckLayerNorm(rows, c, type, 0, false, 0);
        CheckLayerNorm(rows, c, type, 0, true, 0);
        CheckLayerNorm(rows, c, type, 0.2f, true, 0);
      }
    }
    CheckLayerNorm(5, 130, type, 0, false, 100);
  }
}

void CheckCrossEntropy(int64_t rows, int64_t v, int64_t vp, DType type, float magnitude) {
  const auto logits = As(RandomFloats(rows * vp, magnitude), type);
  std::vector<int32_t> labels(rows);
  for (int64_t r = 0; r < rows; ++r) labels[r] = r % 5 == 3 ? kIgnoredLabel : static_cast<int32_t>(Random()() % v);
  for (bool gradient : {false, true}) {
    const auto found = SameForAnyThreads([&](Device& device) {
      CrossEntropy op;
      op.logits = device.Put(logits, type, {rows, vp});
      op.labels = device.PutInts(labels, {rows});
      op.losses = device.Make(DType::kF32, {rows});
      op.v = v;
      op.gradient = gradient;
      device->Run(op);
      LossTotals totals;
      device->ReduceLoss(op.losses, op.labels, &totals);
      return std::vector<std::vector<float>>{Device::Get(op.losses),
                                             Device::Get(op.logits),
                                             {static_cast<float>(totals.sum), static_cast<float>(totals.count)}};
    });
    std::vector<double> losses(rows), after(rows * vp);
    double total = 0, count = 0;
    for (int64_t r = 0; r < rows; ++r) {
      double top = -INFINITY, sum = 0;
      for (int64_t j = 0; j < v; ++j) top = std::max<double>(top, logits[r * vp + j]);
      for (int64_t j = 0; j < v; ++j) sum += std::exp(logits[r * vp + j] - top);
      if (labels[r] == kIgnoredLabel) continue;
      losses[r] = top + std::log(sum) - logits[r * vp + labels[r]];
      total += losses[r];
      ++count;
      for (int64_t j = 0; j < v; ++j) after[r * vp + j] = std::exp(logits[r * vp + j] - top) / sum - (j == labels[r]);
    }
    CHECK(WorstError(found[0], losses) < 2e-6, rows, v, magnitude, WorstError(found[0], losses));
    CHECK(found[2][1] == count, found[2][1]);
    CHECK(std::abs(found[2][0] - total) <= 1e-5 * std::abs(total) + 1e-6, found[2][0], total);
    if (gradient) {
      const double bound = type == DType::kBF16 ? 4e-3 : 4e-6;
      CHECK(WorstError(found[1], after) < bound, rows, v, magnitude, WorstError(found[1], after));
    } else {
      CHECK(found[1] == logits, "logits must stay");
    }
  }
}

TEST(CrossEntropyShapes) {
  for (DType type : kTypes) {
    for (int64_t v : {1, 2, 17, 97, 1000}) {
      for (int64_t padding : {0, 5, 31}) CheckCrossEntropy(9, v, v + padding, type, 1);
    }
    CheckCrossEntropy(3, 50257, 50304, type, 2);
  }
}

TEST(CrossEntropyExtremeLogits) {
  CheckCrossEntropy(10, 300, 304, DType::kF32, 1000);
  CheckCrossEntropy(10, 300, 304, DType::kF32, 1e30f);
  CheckCrossEntropy(10, 300, 304, DType::kF32, 1e-20f);
}

TEST(AdamWAndGlobalNorm) {
  for (int64_t n : {1, 15, 1000, 200003}) {
    for (bool clip : {false, true}) {
      const auto param = RandomFloats(n), grad = RandomFloats(n), m = RandomFloats(n, 0.1f);
      auto v = RandomFloats(n, 0.1f);
      for (float& value : v) value *= value;
      OptimizerScalars start;
      start.learning_rate = 3e-3f, start.beta1 = 0.9f, start.beta2 = 0.95f, start.eps = 1e-8f;
      start.weight_decay = 0.1f, start.correction1 = 1 - std::pow(0.9f, 3), start.correction2 = 1 - std::pow(0.95f, 3);
      start.gradient_scale = 0.125f, start.max_grad_norm = clip ? 0.01f : 0;
      const auto found = SameForAnyThreads([&](Device& device) {
        OptimizerScalars scalars = start;
        AdamW op;
        op.param = device.Put(param, DType::kF32, {n});
        op.grad = device.Put(grad, DType::kF32, {n});
        op.exp_avg = device.Put(m, DType::kF32, {n});
        op.exp_avg_sq = device.Put(v, DType::kF32, {n});
        op.compute = device.Make(DType::kBF16, {n});
        op.decay = clip;
        op.scalars = &scalars;
        device->GlobalNorm(op.grad, &scalars);
        device->Run(op);
        return std::vector<std::vector<float>>{Device::Get(op.param),
                                               Device::Get(op.exp_avg),
                                               Device::Get(op.exp_avg_sq),
                                               Device::Get(op.compute),
                                               {scalars.grad_norm, scalars.grad_clip}};
      });
      double squares = 0;
      for (float g : grad) squares += static_cast<double>(g) * g;
      const double norm = std::sqrt(squares) * 0.125;
      CHECK(std::abs(found[4][0] - norm) < 1e-6 * norm, found[4][0], norm);
      const double factor = 0.125 * (clip ? std::min(1.0, 0.01 / (norm + 1e-6)) : 1);
      std::vector<double> p1(n), m1(n), v1(n);
      for (int64_t i = 0; i < n; ++i) {
        const double g = grad[i] * factor;
        m1[i] = 0.9f * static_cast<double>(m[i]) + (1 - static_cast<double>(0.9f)) * g;
        v1[i] = 0.95f * static_cast<double>(v[i]) + (1 - static_cast<double>(0.95f)) * g * g;
        p1[i] = param[i] * (clip ? 1 - 3e-3 * 0.1 : 1) -
                3e-3 * (m1[i] / start.correction1) / (std::sqrt(v1[i] / start.correction2) + 1e-8);
      }
      CHECK(WorstError(found[0], p1) < 1e-6, n, WorstError(found[0], p1));
      CHECK(WorstError(found[1], m1) < 1e-6, n);
      CHECK(WorstError(found[2], v1) < 1e-6, n);
      CHECK(found[3] == As(found[0], DType::kBF16), n);
    }
  }
}

TEST(NonFiniteNormStopsTheUpdate) {
  for (float bad : {INFINITY, NAN}) {
    Device device(2);
    auto grad = RandomFloats(100000);
    grad[77777] = bad;
    const auto param = RandomFloats(100000);
    OptimizerScalars scalars;
    scalars.gradient_scale = 1;
    scalars.max_grad_norm = 1;
    scalars.learning_rate = 1;
    AdamW op;
    op.param = device.Put(param, DType::kF32, {100000});
    op.grad = device.Put(grad, DType::kF32, {100000});
    op.exp_avg = device.Make(DType::kF32, {100000});
    op.exp_avg_sq = device.Make(DType::kF32, {100000});
    op.scalars = &scalars;
    device->GlobalNorm(op.grad, &scalars);
    CHECK(scalars.applied == 0, bad);
    device->Run(op);
    CHECK(Device::Get(op.param) == param, bad);
    CHECK(Device::Get(op.exp_avg) == std::vector<float>(100000), bad);
  }
}

TEST(CastRoundsToNearestEven) {
  std::vector<float> values = {0.0f, -0.0f, 1.0f, 1.00390625f, 1.01171875f, INFINITY, -INFINITY, NAN, 3.4e38f, 1e-40f};
  for (float value : RandomFloats(1000, 10)) values.push_back(value);
  const int64_t n = static_cast<int64_t>(values.size());
  Device device(2);
  const Tensor source = device.Make(DType::kF32, {n}), narrow = device.Make(DType::kBF16, {n}),
               wide = device.Make(DType::kF32, {n});
  device->Upload(source.data, values.data(), values.size() * 4);
  device->Cast(narrow, source);
  device->Cast(wide, narrow);
  const auto found = Device::Get(wide);
  CHECK(found[3] == 1.0f && found[4] == 1.015625f, found[3], found[4]);
  CHECK(std::isinf(found[5]) && std::isinf(found[6]) && std::isnan(found[7]) && std::isinf(found[8]));
  for (int64_t i = 0; i < n; ++i) {
    if (std::isnan(values[i])) continue;
    if (std::fpclassify(values[i]) == FP_SUBNORMAL && found[i] == 0) continue;  // some processors flush them
    const float expected = As({values[i]}, DType::kBF16)[0];
    CHECK(std::memcmp(&expected, &found[i], 4) == 0, values[i], expected, found[i]);
    if (std::isfinite(found[i]) && std::abs(values[i]) > 1e-30f) {
      CHECK(std::abs(found[i] - values[i]) <= std::abs(values[i]) / 256, values[i], found[i]);
    }
  }
}

// Element `index` of all parameters, from the words of StochasticRounding in backend.h.
float RoundedReference(float value, const RoundingKey& key, uint64_t index) {
  const uint64_t group = index / 4;
  const auto words = PhiloxReference({static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32),
                                      static_cast<uint32_t>(key.step), static_cast<uint32_t>(key.step >> 32)},
                                     {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + words[index % 4] % 65536) / 65536 * 65536;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The bf16 number that is nearest towards zero, and the one `steps` further from it.
float Neighbour(float value, int steps) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits / 65536 + steps) * 65536;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

TEST(StochasticRoundingByItsFormula) {
  // Indices on both sides of 2^32 groups of four, and several pieces of work for the threads.
  for (int64_t first : {int64_t{0}, int64_t{68}, (int64_t{1} << 34) - 128}) {
    for (int64_t n : {1, 3, 64, 67, 1000, 200003}) {
      const RoundingKey key = {0x9E3779B97F4A7C15, (uint64_t{1} << 32) + 5};
      auto values = RandomFloats(n);
      if (n > 8) values[0] = INFINITY, values[1] = -INFINITY, values[2] = 0.0f, values[3] = -0.0f, values[4] = 1e-40f;
      const auto found = SameForAnyThreads([&](Device& device) {
        const Tensor source = device.Put(values, DType::kF32, {n}), target = device.Make(DType::kBF16, {n});
        device->Round(target, source, {first, &key});
        return std::vector<std::vector<float>>{Device::Get(target)};
      });
      for (int64_t i = 0; i < n; ++i) {
        const float expected = RoundedReference(values[i], key, static_cast<uint64_t>(first + i));
        CHECK(std::memcmp(&expected, &found[0][i], 4) == 0, first, n, i, values[i], expected, found[0][i]);
      }
    }
  }
}

TEST(StochasticRoundingInTheMean) {
  const int64_t n = 1000, draws = 2000;
  auto values = RandomFloats(n);
  values[0] = 1 + 1.0f / 512, values[1] = -1 - 3.0f / 512, values[2] = 1 + 1.0f / 65536, values[3] = 1e-39f;
  for (int64_t i = n - 100; i < n; ++i) values[i] = As({values[i]}, DType::kBF16)[0];  // exact
  std::vector<double> sums(n);
  Device device(2);
  const Tensor source = device.Put(values, DType::kF32, {n}), target = device.Make(DType::kBF16, {n});
  RoundingKey key = {3, 0};
  for (; key.step < draws; ++key.step) {
    device->Round(target, source, {0, &key});
    const auto found = Device::Get(target);
    for (int64_t i = 0; i < n; ++i) {
      CHECK(found[i] == Neighbour(values[i], 0) || (found[i] == Neighbour(values[i], 1) && i < n - 100), values[i],
            found[i]);
      sums[i] += found[i];
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    const double gap = std::abs(static_cast<double>(Neighbour(values[i], 1)) - Neighbour(values[i], 0));
    const double share = std::abs(static_cast<double>(values[i]) - Neighbour(values[i], 0)) / gap;
    // Six standard deviations of the mean of `draws` numbers that are 0 or `gap`.
    const double bound = 6 * gap * std::sqrt(share * (1 - share) / draws);
    CHECK(std::abs(sums[i] / draws - values[i]) <= bound, values[i], sums[i] / draws, bound);
  }
}

TEST(AdamWRoundsItsCopyAtRandom) {
  const int64_t n = 200003, first = 640;
  const auto param = RandomFloats(n), grad = RandomFloats(n);
  const RoundingKey key = {5, 9};
  OptimizerScalars scalars;
  scalars.learning_rate = 3e-3f, scalars.beta1 = 0.9f, scalars.beta2 = 0.95f, scalars.eps = 1e-8f;
  scalars.correction1 = 0.1f, scalars.correction2 = 0.05f, scalars.grad_clip = 1, scalars.applied = 1;
  const auto step = [&](const RoundingKey* rounding) {
    return SameForAnyThreads([&](Device& device) {
      AdamW op;
      op.param = device.Put(param, DType::kF32, {n});
      op.grad = device.Put(grad, DType::kF32, {n});
      op.exp_avg = device.Make(DType::kF32, {n});
      op.exp_avg_sq = device.Make(DType::kF32, {n});
      op.compute = device.Make(DType::kBF16, {n});
      op.rounding = {first, rounding};
      op.scalars = &scalars;
      device->Run(op);
      const Tensor again = device.Make(DType::kBF16, {n});
      device->Round(again, op.param, {first, &key});
      return std::vector<std::vector<float>>{Device::Get(op.param), Device::Get(op.compute), Device::Get(again)};
    });
  };
  const auto nearest = step(nullptr), stochastic = step(&key);
  CHECK(stochastic[0] == nearest[0], "the master does not depend on the rounding of its copy");
  CHECK(stochastic[1] == stochastic[2], "the copy can be made again");
  CHECK(stochastic[1] != nearest[1]);
  for (int64_t i = 0; i < n; ++i) {
    const float expected = RoundedReference(stochastic[0][i], key, static_cast<uint64_t>(first + i));
    CHECK(stochastic[1][i] == expected, i, stochastic[0][i], stochastic[1][i], expected);
  }
}

TEST(DropoutRate) {
  const int64_t rows = 200, c = 1000;
  const std::vector<float> ones(rows * c, 1.0f), zeros(rows * c);
  DropoutKey key = {12345, 0};
  for (float p : {0.1f, 0.5f, 0.9f}) {
    Device device(2);
    LayerNormForward op;
    op.x = device.Put(zeros, DType::kF32, {rows, c});
    op.addend = device.Put(ones, DType::kF32, {rows, c});
    op.sum = op.x;
    op.weight = device.Put(std::vector<float>(c, 1.0f), DType::kF32, {c});
    op.bias = device.Make(DType::kF32, {c});
    op.out = device.Make(DType::kF32, {rows, c});
    op.dropout = {p, 1, &key};
    device->Run(op);
    double dropped = 0;
    for (float value : Device::Get(op.sum)) {
      dropped += value == 0;
      CHECK(value == 0 || value == 1 / (1 - p), value);
    }
    // Six standard deviations.
    CHECK(std::abs(dropped / (rows * c) - p) < 6 * std::sqrt(p * (1 - p) / (rows * c)), p, dropped);
  }
}

}  // namespace
}  // namespace kotodama::test
