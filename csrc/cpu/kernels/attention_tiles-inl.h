// Causal attention in tiles with online softmax (Dao et al., "FlashAttention", 2022): no T x T matrix is stored.
#pragma once

#include "cpu/kernels/elementwise-inl.h"

namespace kotodama::cpu {
namespace {

// Tiles of keys; multiples of all tile columns and of the rows of all register tiles.
constexpr int64_t kForwardKeyTile = 384;
constexpr int64_t kKeyTile = 192;  // in backward
constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;
// A tile of queries in backward: whole register tiles, so that none holds keys of which only some were seen before.
constexpr int64_t kQueryTile = 96;
static_assert(kQueryTile % kTileRows == 0 && kQueryTile % 2 == 0);
static_assert(kForwardKeyTile % kTileColumns == 0 && kKeyTile % kTileColumns == 0 && kKeyTile % kTileRows == 0);

inline int64_t RoundUp(int64_t x, int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

// Hands out pieces of the scratch memory, in 4-byte units on cache lines. With a null base it only counts.
struct Carver {
  float* base;
  int64_t used = 0;

  template <typename E = float>
  E* Take(int64_t units) {
    float* piece = base == nullptr ? nullptr : base + used;
    used += RoundUp(units, 16) + 16;  // the gap keeps equal pieces from falling on the same cache sets
    return reinterpret_cast<E*>(piece);
  }
};

// Everything one head needs, for Steps = F32Steps or PairSteps. Widths: d elements are `d_steps` steps, and `d_padded`
// columns in whole panels of `columns`.
template <typename Steps>
struct HeadLayout {
  static constexpr int64_t kE = Steps::kElements;
  int64_t d, t, d_steps, d_padded;
  int columns;
  int64_t key_panel;    // 4-byte units of one panel of k^T or v^T
  int64_t value_panel;  // of one panel of d columns over all positions

  HeadLayout(int64_t t, int64_t d)
      : d(d),
        t(t),
        d_steps((d + kE - 1) / kE),
        d_padded(RoundUp(d, ColumnsFor(d))),
        columns(ColumnsFor(d)),
        key_panel(d_steps * kTileColumns),
        value_panel(RoundUp(t, 2) / kE * columns) {}

  // A last panel of one vector would leave the multipliers waiting for each other: two panels of two instead.
  static constexpr int ColumnsFor(int64_t d) {
    const int64_t vectors = (d + kWidth - 1) / kWidth;
    return kTileVectors == 3 && (vectors % 3 == 1 || vectors == 2) ? 2 * kWidth : kTileColumns;
  }

  int64_t keys_units() const { return RoundUp(t, kTileColumns) / kTileColumns * key_panel; }
  int64_t values_units() const { return d_padded / columns * value_panel; }
};

inline Row At(Row row, int64_t index) {
  if (row.data == nullptr) return row;
  return {static_cast<char*>(row.data) + index * (row.bf16 ? 2 : 4), row.bf16};
}

// (rows, d) with row stride ld becomes (rows, d_steps) steps side by side; a missing half of a pair is zero.
template <typename Steps>
void CopyRows(Row source, int64_t ld, int64_t rows, int64_t d, float* out) {
  const int64_t d_steps = (d + Steps::kElements - 1) / Steps::kElements;
  for (int64_t r = 0; r < rows; ++r) {
    if (Steps::kElements == 2) {
      uint16_t* target = reinterpret_cast<uint16_t*>(out + r * d_steps);
      target[2 * d_steps - 1] = 0;
      __builtin_memcpy(target, static_cast<const BF16*>(source.data) + r * ld, static_cast<unsigned long>(d) * 2);
    } else {
      float* target = out + r * d_steps;
      ForVectors(d, [&](int64_t j, int n) { StorePartial(target + j, LoadRow(source, r * ld + j, n), n); });
    }
  }
}

// Rows of d_steps steps that tiles multiply; `stride` in bytes.
struct RowsOfSteps {
  const char* first;
  int64_t stride;

  const char* At(int64_t row) const { return first + row * stride; }
};

// (rows, d) with row stride ld: where they are if their elements are whole steps, else as a copy in `room`.
template <typename Steps>
RowsOfSteps FindRows(Row source, int64_t ld, int64_t rows, int64_t d, float* room) {
  const bool whole_steps = Steps::kElements == 1 ? !source.bf16 : d % Steps::kElements == 0;
  if (whole_steps) return {static_cast<const char*>(source.data), ld * (source.bf16 ? 2 : 4)};
  CopyRows<Steps>(source, ld, rows, d, room);
  return {reinterpret_cast<const char*>(room), (d + Steps::kElements - 1) / Steps::kElements * 4};
}

// Asks for rows of d elements that will be written, row stride ld.
inline void FetchRows(Row source, int64_t ld, int64_t first, int64_t rows, int64_t d) {
  const int64_t size = source.bf16 ? 2 : 4;
  for (int64_t r = first; r < first + rows; ++r) {
    const char* row = static_cast<const char*>(source.data) + r * ld * size;
    for (int64_t byte = 0; byte < d * size; byte += 64) __builtin_prefetch(row + byte, 1, 2);
  }
}

// The same of the gradients of q, k and v.
inline void FetchPacked(Row source, int64_t c, int64_t first, int64_t rows, int64_t d) {
  for (int part = 0; part < 3; ++part) FetchRows(At(source, part * c), 3 * c, first, rows, d);
}

// target(rows, d_padded) = (or with `add` +=) a(rows, steps) b, b packed in panels of d columns.
template <typename Steps>
void Product(int rows, int64_t steps, const void* a, int64_t row_stride, int64_t step_stride, const float* b,
             const HeadLayout<Steps>& layout, bool add, float* target) {
  const PanelsOfB panels = {b, layout.value_panel, layout.columns, layout.columns};
  const TileTarget to = {{target, false}, layout.d_padded, add, nullptr, /*far=*/false};
  Tiles<Steps>({steps, static_cast<const char*>(a), row_stride, step_stride, panels, to, nullptr}, rows, layout.d);
}

// (positions, d) in panels of columns of d.
template <typename Steps>
void PackValues(Row source, int64_t ld, int64_t positions, const HeadLayout<Steps>& layout, float* out) {
  if (layout.columns == kTileColumns) {
    Pack<Steps::kElements, kTileColumns>(source, ld, true, positions, layout.d, out, layout.value_panel);
  } else {
    Pack<Steps::kElements, 2 * kWidth>(source, ld, true, positions, layout.d, out, layout.value_panel);
  }
}

// scores(rows, keys) = q k^T for the keys of [first, first + keys), first at a panel's start.
template <typename Steps>
void Scores(int rows, const char* q, int64_t q_stride, const float* keys, const HeadLayout<Steps>& layout,
            int64_t first, int64_t count, float* scores, int64_t scores_stride) {
  const PanelsOfB panels = {keys + first / kTileColumns * layout.key_panel, layout.key_panel, kTileColumns,
                            kTileColumns};
  const TileTarget to = {{scores, false}, scores_stride, /*add=*/false, nullptr, /*far=*/false};
  Tiles<Steps>({layout.d_steps, q, q_stride, 4, panels, to, nullptr}, rows, count);
}

// Writes kWidth probabilities as steps of a row.
inline void StoreElements(float* row, int64_t index, F32 value) {
  Store(row + index, value);
}
inline void StoreElements(BF16* row, int64_t index, F32 value) {
  Store(row + index, value);
}

template <typename Steps>
struct ElementOf {
  using Type = float;
};
#ifdef KOTODAMA_BF16_DOT
template <>
struct ElementOf<PairSteps> {
  using Type = BF16;
};
#endif

}  // namespace
}  // namespace kotodama::cpu
