// The matrix product's register tile.
#pragma once

#include "cpu/kernels.h"
#include "cpu/kernels/math-inl.h"

namespace kotodama::cpu {
namespace {

constexpr int kTileColumns = kTileVectors * kWidth;
constexpr int kWidestTile = kWideTileVectors * kWidth;  // columns

// The rows of a tile with so many vectors, at most.
constexpr int MostRows(int vectors) {
  return vectors > kTileVectors ? kWideTileRows : kTileRows;
}

// The two ways to multiply. A step takes 4 bytes of a and of every column of b.
struct F32Steps {
  using Vector = F32;
  static constexpr int kElements = 1;
  static Vector LoadB(const float* p) { return Load(p); }
  static Vector BroadcastA(const char* p) {
    float x;
    __builtin_memcpy(&x, p, sizeof(x));
    return Set(x);
  }
  static F32 MultiplyAdd(F32 sum, Vector a, Vector b) { return Fma(a, b, sum); }
  // The elements of a step of kWidth columns, one after another.
  static F32 Add(F32 sum, const float* step) { return sum + Load(step); }
};

#ifdef KOTODAMA_BF16_DOT
struct PairSteps {
  using Vector = Pairs;
  static constexpr int kElements = 2;
  static Vector LoadB(const float* p) { return LoadPairs(p); }
  static Vector BroadcastA(const char* p) {
    uint32_t pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return SetPairs(pair);
  }
  static F32 MultiplyAdd(F32 sum, Vector a, Vector b) { return Dot(sum, a, b); }
  static F32 Add(F32 sum, const float* step) { return sum + FirstOfPairs(step) + SecondOfPairs(step); }
};
#endif

inline void FetchSome(Prefetch* soon) {
  for (int i = 0; i < soon->lines_per_turn && soon->rows > 0; ++i) {
    __builtin_prefetch(soon->row + soon->line * 64, 0, 2);
    if (++soon->line == soon->lines_per_row) {
      soon->line = 0;
      soon->row += soon->row_stride;
      --soon->rows;
    }
  }
}

// b comes from the second-level cache. The processor's own prefetching follows it too late beside rows of a that are
// packed, and not at all where b is not. So far ahead a tile asks for its steps then, if a vector is a line.
constexpr int kStepsAhead = 8;
constexpr bool kVectorIsLine = kWidth * sizeof(float) == 64;

// Two vectors side by side; simd/ has its own where the processor has an instruction for it.
template <typename E>
inline void StoreTwo(E* p, F32 a, F32 b) {
  Store(p, a);
  Store(p + kWidth, b);
}

template <int kVectors>
__attribute__((always_inline)) inline void StoreVectors(float* p, const F32 (&values)[kVectors]) {
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Store(p + v * kWidth, values[v]);
}
template <int kVectors>
__attribute__((always_inline)) inline void StoreVectors(BF16* p, const F32 (&values)[kVectors]) {
#pragma GCC unroll 8
  for (int v = 0; v + 1 < kVectors; v += 2) StoreTwo(p + v * kWidth, values[v], values[v + 1]);
  if (kVectors % 2 == 1) Store(p + (kVectors - 1) * kWidth, values[kVectors - 1]);
}

template <int kRows, int kVectors>
__attribute__((always_inline)) inline void StoreSums(F32 (&sum)[kRows][kVectors], const TileTarget& to) {
  float* floats = static_cast<float*>(to.rows.data);
  if (to.add) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] + Load(floats + r * to.stride + v * kWidth);
    }
  }
  if (to.bias != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const F32 bias = Load(to.bias + v * kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][v] = sum[r][v] + bias;
    }
  }
  if (to.rows.bf16) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreVectors(static_cast<BF16*>(to.rows.data) + r * to.stride, sum[r]);
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreVectors(floats + r * to.stride, sum[r]);
  }
}

