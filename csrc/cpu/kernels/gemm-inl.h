// The matrix product's register tile, packing, and what happens to a finished tile.
#pragma once

#include "cpu/kernels.h"
#include "cpu/kernels/math-inl.h"

namespace kotodama::cpu {
namespace {

constexpr int kTileColumns = kTileVectors * kWidth;

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

// tile(kRows, kVectors) = a b; b is one packed panel with b_stride floats from step to step.
// kUnitStep: the steps of a row of a lie side by side, else its rows do.
template <typename Steps, int kRows, int kVectors, bool kUnitStep>
__attribute__((always_inline)) inline void ComputeTile(int64_t steps, const char* a, int64_t row_stride,
                                                       int64_t step_stride, const float* b, int b_stride, float* tile,
                                                       int64_t tile_stride, Prefetch* soon) {
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
      for (int v = 0; v < kVectors; ++v) bv[v] = Steps::LoadB(b + v * kWidth);
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
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) Store(tile + r * tile_stride + v * kWidth, sum[r][v]);
  }
}

template <typename Steps, int kRows, int kVectors>
void ComputeTileOf(int64_t steps, const char* a, int64_t row_stride, int64_t step_stride, const float* b, int b_stride,
                   float* tile, int64_t tile_stride, Prefetch* soon) {
  if (step_stride == 4) {
    ComputeTile<Steps, kRows, kVectors, true>(steps, a, row_stride, 4, b, b_stride, tile, tile_stride, soon);
  } else {
    ComputeTile<Steps, kRows, kVectors, false>(steps, a, 4, step_stride, b, b_stride, tile, tile_stride, soon);
  }
}

