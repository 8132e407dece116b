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
  // sum + the elements of a step of kWidth columns
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
  static F32 Add(F32 sum, const float* step) {
    constexpr uint32_t kOnes = 0x3f803f80;  // in bfloat16
    return Dot(sum, SetPairs(kOnes), LoadPairs(step));
  }
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

template <int kVectors, typename E>
__attribute__((always_inline)) inline void StoreVectors(E* p, const F32 (&values)[kVectors]) {
#pragma GCC unroll 8
  for (int v = 0; v + 1 < kVectors; v += 2) StoreTwo(p + v * kWidth, values[v], values[v + 1]);
  if (kVectors % 2 == 1) Store(p + (kVectors - 1) * kWidth, values[kVectors - 1]);
}

template <int kRows, int kVectors>
__attribute__((always_inline)) inline void StoreSums(F32 (&sum)[kRows][kVectors], const TileTarget& to,
                                                     int64_t column) {
  if (to.add) {
    const float* before = static_cast<const float*>(to.rows.data) + column;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] + Load(before + r * to.stride + v * kWidth);
    }
  }
  if (to.bias != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const F32 bias = Load(to.bias + column + v * kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][v] = sum[r][v] + bias;
    }
  }
  if (to.rows.bf16) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreVectors(static_cast<BF16*>(to.rows.data) + column + r * to.stride, sum[r]);
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) StoreVectors(static_cast<float*>(to.rows.data) + column + r * to.stride, sum[r]);
  }
}

// `to` takes a b from `column` on; b is one panel with b_stride floats from step to step.
// kUnitStep: the steps of a row of a lie side by side, else its rows do. kAsks: for steps of b ahead.
template <typename Steps, int kRows, int kVectors, bool kUnitStep, bool kAsks>
__attribute__((always_inline)) inline void ComputeTile(int64_t steps, const char* a, int64_t row_stride,
                                                       int64_t step_stride, const float* b, int b_stride,
                                                       const TileTarget& to, int64_t column, Prefetch* soon) {
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
  StoreSums<kRows, kVectors>(sum, to, column);
}

// Asks for the memory that a tile will write: it arrives while the tile is computed.
template <int kRows, int kVectors>
__attribute__((always_inline)) inline void FetchTarget(const TileTarget& to, int64_t column) {
  const int64_t size = to.rows.bf16 ? 2 : 4;
  const char* row = static_cast<const char*>(to.rows.data) + column * size;
  for (int r = 0; r < kRows; ++r, row += to.stride * size) {
    for (int64_t byte = 0; byte < kVectors * kWidth * size; byte += 64) __builtin_prefetch(row + byte, 1);
  }
}

// Panels from the one at `column` on.
template <typename Steps, int kRows, int kVectors, bool kUnitStep, bool kAsks>
void ComputeTiles(const TileProduct& p, int64_t panels, int64_t column, const float* panel) {
  const int b_stride = static_cast<int>(p.b.step_stride);
  for (; panels > 0; --panels, column += kVectors * kWidth, panel += p.b.panel_stride) {
    if (p.to.far) FetchTarget<kRows, kVectors>(p.to, column);
    ComputeTile<Steps, kRows, kVectors, kUnitStep, kAsks>(p.steps, p.a, p.row_stride, p.step_stride, panel, b_stride,
                                                          p.to, column, p.soon);
  }
}

template <typename Steps, int kRows, int kVectors>
void TilesOfRows(const TileProduct& p, int64_t panels, int64_t column, const float* panel) {
  if (p.step_stride != 4) {
    ComputeTiles<Steps, kRows, kVectors, false, true>(p, panels, column, panel);
  } else if (p.b.step_stride > kWidestTile) {  // b is read where it is, and not one panel anyway
    ComputeTiles<Steps, kRows, kVectors, true, true>(p, panels, column, panel);
  } else {
    ComputeTiles<Steps, kRows, kVectors, true, false>(p, panels, column, panel);
  }
}

template <typename Steps, int kVectors>
void TilesOfVectors(const TileProduct& p, int rows, int64_t panels, int64_t column, const float* panel) {
  switch (rows) {
#define KOTODAMA_ROWS(n)                                                                              \
  case n:                                                                                             \
    if constexpr (n <= MostRows(kVectors)) TilesOfRows<Steps, n, kVectors>(p, panels, column, panel); \
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

template <typename Steps>
void TilesOfWidth(const TileProduct& p, int vectors, int rows, int64_t panels, int64_t column, const float* panel) {
  if (vectors >= 4 && kWideTileVectors >= 4) {
    TilesOfVectors<Steps, kWideTileVectors>(p, rows, panels, column, panel);
  } else if (vectors >= 3 && kTileVectors >= 3) {
    TilesOfVectors<Steps, kTileVectors>(p, rows, panels, column, panel);
  } else if (vectors >= 2) {
    TilesOfVectors<Steps, 2>(p, rows, panels, column, panel);
  } else {
    TilesOfVectors<Steps, 1>(p, rows, panels, column, panel);
  }
}

template <typename Steps>
void Tiles(const TileProduct& p, int rows, int64_t columns) {
  const int64_t whole = columns / p.b.columns;
  const int64_t done = whole * p.b.columns;
  if (whole > 0) TilesOfWidth<Steps>(p, p.b.columns / kWidth, rows, whole, 0, p.b.first);
  if (done == columns) return;
  const int vectors = static_cast<int>((columns - done + kWidth - 1) / kWidth);
  TilesOfWidth<Steps>(p, vectors, rows, 1, done, p.b.first + whole * p.b.panel_stride);
}

}  // namespace
}  // namespace kotodama::cpu