// to(kRows, kVectors) = a b; b is one panel with b_stride floats from step to step.
// kUnitStep: the steps of a row of a lie side by side, else its rows do. kAsks: for steps of b ahead.
template <typename Steps, int kRows, int kVectors, bool kUnitStep, bool kAsks>
__attribute__((always_inline)) inline void ComputeTile(int64_t steps, const char* a, int64_t row_stride,
                                                       int64_t step_stride, const float* b, int b_stride,
                                                       const TileTarget& to, Prefetch* soon) {
  F32 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Set(0.0f);
  }
  const int64_t rows_apart = kUnitStep ? row_stride : 4;
  const int64_t steps_apart = kUnitStep ? 4 : step_stride;
  for (int64_t s = 0; s < steps;) {
    const int64_t turn = steps - s < kStepsPerTurn ? steps : s + kStepsPerTurn;
    if (soon != nullptr) {
      FetchSome(&soon[0]);
      FetchSome(&soon[1]);
    }
    for (; s < turn; ++s) {
      typename Steps::Vector bv[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        bv[v] = Steps::LoadB(b + v * kWidth);
        if (kAsks && kVectorIsLine) __builtin_prefetch(b + kStepsAhead * b_stride + v * kWidth);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const typename Steps::Vector av = Steps::BroadcastA(a + r * rows_apart);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Steps::MultiplyAdd(sum[r][v], av, bv[v]);
      }
      a += steps_apart;
      b += b_stride;
    }
  }
  StoreSums<kRows, kVectors>(sum, to);
}

template <typename Steps, int kRows, int kVectors>
void ComputeTileOf(int64_t steps, const char* a, int64_t row_stride, int64_t step_stride, const float* b, int b_stride,
                   const TileTarget& to, Prefetch* soon) {
  if (step_stride != 4) {
    ComputeTile<Steps, kRows, kVectors, false, true>(steps, a, 4, step_stride, b, b_stride, to, soon);
  } else if (b_stride > kWidestTile) {  // b is read where it is, and not one panel anyway
    ComputeTile<Steps, kRows, kVectors, true, true>(steps, a, row_stride, 4, b, b_stride, to, soon);
  } else {
    ComputeTile<Steps, kRows, kVectors, true, false>(steps, a, row_stride, 4, b, b_stride, to, soon);
  }
}

template <typename Steps, int kVectors>
void TileWithVectors(int rows, int64_t steps, const char* a, int64_t row_stride, int64_t step_stride, const float* b,
                     int b_stride, const TileTarget& to, Prefetch* soon) {
  switch (rows) {
#define KOTODAMA_ROWS(n)                                                                           \
  case n:                                                                                          \
    if constexpr (n <= MostRows(kVectors)) {                                                       \
      ComputeTileOf<Steps, n, kVectors>(steps, a, row_stride, step_stride, b, b_stride, to, soon); \
    }                                                                                              \
    break;
    KOTODAMA_ROWS(1)
    KOTODAMA_ROWS(2)
    KOTODAMA_ROWS(3)
    KOTODAMA_ROWS(4)
    KOTODAMA_ROWS(5)
    KOTODAMA_ROWS(6)
    KOTODAMA_ROWS(7)
    KOTODAMA_ROWS(8)
#undef KOTODAMA_ROWS
    default:
      break;
  }
}

// Rows are packed or not: a + row * row_stride + step * step_stride (bytes), one of the strides being 4.
template <typename Steps>
void Tile(int rows, int columns, int64_t steps, const void* a, int64_t row_stride, int64_t step_stride, const float* b,
          int b_stride, const TileTarget& to, Prefetch* soon) {
  const char* bytes = static_cast<const char*>(a);
  const int vectors = (columns + kWidth - 1) / kWidth;
  if (vectors >= 4 && kWideTileVectors >= 4) {
    TileWithVectors<Steps, kWideTileVectors>(rows, steps, bytes, row_stride, step_stride, b, b_stride, to, soon);
  } else if (vectors >= 3 && kTileVectors >= 3) {
    TileWithVectors<Steps, kTileVectors>(rows, steps, bytes, row_stride, step_stride, b, b_stride, to, soon);
  } else if (vectors >= 2) {
    TileWithVectors<Steps, 2>(rows, steps, bytes, row_stride, step_stride, b, b_stride, to, soon);
  } else {
    TileWithVectors<Steps, 1>(rows, steps, bytes, row_stride, step_stride, b, b_stride, to, soon);
  }
}

template <typename Steps>
void GemmTile(int rows, int columns, int64_t steps, const void* a, int64_t row_stride, int64_t step_stride,
              const void* b, int64_t b_stride, const TileTarget& to, Prefetch* soon) {
  Tile<Steps>(rows, columns, steps, a, row_stride, step_stride, static_cast<const float*>(b),
              static_cast<int>(b_stride), to, soon);
}

}  // namespace
}  // namespace kotodama::cpu
