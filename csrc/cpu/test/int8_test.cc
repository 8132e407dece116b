#include <algorithm>
#include <cstring>
#include <limits>

#include "check.h"

namespace kotodama::test {
namespace {

struct Int8Case {
  int64_t m, n, k;
  bool transpose_b = false;
  DType type = DType::kF32;  // of a, c and aux
  bool gelu = false;         // with a bias, as in the model
};

Tensor Quantized(Device& device, const Tensor& source, bool transpose_b) {
  Tensor target = device.Make(DType::kI8, {source.shape[0], source.shape[1]});
  target.scale = device.Make(DType::kF32, {source.shape[transpose_b ? 0 : 1]}).as<float>();
  device->Quantize(target, source, transpose_b);
  return target;
}

// The factor of the element at row i and column j as stored.
float ScaleAt(const Tensor& quantized, bool transpose_b, int64_t i, int64_t j) {
  return quantized.scale[transpose_b ? i : j];
}

void CheckProduct(const Int8Case& g) {
  const std::string name = Text(g.m, 'x', g.n, 'x', g.k, g.transpose_b ? "T" : "N",
                                g.type == DType::kBF16 ? "bf16" : "f32", g.gelu ? "gelu" : "");
  const int64_t b_rows = g.transpose_b ? g.n : g.k, b_columns = g.transpose_b ? g.k : g.n;
  const auto a = As(RandomFloats(g.m * g.k), g.type), b = RandomFloats(b_rows * b_columns), bias = RandomFloats(g.n);
  std::vector<float> first;
  for (int threads : {1, 2, 3}) {
    Device device(threads);
    Gemm op;
    op.transpose_b = g.transpose_b;
    op.m = g.m, op.n = g.n, op.k = g.k;
    op.a = device.Put(a, g.type, {g.m, g.k});
    op.b = Quantized(device, device.Put(b, DType::kF32, {b_rows, b_columns}), g.transpose_b);
    op.c = device.Make(g.type, {g.m, g.n});
    if (g.gelu) {
      op.bias = device.Put(bias, DType::kF32, {g.n});
      op.epilogue = Epilogue::kGelu;
      op.aux = device.Make(g.type, {g.m, g.n});
    }
    device->Run(op);

    std::vector<double> expected(g.m * g.n);
    for (int64_t i = 0; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) {
        double& sum = expected[i * g.n + j];
        for (int64_t p = 0; p < g.k; ++p) {
          const int64_t row = g.transpose_b ? j : p, column = g.transpose_b ? p : j;
          sum += static_cast<double>(a[i * g.k + p]) * op.b.as<int8_t>()[row * b_columns + column] *
                 ScaleAt(op.b, g.transpose_b, row, column);
        }
        if (g.gelu) sum += bias[j];
      }
    }
    const double bound = g.type == DType::kBF16 ? 4e-3 : 2e-6, root_k = std::sqrt(static_cast<double>(g.k));
    const auto sums = Device::Get(g.gelu ? op.aux : op.c), c = Device::Get(op.c);
    CHECK(WorstError(sums, expected, root_k) < bound, name, WorstError(sums, expected, root_k));
    if (g.gelu) {
      const Tensor again = device.Make(g.type, {g.m, g.n});
      device->Gelu(again, op.aux);
      CHECK(Device::Get(again) == c, name, "gelu");
    }
    if (first.empty()) first = c;
    CHECK(std::memcmp(first.data(), c.data(), c.size() * 4) == 0, name, "threads", threads);
  }
}

TEST(Int8Products) {
  for (bool transpose_b : {false, true}) {
    for (DType type : {DType::kF32, DType::kBF16}) {
      for (int64_t m : {1, 3, 8}) {
        for (int64_t n : {1, 15, 32, 49, 300}) {
          for (int64_t k : {1, 3, 31, 64, 130}) CheckProduct({m, n, k, transpose_b, type});
        }
      }
      CheckProduct({1, 2304, 768, transpose_b, type});
      CheckProduct({7, 101, 700, transpose_b, type, true});
    }
  }
}

TEST(QuantizeRoundsToTheNearest) {
  for (bool transpose_b : {false, true}) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {50, 300}, {300, 513}}) {
      const auto values = RandomFloats(rows * columns, 0.02f);
      std::vector<int8_t> first;
      for (int threads : {1, 3}) {
        Device device(threads);
        const Tensor found = Quantized(device, device.Put(values, DType::kF32, {rows, columns}), transpose_b);
        std::vector<float> most(transpose_b ? rows : columns, 0.0f);
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < columns; ++j) {
            float& largest = most[transpose_b ? i : j];
            largest = std::max(largest, std::abs(values[i * columns + j]));
          }
        }
        const int8_t* integers = found.as<int8_t>();
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < columns; ++j) {
            const double scale = ScaleAt(found, transpose_b, i, j), x = values[i * columns + j];
            const int integer = integers[i * columns + j];
            CHECK(std::abs(scale * 127 / most[transpose_b ? i : j] - 1) < 1e-6, rows, columns, i, j);
            CHECK(std::abs(integer - x / scale) < 0.5 + 1e-4 && std::abs(integer) <= 127, x, scale, integer);
          }
        }
        if (first.empty()) first.assign(integers, integers + rows * columns);
        CHECK(std::equal(first.begin(), first.end(), integers), "threads", threads);
      }
    }
  }
}

TEST(QuantizeOfWhatIsNotOrdinary) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kLargest = std::numeric_limits<float>::max();
  // Columns of b: zeros, subnormals, the largest numbers, an infinity, a NaN, very small ones.
  constexpr int64_t kK = 3, kN = 6;
  const std::vector<float> rows = {0, 1e-40f, kLargest,  1,         1,   1e-33f,  //
                                   0, 1e-41f, -kLargest, kInfinity, 1,   2e-33f,  //
                                   0, 0,      kLargest,  1,         NAN, -1e-33f};
  std::vector<float> columns(rows.size());
  for (int64_t i = 0; i < kK; ++i) {
    for (int64_t j = 0; j < kN; ++j) columns[j * kK + i] = rows[i * kN + j];
  }
  for (bool transpose_b : {false, true}) {
    Device device(1);
    Gemm op;
    op.transpose_b = transpose_b;
    op.m = 1, op.n = kN, op.k = kK;
    op.a = device.Put({1e-3f, 2e-3f, 3e-3f}, DType::kF32, {1, kK});
    const Tensor b = transpose_b ? device.Put(columns, DType::kF32, {kN, kK}) : device.Put(rows, DType::kF32, {kK, kN});
    op.b = Quantized(device, b, transpose_b);
    op.c = device.Make(DType::kF32, {1, kN});
    device->Run(op);
    const auto c = Device::Get(op.c);
    CHECK(c[0] == 0 && c[1] == 0, c[0], c[1]);
    CHECK(std::abs(c[2] / (2e-3f * kLargest) - 1) < 1e-5, c[2]);
    CHECK(std::abs(c[5] / 2e-36f - 1) < 0.02, c[5]);
    CHECK(!std::isfinite(c[3]) && !std::isfinite(c[4]), c[3], c[4]);
  }
}

}  // namespace
}  // namespace kotodama::test