template <typename Steps, int kVectors>
void TileWithVectors(int rows, int64_t steps, const char* a, int64_t row_stride, int64_t step_stride, const float* b,
                     int b_stride, float* tile, int64_t tile_stride, Prefetch* soon) {
  switch (rows) {
#define KOTODAMA_ROWS(n)                                                                                          \
  case n:                                                                                                         \
    if constexpr (n <= kTileRows) {                                                                               \
      ComputeTileOf<Steps, n, kVectors>(steps, a, row_stride, step_stride, b, b_stride, tile, tile_stride, soon); \
    }                                                                                                             \
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
          int b_stride, float* tile, int64_t tile_stride, Prefetch* soon) {
  const char* bytes = static_cast<const char*>(a);
  const int vectors = (columns + kWidth - 1) / kWidth;
  if (vectors >= 3 && kTileVectors >= 3) {
    TileWithVectors<Steps, kTileVectors>(rows, steps, bytes, row_stride, step_stride, b, b_stride, tile, tile_stride,
                                         soon);
  } else if (vectors >= 2) {
    TileWithVectors<Steps, 2>(rows, steps, bytes, row_stride, step_stride, b, b_stride, tile, tile_stride, soon);
  } else {
    TileWithVectors<Steps, 1>(rows, steps, bytes, row_stride, step_stride, b, b_stride, tile, tile_stride, soon);
  }
}

template <typename Steps>
void GemmTile(int rows, int columns, int64_t steps, const void* a, int64_t row_stride, int64_t step_stride,
              const void* b, float* tile, Prefetch* soon) {
  Tile<Steps>(rows, columns, steps, a, row_stride, step_stride, static_cast<const float*>(b), kTileColumns, tile,
              kTileColumns, soon);
}

// ---- Packing ----

inline uint32_t BitsOf(const float* p) {
  uint32_t bits;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return bits;
}

// One step of one element: a float, or a pair of bfloat16 whose second half may be missing.
template <int kElements>
inline uint32_t StepOf(const float* first, const float*) {
  static_assert(kElements == 1, "pairs come from bfloat16 memory");
  return BitsOf(first);
}
template <int kElements>
inline uint32_t StepOf(const BF16* first, const BF16* second) {
  if (kElements == 1) return static_cast<uint32_t>(first->bits) << 16;
  return first->bits | (second == nullptr ? 0u : static_cast<uint32_t>(second->bits) << 16);
}

// kCount side-by-side columns of one step (rows `first` and `second` of the source).
template <int kElements, int kCount, typename E>
inline void CopyStep(const E* first, const E* second, uint32_t* out) {
  if (kElements == 2 && second == nullptr) {
    for (int i = 0; i < kCount; ++i) out[i] = StepOf<kElements>(first + i, static_cast<const E*>(nullptr));
  } else {
    for (int i = 0; i < kCount; ++i) out[i] = StepOf<kElements>(first + i, second + i);
  }
}

template <int kElements, typename E>
inline void CopyStepPartial(const E* first, const E* second, int count, int padded, uint32_t* out) {
  for (int i = 0; i < count; ++i) out[i] = StepOf<kElements>(first + i, second == nullptr ? nullptr : second + i);
  for (int i = count; i < padded; ++i) out[i] = 0;
}

constexpr int64_t kPackAhead = 8;  // steps

template <typename E>
inline void FetchRow(const E* row, int64_t count) {
  const char* bytes = reinterpret_cast<const char*>(row);
  for (int64_t i = 0; i < count * static_cast<int64_t>(sizeof(E)); i += 64) __builtin_prefetch(bytes + i);
}

// Panels of kColumns from a matrix stored (K, columns): rows of it lie side by side already.
template <int kElements, int kColumns, typename E>
void PackSideBySide(const E* source, int64_t ld, int64_t k, int64_t columns, uint32_t* out, int64_t panel_stride) {
  const int64_t steps = (k + kElements - 1) / kElements;
  for (int64_t s = 0; s < steps; ++s) {
    const E* first = source + s * kElements * ld;
    const E* second = kElements == 2 && s * 2 + 1 < k ? first + ld : nullptr;
    // The rows are far apart, which the processor's own prefetching does not follow.
    for (int e = 0; e < kElements && s + kPackAhead < steps; ++e) {
      FetchRow(source + ((s + kPackAhead) * kElements + e) * ld, columns);
    }
    uint32_t* panel = out + s * kColumns;
    int64_t j = 0;
    for (; j + kColumns <= columns; j += kColumns, panel += panel_stride) {
      CopyStep<kElements, kColumns>(first + j, second == nullptr ? nullptr : second + j, panel);
    }
    if (j < columns) {
      CopyStepPartial<kElements>(first + j, second == nullptr ? nullptr : second + j, static_cast<int>(columns - j),
                                 kColumns, panel);
    }
  }
}

// kWidth steps of one row, as raw 4-byte units.
template <int kElements>
inline F32 LoadSteps(const float* p) {
  return Load(p);
}
template <int kElements>
inline F32 LoadSteps(const BF16* p) {
  return kElements == 1 ? Load(p) : Load(reinterpret_cast<const float*>(p));
}

// Panels of kColumns from a matrix stored (columns, K): blocks of kWidth x kWidth are transposed in registers.
template <int kElements, int kColumns, typename E>
void PackTransposed(const E* source, int64_t ld, int64_t k, int64_t columns, uint32_t* out, int64_t panel_stride) {
  const int64_t steps = (k + kElements - 1) / kElements;
  const int64_t whole_steps = k / kElements;
  for (int64_t j0 = 0; j0 < columns; j0 += kColumns, out += panel_stride) {
    const int panel_columns = static_cast<int>(columns - j0 < kColumns ? columns - j0 : kColumns);
    for (int block = 0; block < kColumns; block += kWidth) {
      const int width = kColumns - block < kWidth ? kColumns - block : kWidth;
      const int filled = panel_columns - block < width ? panel_columns - block : width;
      const E* rows = source + (j0 + block) * ld;
      int64_t s = 0;
      for (; filled > 0 && s + kWidth <= whole_steps; s += kWidth) {
        F32 square[kWidth];
        for (int i = 0; i < kWidth; ++i) {
          square[i] = i < filled ? LoadSteps<kElements>(rows + i * ld + s * kElements) : Set(0.0f);
        }
        Transpose(square);
        for (int i = 0; i < kWidth; ++i) {
          float* target = reinterpret_cast<float*>(out) + (s + i) * kColumns + block;
          if (width == kWidth) {
            Store(target, square[i]);
          } else {
            StorePartial(target, square[i], width);
          }
        }
      }
      if (filled <= 0) s = 0;
      for (; s < steps; ++s) {
        for (int i = 0; i < width; ++i) {
          const E* first = rows + i * ld + s * kElements;
          const E* second = kElements == 2 && s * 2 + 1 < k ? first + 1 : nullptr;
          out[s * kColumns + block + i] = i < filled ? StepOf<kElements>(first, second) : 0;
        }
      }
    }
  }
}

template <int kElements, int kColumns, typename E>
void PackEither(const E* source, int64_t ld, bool side_by_side, int64_t k, int64_t columns, float* out,
                int64_t panel_stride) {
  uint32_t* units = reinterpret_cast<uint32_t*>(out);
  if (side_by_side) {
    PackSideBySide<kElements, kColumns>(source, ld, k, columns, units, panel_stride);
  } else {
    PackTransposed<kElements, kColumns>(source, ld, k, columns, units, panel_stride);
  }
}

template <int kElements, int kColumns>
void Pack(Row source, int64_t ld, bool side_by_side, int64_t k, int64_t columns, float* out, int64_t panel_stride) {
  if (source.bf16) {
    PackEither<kElements, kColumns>(static_cast<const BF16*>(source.data), ld, side_by_side, k, columns, out,
                                    panel_stride);
  } else if constexpr (kElements == 1) {
    PackEither<1, kColumns>(static_cast<const float*>(source.data), ld, side_by_side, k, columns, out, panel_stride);
  }
}

template <typename Steps>
void PackB(Row b, int64_t ld, bool transposed, int64_t k, int64_t n, float* out, int64_t panel_stride) {
  Pack<Steps::kElements, kTileColumns>(b, ld, !transposed, k, n, out, panel_stride);
}

template <typename Steps>
void PackA(Row a, int64_t ld, bool transposed, int64_t k, int64_t m, float* out, int64_t panel_stride) {
  Pack<Steps::kElements, kTileRows>(a, ld, transposed, k, m, out, panel_stride);
}

template <typename Steps>
void PanelSums(const float* panel, int64_t steps, float* sums) {
  for (int64_t s = 0; s < steps; ++s, panel += kTileColumns) {
    for (int j = 0; j < kTileColumns; ++j) {
      if (Steps::kElements == 1) {
        sums[j] += panel[j];
      } else {
        const uint32_t pair = BitsOf(panel + j), low = pair << 16, high = pair & 0xffff0000u;
        float first, second;
        __builtin_memcpy(&first, &low, sizeof(first));
        __builtin_memcpy(&second, &high, sizeof(second));
        sums[j] += first;
        sums[j] += second;
      }
    }
  }
}

// ---- Finished tiles ----

inline F32 LoadRow(Row row, int64_t index, int n) {
  if (row.bf16) return LoadPartial(static_cast<const BF16*>(row.data) + index, n);
  return LoadPartial(static_cast<const float*>(row.data) + index, n);
}

inline void StoreRow(Row row, int64_t index, F32 value, int n) {
  if (row.bf16) {
    StorePartial(static_cast<BF16*>(row.data) + index, value, n);
  } else {
    StorePartial(static_cast<float*>(row.data) + index, value, n);
  }
}

// What memory of this type would give back after a store.
inline F32 Rounded(F32 value, const float*) {
  return value;
}
inline F32 Rounded(F32 value, const BF16*) {
  BF16 lanes[kWidth];
  Store(lanes, value);
  return Load(lanes);
}

// Mirrors kotodama::Epilogue, whose header must not be compiled here; gemm.cc asserts that the numbers agree.
constexpr int kPlainTile = 0, kGeluTile = 1, kGeluBackwardTile = 2;

template <int kEpilogue, typename C, typename Aux>
void FinishLast(const float* tile, int tile_stride, int rows, int columns, const TileOutput& to) {
  for (int r = 0; r < rows; ++r) {
    const float* from = tile + r * tile_stride;
    const float* partial = to.add_partial ? to.partial + r * to.partial_stride : nullptr;
    C* c = static_cast<C*>(to.c.data) + r * to.c_stride;
    Aux* aux = to.aux.data == nullptr ? nullptr : static_cast<Aux*>(to.aux.data) + r * to.aux_stride;
    ForVectors(columns, [&](int64_t j, int n) {
      F32 value = LoadPartial(from + j, n);
      if (partial != nullptr) value = value + LoadPartial(partial + j, n);
      if (to.bias != nullptr) value = value + LoadPartial(to.bias + j, n);
      if (kEpilogue == kGeluTile) {
        if (aux != nullptr) StorePartial(aux + j, value, n);
        value = GeluOf(Rounded(value, static_cast<Aux*>(nullptr)));
      } else if (kEpilogue == kGeluBackwardTile) {
        value = value * GeluSlopeOf(LoadPartial(aux + j, n));
      }
      StorePartial(c + j, value, n);
    });
  }
}

template <int kEpilogue, typename C>
void FinishLastWithAux(const float* tile, int tile_stride, int rows, int columns, const TileOutput& to) {
  if (to.aux.bf16) {
    FinishLast<kEpilogue, C, BF16>(tile, tile_stride, rows, columns, to);
  } else {
    FinishLast<kEpilogue, C, float>(tile, tile_stride, rows, columns, to);
  }
}

template <typename C>
void FinishLastWithC(const float* tile, int tile_stride, int rows, int columns, const TileOutput& to) {
  if (to.epilogue == kGeluTile) {
    FinishLastWithAux<kGeluTile, C>(tile, tile_stride, rows, columns, to);
  } else if (to.epilogue == kGeluBackwardTile) {
    FinishLastWithAux<kGeluBackwardTile, C>(tile, tile_stride, rows, columns, to);
  } else {
    FinishLast<kPlainTile, C, float>(tile, tile_stride, rows, columns, to);
  }
}

inline void FinishTile(const float* tile, int tile_stride, int rows, int columns, const TileOutput& to) {
  if (to.last) {
    if (to.c.bf16) {
      FinishLastWithC<BF16>(tile, tile_stride, rows, columns, to);
    } else {
      FinishLastWithC<float>(tile, tile_stride, rows, columns, to);
    }
    return;
  }
  for (int r = 0; r < rows; ++r) {
    float* partial = to.partial + r * to.partial_stride;
    ForVectors(columns, [&](int64_t j, int n) {
      F32 value = LoadPartial(tile + r * tile_stride + j, n);
      if (to.add_partial) value = value + LoadPartial(partial + j, n);
      StorePartial(partial + j, value, n);
    });
  }
}

// ---- Few rows of a ----

// out(m, n) += a(m, kRows) b(kRows, n)
template <int kRows, typename E>
void SkinnyBlock(const float* a, int64_t m, int64_t lda, const E* b, int64_t ldb, int64_t n, float* out) {
  ForVectors(n, [&](int64_t j, int width) {
    F32 bv[kRows];
#pragma GCC unroll 8
    for (int p = 0; p < kRows; ++p) {
      __builtin_prefetch(b + (p + kRows) * ldb + j);  // the rows of the next block
      bv[p] = LoadPartial(b + p * ldb + j, width);
    }
    for (int64_t i = 0; i < m; ++i) {
      F32 sum = LoadPartial(out + i * n + j, width);
#pragma GCC unroll 8
      for (int p = 0; p < kRows; ++p) sum = Fma(Set(a[i * lda + p]), bv[p], sum);
      StorePartial(out + i * n + j, sum, width);
    }
  });
}

// out(m, n) += a(m, k) b(k, n): the rows of b are read once, in their order.
template <typename E>
void SkinnyRowsOf(const float* a, int64_t m, int64_t lda, const E* b, int64_t ldb, int64_t k, int64_t n, float* out) {
  int64_t p = 0;
  for (; p + 8 <= k; p += 8) SkinnyBlock<8>(a + p, m, lda, b + p * ldb, ldb, n, out);
  for (; p < k; ++p) SkinnyBlock<1>(a + p, m, lda, b + p * ldb, ldb, n, out);
}

// out(i, j) = a(i, :) . b(j, :)
template <typename E>
void SkinnyDotsOf(const float* a, int64_t m, int64_t lda, const E* b, int64_t ldb, int64_t k, int64_t n, float* out,
                  int64_t ldo) {
  for (int64_t j = 0; j < n; ++j) {
    const E* row = b + j * ldb;
    for (int64_t i = 0; i < m; ++i) {
      const float* x = a + i * lda;
      F32 sum[4] = {Set(0.0f), Set(0.0f), Set(0.0f), Set(0.0f)};
      int64_t p = 0;
      for (; p + 4 * kWidth <= k; p += 4 * kWidth) {
        for (int q = 0; q < 4; ++q) sum[q] = Fma(Load(x + p + q * kWidth), Load(row + p + q * kWidth), sum[q]);
      }
      for (; p < k; p += kWidth) {
        const int width = static_cast<int>(k - p < kWidth ? k - p : kWidth);
        sum[0] = Fma(LoadPartial(x + p, width), LoadPartial(row + p, width), sum[0]);
      }
      out[i * ldo + j] = ReduceAdd((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }
}

inline void SkinnyRows(const float* a, int64_t m, int64_t lda, Row b, int64_t ldb, int64_t k, int64_t n, float* out) {
  if (b.bf16) {
    SkinnyRowsOf(a, m, lda, static_cast<const BF16*>(b.data), ldb, k, n, out);
  } else {
    SkinnyRowsOf(a, m, lda, static_cast<const float*>(b.data), ldb, k, n, out);
  }
}

inline void SkinnyDots(const float* a, int64_t m, int64_t lda, Row b, int64_t ldb, int64_t k, int64_t n, float* out,
                       int64_t ldo) {
  if (b.bf16) {
    SkinnyDotsOf(a, m, lda, static_cast<const BF16*>(b.data), ldb, k, n, out, ldo);
  } else {
    SkinnyDotsOf(a, m, lda, static_cast<const float*>(b.data), ldb, k, n, out, ldo);
  }
}

template <typename Steps>
constexpr GemmKernels MakeGemmKernels() {
  return {Steps::kElements, kTileRows, kTileColumns, GemmTile<Steps>, PackB<Steps>, PackA<Steps>, PanelSums<Steps>};
}

}  // namespace
}  // namespace kotodama::cpu
