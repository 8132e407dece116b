// Packing: panels that a register tile reads from front to back.
#pragma once

#include "cpu/kernels/gemm_tile-inl.h"

namespace kotodama::cpu {
namespace {

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
  int i = 0;
#ifdef KOTODAMA_BF16_DOT
  if constexpr (kElements == 2) {
    for (; second != nullptr && i + 2 * kWidth <= kCount; i += 2 * kWidth) {
      F32 pairs[2];
      PairRows(first + i, second + i, pairs[0], pairs[1]);
      for (int v = 0; v < 2; ++v) Store(reinterpret_cast<float*>(out) + i + v * kWidth, pairs[v]);
    }
  }
#endif
  if (kElements == 2 && second == nullptr) {
    for (; i < kCount; ++i) out[i] = StepOf<kElements>(first + i, static_cast<const E*>(nullptr));
  } else {
    for (; i < kCount; ++i) out[i] = StepOf<kElements>(first + i, second + i);
  }
}

#ifdef KOTODAMA_BF16_DOT
// One step of four panels, half a vector each.
inline void CopyStepOfHalves(const BF16* first, const BF16* second, uint32_t* out, int64_t panel_stride) {
  F32 pairs[2];
  PairRows(first, second, pairs[0], pairs[1]);
  float* panel = reinterpret_cast<float*>(out);
  for (int v = 0; v < 2; ++v) StoreHalves(panel + 2 * v * panel_stride, panel + (2 * v + 1) * panel_stride, pairs[v]);
}
#endif

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
void PackColumns(const E* source, int64_t ld, int64_t k, int64_t columns, uint32_t* out, int64_t panel_stride) {
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
#ifdef KOTODAMA_BF16_DOT
    if constexpr (kElements == 2 && 2 * kColumns == kWidth) {
      for (; second != nullptr && j + 4 * kColumns <= columns; j += 4 * kColumns, panel += 4 * panel_stride) {
        CopyStepOfHalves(first + j, second + j, panel, panel_stride);
      }
    }
#endif
    for (; j + kColumns <= columns; j += kColumns, panel += panel_stride) {
      CopyStep<kElements, kColumns>(first + j, second == nullptr ? nullptr : second + j, panel);
    }
    if (j < columns) {
      CopyStepPartial<kElements>(first + j, second == nullptr ? nullptr : second + j, static_cast<int>(columns - j),
                                 kColumns, panel);
    }
  }
}

// Panels that are packed at a time. A processor keeps up with writing at a few places at once, and every panel is one.
constexpr int64_t kPanelsAtOnce = 8;

template <int kElements, int kColumns, typename E>
void PackSideBySide(const E* source, int64_t ld, int64_t k, int64_t columns, uint32_t* out, int64_t panel_stride) {
  constexpr int64_t kColumnsAtOnce = kPanelsAtOnce * kColumns;
  for (int64_t j = 0; j < columns; j += kColumnsAtOnce, out += kPanelsAtOnce * panel_stride) {
    const int64_t some = columns - j < kColumnsAtOnce ? columns - j : kColumnsAtOnce;
    PackColumns<kElements, kColumns>(source + j, ld, k, some, out, panel_stride);
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

template <typename Steps, int kColumns = kTileColumns>
void PackB(Row b, int64_t ld, bool transposed, int64_t k, int64_t n, float* out, int64_t panel_stride) {
  Pack<Steps::kElements, kColumns>(b, ld, !transposed, k, n, out, panel_stride);
}

template <typename Steps, int kRows>
void PackA(Row a, int64_t ld, bool transposed, int64_t k, int64_t m, float* out, int64_t panel_stride) {
  Pack<Steps::kElements, kRows>(a, ld, transposed, k, m, out, panel_stride);
}

// sums += the steps of some vectors of columns, side by side: each addition waits for the one before it of its column.
template <typename Steps, int kVectors>
void AddColumns(const float* panel, int64_t b_stride, int64_t steps, float* sums) {
  F32 total[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) total[v] = Load(sums + v * kWidth);
  for (int64_t s = 0; s < steps; ++s, panel += b_stride) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) total[v] = Steps::Add(total[v], panel + v * kWidth);
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Store(sums + v * kWidth, total[v]);
}

template <typename Steps>
void PanelSums(const float* panel, int64_t b_stride, int columns, int64_t steps, float* sums) {
  int v = 0;
  for (; v + 2 * kWidth < columns; v += 3 * kWidth) AddColumns<Steps, 3>(panel + v, b_stride, steps, sums + v);
  for (; v < columns; v += kWidth) AddColumns<Steps, 1>(panel + v, b_stride, steps, sums + v);
}

}  // namespace
}  // namespace kotodama::cpu
