// Weights of eight bits. They are made once, so that what a compiler makes of plain loops is fast enough.
#include <algorithm>
#include <cstring>

#include "cpu/ops.h"

namespace kotodama::cpu {
namespace {

int32_t BitsOf(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

// The bits of a magnitude, which order numbers as the magnitudes do, with infinity and NaN above all others.
int32_t MagnitudeBits(float x) {
  return BitsOf(x) & 0x7fffffff;
}

// Columns with a smaller one become zeros, so that 1 / scale stays finite.
constexpr float kLeastScale = 1e-36f;

float ScaleOf(int32_t magnitude) {
  float scale;
  std::memcpy(&scale, &magnitude, sizeof(scale));
  scale /= 127.0f;
  return scale < kLeastScale ? 0.0f : scale;
}

float InverseOf(float scale) {
  return scale == 0.0f ? 0.0f : 1.0f / scale;
}

int8_t RoundToInt8(float x) {
  return static_cast<int8_t>(BitsOf(x + kShiftOfInteger));
}

void QuantizeRow(const float* __restrict source, int64_t columns, int8_t* __restrict target, float* scale) {
  int32_t most = 0;
  for (int64_t j = 0; j < columns; ++j) most = std::max(most, MagnitudeBits(source[j]));
  *scale = ScaleOf(most);
  const float inverse = InverseOf(*scale);
  for (int64_t j = 0; j < columns; ++j) target[j] = RoundToInt8(source[j] * inverse);
}

constexpr int64_t kMostColumns = 128;
constexpr int64_t kRowsAhead = 16;

// Up to kMostColumns columns of a matrix whose rows are `ld` apart.
void QuantizeColumns(const float* __restrict source, int64_t ld, int64_t rows, int64_t columns,
                     int8_t* __restrict target, float* __restrict scale) {
  int32_t most[kMostColumns] = {};
  float inverse[kMostColumns];
  for (int64_t i = 0; i < rows; ++i) {
    // Pieces of rows are not what the processor fetches ahead by itself.
    for (int64_t j = 0; j < columns; j += 16) __builtin_prefetch(source + (i + kRowsAhead) * ld + j);
    for (int64_t j = 0; j < columns; ++j) most[j] = std::max(most[j], MagnitudeBits(source[i * ld + j]));
  }
  for (int64_t j = 0; j < columns; ++j) {
    scale[j] = ScaleOf(most[j]);
    inverse[j] = InverseOf(scale[j]);
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) target[i * ld + j] = RoundToInt8(source[i * ld + j] * inverse[j]);
  }
}

}  // namespace

void Quantize(const Engine& engine, const Tensor& target, const Tensor& source, bool transpose_b) {
  constexpr int64_t kElementsOfItem = 1 << 16;
  const int64_t rows = source.shape[0], columns = source.shape[1];
  const float* from = source.as<float>();
  int8_t* to = target.as<int8_t>();
  if (transpose_b) {
    ForRanges(engine.pool, rows, std::max<int64_t>(1, kElementsOfItem / columns), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        QuantizeRow(from + i * columns, columns, to + i * columns, target.scale + i);
    });
  } else {
    ForRanges(engine.pool, columns, kMostColumns, [&](int64_t begin, int64_t end, int) {
      QuantizeColumns(from + begin, columns, rows, end - begin, to + begin, target.scale + begin);
    });
  }
}

}  // namespace kotodama::cpu
