#include <algorithm>
#include <cstring>
#include <limits>

#include "check.h"
#include "cpu/packed_weights.h"

namespace kotodama::test {
namespace {

double GeluReference(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

double GeluSlopeReference(double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x), t = std::tanh(u);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

struct GemmCase {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  DType type = DType::kF32, c_type = DType::kF32;
  bool bias = false, accumulate = false, bias_gradient = false;
  Epilogue epilogue = Epilogue::kNone;
  int64_t padding = 0;  // of every leading dimension
};

std::string Describe(const GemmCase& g) {
  return Text(g.m, 'x', g.n, 'x', g.k, g.transpose_a ? "T" : "N", g.transpose_b ? "T" : "N",
              g.type == DType::kBF16 ? "bf16" : "f32", g.c_type == DType::kBF16 ? "->bf16" : "->f32",
              g.bias ? "bias" : "", g.accumulate ? "accumulate" : "", g.bias_gradient ? "bias_gradient" : "",
              "epilogue", static_cast<int>(g.epilogue), "padding", g.padding);
}

void CheckGemm(const GemmCase& g, const std::vector<int>& numbers_of_threads = {1, 2, 3}) {
  const int64_t a_rows = g.transpose_a ? g.k : g.m, a_columns = g.transpose_a ? g.m : g.k;
  const int64_t b_rows = g.transpose_b ? g.n : g.k, b_columns = g.transpose_b ? g.k : g.n;
  const int64_t lda = a_columns + g.padding, ldb = b_columns + g.padding, ldc = g.n + g.padding;
  const auto a = As(RandomFloats(a_rows * lda), g.type), b = As(RandomFloats(b_rows * ldb), g.type);
  const auto c0 = As(RandomFloats(g.m * ldc), g.c_type), bias = RandomFloats(g.n);
  const auto aux0 = As(RandomFloats(g.m * g.n), g.type), bias_gradient0 = RandomFloats(g.n);

  std::vector<double> expected(g.m * g.n), expected_aux(g.m * g.n), expected_bias(g.n);
  const double root_k = std::sqrt(static_cast<double>(std::max<int64_t>(1, g.k)));
  for (int64_t i = 0; i < g.m; ++i) {
    std::vector<double> row(g.n, 0.0);
    for (int64_t p = 0; p < g.k; ++p) {
      const double x = g.transpose_a ? a[p * lda + i] : a[i * lda + p];
      for (int64_t j = 0; j < g.n; ++j) row[j] += x * (g.transpose_b ? b[j * ldb + p] : b[p * ldb + j]);
    }
    for (int64_t j = 0; j < g.n; ++j) {
      double value = row[j] + (g.bias ? bias[j] : 0) + (g.accumulate ? c0[i * ldc + j] : 0);
      if (g.epilogue == Epilogue::kGelu) {
        expected_aux[i * g.n + j] = value;
        value = GeluReference(value);
      } else if (g.epilogue == Epilogue::kGeluBackward) {
        value *= GeluSlopeReference(aux0[i * g.n + j]);
      }
      expected[i * g.n + j] = value / root_k;
    }
  }
  for (int64_t j = 0; j < g.n; ++j) {
    double sum = g.accumulate ? bias_gradient0[j] : 0;
    for (int64_t p = 0; p < g.k; ++p) sum += g.transpose_b ? b[j * ldb + p] : b[p * ldb + j];
    expected_bias[j] = sum;
  }

  std::vector<float> first, first_bias;
  for (int threads : numbers_of_threads) {
    Device device(threads);
    Gemm op;
    op.transpose_a = g.transpose_a;
    op.transpose_b = g.transpose_b;
    op.m = g.m, op.n = g.n, op.k = g.k;
    op.a = device.Put(a, g.type, {a_rows, lda});
    op.b = device.Put(b, g.type, {b_rows, ldb});
    op.c = device.Put(c0, g.c_type, {g.m, ldc});
    if (g.padding != 0) op.lda = lda, op.ldb = ldb, op.ldc = ldc;
    if (g.bias) op.bias = device.Put(bias, DType::kF32, {g.n});
    op.epilogue = g.epilogue;
    if (g.epilogue != Epilogue::kNone) op.aux = device.Put(aux0, g.type, {g.m, g.n});
    op.accumulate = g.accumulate;
    if (g.bias_gradient) op.bias_gradient = device.Put(bias_gradient0, DType::kF32, {g.n});
    device->Run(op);

    const auto c = Device::Get(op.c);
    std::vector<float> found(g.m * g.n);
    for (int64_t i = 0; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) found[i * g.n + j] = c[i * ldc + j] / static_cast<float>(root_k);
      for (int64_t j = g.n; j < ldc; ++j) CHECK(c[i * ldc + j] == c0[i * ldc + j], Describe(g), "padding of c");
    }
    // The multiplication of bfloat16 pairs rounds sums to odd and flushes subnormals, hence the looser bound.
    const double bound =
        g.c_type == DType::kBF16 || (g.epilogue == Epilogue::kGelu && g.type == DType::kBF16) ? 4e-3 : 2e-6;
    CHECK(WorstError(found, expected, 1) < bound, Describe(g), WorstError(found, expected, 1));
    if (g.epilogue == Epilogue::kGelu) {
      const double aux_bound = g.type == DType::kBF16 ? 4e-3 : 2e-6;
      CHECK(WorstError(Device::Get(op.aux), expected_aux, root_k) < aux_bound, Describe(g));
      // The separate operation gives the same bits.
      const Tensor again = device.Make(g.c_type, {g.m, g.n});
      if (g.c_type == g.type) {
        device->Gelu(again, op.aux);
        const auto recomputed = Device::Get(again);
        for (int64_t i = 0; i < g.m; ++i) {
          for (int64_t j = 0; j < g.n; ++j) CHECK(recomputed[i * g.n + j] == c[i * ldc + j], Describe(g), i, j);
        }
      }
    }
    if (g.bias_gradient) {
      const auto sums = Device::Get(op.bias_gradient);
      const double error = WorstError(sums, expected_bias, 1);
      CHECK(error < 1e-5, Describe(g), "bias gradient", error);
      if (first_bias.empty()) first_bias = sums;
      CHECK(std::memcmp(first_bias.data(), sums.data(), sums.size() * 4) == 0, Describe(g), "bias gradient, threads",
            threads);
    }
    if (first.empty()) first = c;
    CHECK(std::memcmp(first.data(), c.data(), c.size() * 4) == 0, Describe(g), "threads", threads);
  }
}

// All forms and types of one size.
void CheckForms(GemmCase g) {
  for (int form = 0; form < 4; ++form) {
    g.transpose_a = form & 1;
    g.transpose_b = form & 2;
    for (DType type : {DType::kF32, DType::kBF16}) {
      g.type = type;
      for (DType c_type : {DType::kF32, type}) {
        if (c_type != DType::kF32 && g.accumulate) continue;
        g.c_type = c_type;
        CheckGemm(g);
      }
    }
  }
}

// With a bias, where the model has one.
void CheckEpilogues(GemmCase g, DType type) {
  g.type = g.c_type = type;
  for (Epilogue epilogue : {Epilogue::kNone, Epilogue::kGelu, Epilogue::kGeluBackward}) {
    g.bias = epilogue != Epilogue::kGeluBackward;
    g.epilogue = epilogue;
    CheckGemm(g);
  }
}

TEST(GemmOddSizes) {
  for (int64_t m : {1, 2, 7, 8, 9, 33}) {
    for (int64_t n : {1, 15, 16, 17, 49, 100}) {
      for (int64_t k : {1, 2, 31, 64}) CheckForms({m, n, k});
    }
  }
}

TEST(GemmBlocksOfK) {
  CheckForms({20, 40, 0});
  CheckForms({33, 65, 1700});
  CheckForms({20, 250, 3100});
  CheckForms({9, 30, 769});
  CheckForms({800, 40, 1100});
}

TEST(GemmManyItems) {
  CheckForms({300, 500, 70});
  CheckForms({130, 400, 129});
  CheckForms({400, 300, 40});
}

// Few rows with b where it is, more than one block of K, and rows of b that are whole pages apart.
TEST(GemmFewRows) {
  CheckForms({40, 1040, 800});
  CheckForms({40, 1024, 800});
  CheckEpilogues({37, 96, 1601}, DType::kF32);
  GemmCase g = {40, 96, 1000};
  g.bias_gradient = g.accumulate = true;
  CheckForms(g);
  g.padding = 32;
  CheckForms(g);
}

// One strip of b, past which rows of a are packed some at a time.
TEST(GemmRowsPackedAtOnce) {
  CheckForms({203, 96, 300});
  for (DType c_type : {DType::kF32, DType::kBF16}) {
    GemmCase g = {200, 100, 1700};
    g.transpose_a = true;
    g.bias = true;
    g.type = DType::kBF16;
    g.c_type = c_type;
    CheckGemm(g);
  }
}

// Whole tiles, where factors may be read in place and sums go straight to C.
TEST(GemmWholeTiles) {
  CheckForms({48, 70, 64});
  CheckForms({400, 96, 96});
  CheckForms({112, 800, 64});
}

// Strips so long that threads without an item help with them: rows of a in place and packed, also anew for every block
// of K, sums outside of C between those, a gradient of the bias, parts of K, pairs.
TEST(GemmSharedStrips) {
  for (bool transpose_b : {false, true}) {
    for (bool transpose_a : {false, true}) CheckGemm({400, 1536, 768, transpose_a, transpose_b});
  }
  CheckEpilogues({400, 1536, 768}, DType::kF32);
  CheckGemm({320, 900, 1700, /*transpose_a=*/true});
  CheckGemm({512, 256, 3072, /*transpose_a=*/true});
  CheckGemm({400, 1536, 768, false, false, DType::kBF16, DType::kBF16});
  GemmCase g = {800, 600, 1700};
  g.bias = true;
  g.c_type = DType::kBF16;
  CheckGemm(g);
  g = {400, 1536, 768, /*transpose_a=*/true};
  g.bias_gradient = g.accumulate = true;
  CheckGemm(g);
}

// Rows of a that the threads pack together, anew for every block of K: the last panel, tile, block and pair not whole.
TEST(GemmRowsPackedTogether) {
  GemmCase g = {403, 413, 1603, /*transpose_a=*/true};
  g.bias_gradient = true;
  CheckGemm(g, {1, 2, 3, 8});
  g.accumulate = true;
  CheckGemm(g);
  g.type = DType::kBF16;
  CheckGemm(g);
  g.transpose_a = false;
  CheckGemm(g);
  g.k = 3203;
  CheckGemm(g);
  g.transpose_a = true;
  CheckGemm(g);
  g = {403, 397, 1501, /*transpose_a=*/true};
  g.c_type = DType::kBF16;
  g.padding = 3;
  CheckGemm(g);
}

// Subnormals count as zero on every thread, also where parts are added.
TEST(GemmSubnormalBiasGradient) {
  for (int threads : {1, 2, 3}) {
    Device device(threads);
    Gemm op;
    op.transpose_a = true;
    op.m = op.n = 16, op.k = 768;
    std::vector<float> b(768 * 16, 0.0f);
    for (int j = 0; j < 16; ++j) b[j] = 1.5f * std::numeric_limits<float>::min();
    for (int j = 0; j < 16; ++j) b[767 * 16 + j] = -std::numeric_limits<float>::min();
    op.a = device.Put(std::vector<float>(768 * 16, 0.0f), DType::kF32, {768, 16});
    op.b = device.Put(b, DType::kF32, {768, 16});
    op.c = device.Make(DType::kF32, {16, 16});
    op.bias_gradient = device.Put(std::vector<float>(16, 0.0f), DType::kF32, {16});
    device->Run(op);
    for (float sum : Device::Get(op.bias_gradient)) CHECK(sum == 0.0f, "threads", threads, sum);
  }
}

TEST(GemmBiasAndGelu) {
  for (int64_t k : {5, 64, 1601}) {
    GemmCase g = {37, 101, k};
    g.bias = true;
    CheckForms(g);
    g.epilogue = Epilogue::kGelu;
    for (DType type : {DType::kF32, DType::kBF16}) {
      g.type = g.c_type = type;
      CheckGemm(g);
    }
    g.m = 3;
    for (DType type : {DType::kF32, DType::kBF16}) {
      g.type = g.c_type = type;
      CheckGemm(g);
    }
  }
}

TEST(GemmGeluBackward) {
  for (int64_t k : {5, 64, 1601}) {
    GemmCase g = {37, 101, k};
    g.epilogue = Epilogue::kGeluBackward;
    CheckForms(g);
  }
}

// Large enough to go past the caches where the processor can.
TEST(GemmLargeResults) {
  CheckEpilogues({112, 1600, 64}, DType::kBF16);
}

TEST(GemmAccumulateAndBiasGradient) {
  for (int64_t k : {1, 63, 1601}) {
    GemmCase g = {60, 210, k};
    g.bias_gradient = true;
    CheckForms(g);
    g.accumulate = true;
    CheckForms(g);
    g.n = 208;  // whole vectors
    CheckForms(g);
    g.m = 5;
    CheckForms(g);
  }
  GemmCase many_rows = {400, 70, 63};
  many_rows.bias_gradient = true;
  CheckForms(many_rows);
  many_rows.accumulate = true;
  CheckForms(many_rows);
}

TEST(GemmLeadingDimensions) {
  GemmCase g = {45, 67, 51};
  g.padding = 13;
  CheckForms(g);
  g.m = 4;
  CheckForms(g);
  g.m = 40, g.n = 96, g.k = 1000;
  CheckForms(g);
  g = {48, 64, 64};
  g.padding = 32;
  CheckForms(g);
}

// A packed copy is kept from the second product on: no product may see an older one.
TEST(GemmWeightVersions) {
  constexpr int64_t kM = 40, kN = 70, kK = 50;
  for (DType type : {DType::kF32, DType::kBF16}) {
    for (int form = 0; form < 4; ++form) {
      const bool transpose = form & 1;
      Device device(2);
      Gemm op;
      op.transpose_b = transpose;
      op.reused = form & 2;
      op.m = kM, op.n = kN, op.k = kK;
      op.a = device.Put(RandomFloats(kM * kK), type, {kM, kK});
      op.b = device.Make(type, {transpose ? kN : kK, transpose ? kK : kN});
      op.c = device.Make(DType::kF32, {kM, kN});
      const auto product = [&](uint64_t version) {
        op.weight_version = version;
        device->Run(op);
        return Device::Get(op.c);
      };
      const auto fill = [&] {
        const Tensor values = device.Put(RandomFloats(kN * kK), type, {kN * kK});
        device->Upload(op.b.data, values.data, values.bytes());
      };
      for (uint64_t version = 1; version <= 3; ++version) {
        fill();
        const auto expected = product(0);
        for (int repeat = 0; repeat < 3; ++repeat) CHECK(product(version) == expected, form, version, repeat);
      }
      // Memory that is given back and taken again may hold another weight of the same version at the same place.
      for (int repeat = 0; repeat < 3; ++repeat) {
        device->Free(op.b.data);
        op.b.data = device->Allocate(op.b.bytes());
        fill();
        const auto expected = product(0);
        CHECK(product(3) == expected && product(3) == expected, form, "after Free", repeat);
      }
    }
  }
}

// A product that ends early, without memory for instance, leaves a copy that nobody may read.
TEST(PackedWeightsCountOnceTheyAreWhole) {
  cpu::ThreadPool pool(1);
  cpu::Memory memory(&pool);
  cpu::PackedWeights weights(&memory);
  const float weight = 0;
  const cpu::PackedWeights::Key key = {&weight, 1, 1, 1, 0};
  const auto valid = [&](uint64_t version) {
    const cpu::PackedWeights::Place place = weights.Find(key, version, 64, /*reused=*/true);
    CHECK(place.data != nullptr, version);
    return place.valid;
  };
  CHECK(!valid(1) && !valid(1));
  weights.Packed(key, 1);
  CHECK(valid(1) && !valid(2) && !valid(1));
  weights.Packed(key, 2);
  CHECK(valid(2));
}

}  // namespace
}  // namespace kotodama::test
