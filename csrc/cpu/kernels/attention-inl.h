// Causal attention in tiles with online softmax (Dao et al., "FlashAttention", 2022): no T x T matrix is stored.
#pragma once

#include "cpu/kernels/elementwise-inl.h"

namespace kotodama::cpu {
namespace {

// Tiles of keys; multiples of all tile columns and of the rows of all register tiles.
constexpr int64_t kForwardKeyTile = 384;
constexpr int64_t kKeyTile = 192;  // in backward
constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;
// A tile of queries in backward; even.
constexpr int64_t kQueryTile = 96;

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
    return kTileVectors == 3 && (d + kWidth - 1) / kWidth % 3 == 1 ? 2 * kWidth : kTileColumns;
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

// target(rows, d) += or = tile
inline void AddTile(const float* tile, int rows, int64_t columns, float* target, int64_t stride) {
  for (int r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; j += kWidth) {
      Store(target + r * stride + j, Load(target + r * stride + j) + Load(tile + r * kTileColumns + j));
    }
  }
}

// target(rows, d_padded) += a(rows, steps) b, b packed in panels of d columns.
template <typename Steps>
void AddProduct(int rows, int64_t steps, const void* a, int64_t row_stride, int64_t step_stride, const float* b,
                const HeadLayout<Steps>& layout, float* target) {
  alignas(64) float tile[kTileRows * kTileColumns];
  for (int64_t j = 0; j < layout.d; j += layout.columns, b += layout.value_panel) {
    const int columns = static_cast<int>(layout.d - j < layout.columns ? layout.d - j : layout.columns);
    Tile<Steps>(rows, columns, steps, a, row_stride, step_stride, b, layout.columns, tile, kTileColumns, nullptr);
    AddTile(tile, rows, RoundUp(columns, kWidth), target + j, layout.d_padded);
  }
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
void Scores(int rows, const float* q, const float* keys, const HeadLayout<Steps>& layout, int64_t first, int64_t count,
            float* scores, int64_t scores_stride) {
  const float* panel = keys + first / kTileColumns * layout.key_panel;
  for (int64_t j = 0; j < count; j += kTileColumns, panel += layout.key_panel) {
    const int columns = static_cast<int>(count - j < kTileColumns ? count - j : kTileColumns);
    Tile<Steps>(rows, columns, layout.d_steps, q, layout.d_steps * 4, 4, panel, kTileColumns, scores + j, scores_stride,
                nullptr);
  }
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

template <typename Steps>
int64_t AttentionForwardHead(const AttentionHead& head, Carver carver) {
  using Element = typename ElementOf<Steps>::Type;
  const HeadLayout<Steps> layout(head.t, head.d);
  float* keys = carver.Take(layout.keys_units());
  float* values = carver.Take(layout.values_units());
  float* q = carver.Take(kTileRows * layout.d_steps);
  float* scores = carver.Take(kTileRows * kForwardKeyTile);
  Element* probabilities = carver.Take<Element>(kTileRows * kForwardKeyTile / Steps::kElements);
  float* out = carver.Take(kTileRows * layout.d_padded);
  float* factors = carver.Take(kForwardKeyTile);
  if (carver.base == nullptr) return carver.used;

  const int64_t ld = 3 * head.c, end = head.first_query + head.queries;
  PackB<Steps>(At(head.qkv, head.c), ld, true, head.d, end, keys, layout.key_panel);
  PackValues(At(head.qkv, 2 * head.c), ld, end, layout, values);
  const F32 scale = Set(kLog2E / __builtin_sqrtf(static_cast<float>(head.d)));  // scores in powers of 2
  const F32 lowest = Set(-__builtin_inff());

  for (int64_t q0 = head.first_query; q0 < end; q0 += kTileRows) {
    const int rows = static_cast<int>(end - q0 < kTileRows ? end - q0 : kTileRows);
    CopyRows<Steps>(At(head.qkv, q0 * ld), ld, rows, head.d, q);
    F32 top[kTileRows];
    float sum[kTileRows];
    for (int r = 0; r < rows; ++r) top[r] = lowest, sum[r] = 0;
    for (int64_t i = 0; i < rows * layout.d_padded; i += kWidth) Store(out + i, Set(0.0f));

    for (int64_t k0 = 0; k0 < q0 + rows; k0 += kForwardKeyTile) {
      const int64_t count = q0 + rows - k0 < kForwardKeyTile ? q0 + rows - k0 : kForwardKeyTile;
      const int64_t padded = RoundUp(count, kWidth);
      Scores<Steps>(rows, q, keys, layout, k0, count, scores, kForwardKeyTile);
      for (int r = 0; r < rows; ++r) {
        float* row = scores + r * kForwardKeyTile;
        Element* p = probabilities + r * kForwardKeyTile;
        const int64_t valid = q0 + r + 1 - k0 < count ? q0 + r + 1 - k0 : count;
        if (valid <= 0) {
          for (int64_t j = 0; j < padded; j += kWidth) StoreElements(p, j, Set(0.0f));
          continue;
        }
        F32 best = lowest;
        ForVectors(valid, [&](int64_t j, int n) { best = Max(SelectFirst(n, Load(row + j), lowest), best); });
        const F32 new_top = Max(Set(ReduceMax(best)) * scale, top[r]);
        const F32 correction = Exp2(top[r] - new_top);
        top[r] = new_top;
        F32 total = Set(0.0f);
        if (head.dropout.active) {
          FillDropout(head.dropout, head.first_element + (q0 + r) * head.t + k0, valid, factors);
        }
        for (int64_t j = 0; j < padded; j += kWidth) {
          F32 e = Exp2(Fma(Load(row + j), scale, Set(0.0f) - new_top));
          if (j + kWidth > valid) e = SelectFirst(static_cast<int>(valid > j ? valid - j : 0), e, Set(0.0f));
          total = total + e;
          if (head.dropout.active) e = e * Load(factors + j);
          StoreElements(p, j, e);
        }
        float factor[kWidth];
        Store(factor, correction);
        sum[r] = sum[r] * factor[0] + ReduceAdd(total);
        for (int64_t j = 0; j < layout.d; j += kWidth) {
          Store(out + r * layout.d_padded + j, Load(out + r * layout.d_padded + j) * correction);
        }
      }
      const int64_t steps = (count + Steps::kElements - 1) / Steps::kElements;
      AddProduct<Steps>(rows, steps, probabilities, kForwardKeyTile * static_cast<int64_t>(sizeof(Element)), 4,
                        values + k0 / Steps::kElements * layout.columns, layout, out);
    }
    for (int r = 0; r < rows; ++r) {
      const F32 inverse = Set(1.0f / sum[r]);
      const int64_t target = (q0 + r) * head.c;
      ForVectors(head.d, [&](int64_t j, int n) {
        StoreRow(head.out, target + j, Load(out + r * layout.d_padded + j) * inverse, n);
      });
      float top_value[kWidth];
      Store(top_value, top[r]);
      head.lse[q0 + r] = top_value[0] * kLn2 + __builtin_logf(sum[r]);
    }
  }
  return carver.used;
}

// Writes P and dS of two query rows in the layouts that the products want: for f32 row by row; for pairs the two rows
// interleaved (for sums over queries), and dS row by row as well (for sums over keys).
template <typename Steps>
struct GradientTiles;

template <>
struct GradientTiles<F32Steps> {
  float* p;   // (queries, kKeyTile)
  float* ds;  // (queries, kKeyTile)

  void Take(Carver* carver) {
    p = carver->Take(kQueryTile * kKeyTile);
    ds = carver->Take(kQueryTile * kKeyTile);
  }
  void Write(int64_t query, int64_t key, const F32 (&pv)[2], const F32 (&dsv)[2]) {
    for (int i = 0; i < 2; ++i) {
      Store(p + (query + i) * kKeyTile + key, pv[i]);
      Store(ds + (query + i) * kKeyTile + key, dsv[i]);
    }
  }
  const float* RowsOfDs(int64_t query) const { return ds + query * kKeyTile; }
  const float* ColumnsOfP() const { return p; }
  const float* ColumnsOfDs() const { return ds; }
};

#ifdef KOTODAMA_BF16_DOT
template <>
struct GradientTiles<PairSteps> {
  float* p;       // (queries / 2, kKeyTile) pairs
  float* ds;      // likewise
  BF16* ds_rows;  // (queries, kKeyTile)

  void Take(Carver* carver) {
    p = carver->Take(kQueryTile * kKeyTile / 2);
    ds = carver->Take(kQueryTile * kKeyTile / 2);
    ds_rows = carver->Take<BF16>(kQueryTile * kKeyTile / 2);
  }
  static F32 Interleave(F32 first, F32 second) {
    const __m512i low = _mm512_cvtepu16_epi32(ToBits16(first)), high = _mm512_cvtepu16_epi32(ToBits16(second));
    return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
  }
  void Write(int64_t query, int64_t key, const F32 (&pv)[2], const F32 (&dsv)[2]) {
    Store(p + query / 2 * kKeyTile + key, Interleave(pv[0], pv[1]));
    Store(ds + query / 2 * kKeyTile + key, Interleave(dsv[0], dsv[1]));
    for (int i = 0; i < 2; ++i) Store(ds_rows + (query + i) * kKeyTile + key, dsv[i]);
  }
  const BF16* RowsOfDs(int64_t query) const { return ds_rows + query * kKeyTile; }
  const float* ColumnsOfP() const { return p; }
  const float* ColumnsOfDs() const { return ds; }
};
#endif

template <typename Steps>
int64_t AttentionBackwardHead(const AttentionHead& head, Carver carver) {
  using Element = typename ElementOf<Steps>::Type;
  constexpr int64_t kE = Steps::kElements;
  const HeadLayout<Steps> layout(head.t, head.d);
  const int64_t t = head.t, d = head.d;
  // As b: k^T and v^T by keys; k by d (for dq), q and dout by d (for dk, dv). As a: rows of q and dout.
  float* keys_t = carver.Take(layout.keys_units());
  float* values_t = carver.Take(layout.keys_units());
  float* keys = carver.Take(layout.values_units());
  float* queries = carver.Take(layout.values_units());
  float* douts = carver.Take(layout.values_units());
  float* q_rows = carver.Take(t * layout.d_steps);
  float* dout_rows = carver.Take(t * layout.d_steps);
  float* delta = carver.Take(t);
  float* dq = carver.Take(RoundUp(t, kTileRows) * layout.d_padded);
  float* dk = carver.Take(kKeyTile * layout.d_padded);
  float* dv = carver.Take(kKeyTile * layout.d_padded);
  float* scores = carver.Take(kQueryTile * kKeyTile);
  float* dprobabilities = carver.Take(kQueryTile * kKeyTile);
  float* factors = carver.Take(2 * kKeyTile);
  GradientTiles<Steps> tiles;
  tiles.Take(&carver);
  if (carver.base == nullptr) return carver.used;

  const int64_t ld = 3 * head.c;
  const Row k = At(head.qkv, head.c), v = At(head.qkv, 2 * head.c);
  PackB<Steps>(k, ld, true, d, t, keys_t, layout.key_panel);
  PackB<Steps>(v, ld, true, d, t, values_t, layout.key_panel);
  PackValues(k, ld, t, layout, keys);
  PackValues(head.qkv, ld, t, layout, queries);
  PackValues(head.dout, head.c, t, layout, douts);
  CopyRows<Steps>(head.qkv, ld, t, d, q_rows);
  CopyRows<Steps>(head.dout, head.c, t, d, dout_rows);
  for (int64_t q = 0; q < t; ++q) {
    delta[q] = SumOver(d, [&](int64_t j, int n) {
      return LoadRow(head.dout, q * head.c + j, n) * LoadRow(head.out, q * head.c + j, n);
    });
  }
  for (int64_t i = 0; i < RoundUp(t, kTileRows) * layout.d_padded; i += kWidth) Store(dq + i, Set(0.0f));
  const float scale_value = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  const F32 scale = Set(scale_value), scale2 = Set(scale_value * kLog2E);

  for (int64_t k0 = 0; k0 < t; k0 += kKeyTile) {
    const int64_t tile_keys = t - k0 < kKeyTile ? t - k0 : kKeyTile;
    for (int64_t i = 0; i < kKeyTile * layout.d_padded; i += kWidth) {
      Store(dk + i, Set(0.0f));
      Store(dv + i, Set(0.0f));
    }
    for (int64_t q0 = k0; q0 < t; q0 += kQueryTile) {
      const int64_t tile_queries = t - q0 < kQueryTile ? t - q0 : kQueryTile;
      // Keys that the last query of the tile sees.
      const int64_t seen = q0 + tile_queries - k0 < tile_keys ? q0 + tile_queries - k0 : tile_keys;
      for (int64_t r0 = 0; r0 < tile_queries; r0 += kTileRows) {
        const int rows = static_cast<int>(tile_queries - r0 < kTileRows ? tile_queries - r0 : kTileRows);
        const int64_t count = q0 + r0 + rows - k0 < seen ? q0 + r0 + rows - k0 : seen;
        const int64_t row = (q0 + r0) * layout.d_steps;
        Scores<Steps>(rows, q_rows + row, keys_t, layout, k0, count, scores + r0 * kKeyTile, kKeyTile);
        Scores<Steps>(rows, dout_rows + row, values_t, layout, k0, count, dprobabilities + r0 * kKeyTile, kKeyTile);
      }
      const int64_t padded = RoundUp(seen, kWidth);
      for (int64_t r = 0; r < tile_queries; r += 2) {
        int64_t valid[2];
        F32 negative_lse[2], delta_v[2];
        for (int i = 0; i < 2; ++i) {
          const int64_t q = q0 + r + i;
          const bool inside = r + i < tile_queries;
          const int64_t reach = q + 1 - k0 < seen ? q + 1 - k0 : seen;
          valid[i] = inside ? reach : 0;
          negative_lse[i] = Set(inside ? -head.lse[q] * kLog2E : 0.0f);
          delta_v[i] = Set(inside ? delta[q] : 0.0f);
          if (head.dropout.active && inside) {
            FillDropout(head.dropout, head.first_element + q * t + k0, valid[i], factors + i * kKeyTile);
          }
        }
        for (int64_t j = 0; j < padded; j += kWidth) {
          F32 p[2], ds[2];
          for (int i = 0; i < 2; ++i) {
            const int64_t left = valid[i] - j;
            if (left <= 0) {
              p[i] = ds[i] = Set(0.0f);
              continue;
            }
            const int64_t index = (r + i) * kKeyTile + j;
            const F32 factor = head.dropout.active ? Load(factors + i * kKeyTile + j) : Set(1.0f);
            const F32 probability = Exp2(Fma(Load(scores + index), scale2, negative_lse[i]));
            p[i] = probability * factor;
            ds[i] = probability * (Load(dprobabilities + index) * factor - delta_v[i]) * scale;
            if (left < kWidth) {
              p[i] = SelectFirst(static_cast<int>(left), p[i], Set(0.0f));
              ds[i] = SelectFirst(static_cast<int>(left), ds[i], Set(0.0f));
            }
          }
          tiles.Write(r, j, p, ds);
        }
      }
      for (int64_t r0 = 0; r0 < tile_queries; r0 += kTileRows) {
        const int rows = static_cast<int>(tile_queries - r0 < kTileRows ? tile_queries - r0 : kTileRows);
        const int64_t count = q0 + r0 + rows - k0 < seen ? q0 + r0 + rows - k0 : seen;
        AddProduct<Steps>(rows, (count + kE - 1) / kE, tiles.RowsOfDs(r0),
                          kKeyTile * static_cast<int64_t>(sizeof(Element)), 4, keys + k0 / kE * layout.columns, layout,
                          dq + (q0 + r0) * layout.d_padded);
      }
      for (int64_t c0 = 0; c0 < seen; c0 += kTileRows) {
        const int rows = static_cast<int>(seen - c0 < kTileRows ? seen - c0 : kTileRows);
        // Queries before the first of these keys see none of them.
        const int64_t skipped = k0 + c0 > q0 ? (k0 + c0 - q0) / 2 * 2 : 0;
        const int64_t steps = (tile_queries - skipped + kE - 1) / kE;
        const int64_t a = skipped / kE * kKeyTile + c0, b = (q0 + skipped) / kE * layout.columns;
        AddProduct<Steps>(rows, steps, tiles.ColumnsOfP() + a, 4, kKeyTile * 4, douts + b, layout,
                          dv + c0 * layout.d_padded);
        AddProduct<Steps>(rows, steps, tiles.ColumnsOfDs() + a, 4, kKeyTile * 4, queries + b, layout,
                          dk + c0 * layout.d_padded);
      }
    }
    for (int64_t r = 0; r < tile_keys; ++r) {
      const int64_t target = (k0 + r) * ld;
      ForVectors(d, [&](int64_t j, int n) {
        StoreRow(head.dqkv, target + head.c + j, Load(dk + r * layout.d_padded + j), n);
        StoreRow(head.dqkv, target + 2 * head.c + j, Load(dv + r * layout.d_padded + j), n);
      });
    }
  }
  for (int64_t q = 0; q < t; ++q) {
    ForVectors(d, [&](int64_t j, int n) { StoreRow(head.dqkv, q * ld + j, Load(dq + q * layout.d_padded + j), n); });
  }
  return carver.used;
}

// Memory in bfloat16 is multiplied as pairs where the processor can, else as floats.
template <bool kBackward>
int64_t AttentionOf(const AttentionHead& head, bool bf16, Carver carver) {
#ifdef KOTODAMA_BF16_DOT
  if (bf16) {
    return kBackward ? AttentionBackwardHead<PairSteps>(head, carver) : AttentionForwardHead<PairSteps>(head, carver);
  }
#endif
  (void)bf16;
  return kBackward ? AttentionBackwardHead<F32Steps>(head, carver) : AttentionForwardHead<F32Steps>(head, carver);
}

int64_t AttentionScratch(int64_t t, int64_t d, bool bf16, bool backward) {
  AttentionHead head = {};
  head.t = t;
  head.d = d;
  return backward ? AttentionOf<true>(head, bf16, {nullptr}) : AttentionOf<false>(head, bf16, {nullptr});
}

void AttentionForward(const AttentionHead& head) {
  AttentionOf<false>(head, head.qkv.bf16, {head.scratch});
}

void AttentionBackward(const AttentionHead& head) {
  AttentionOf<true>(head, head.qkv.bf16, {head.scratch});
}

// Positions one after another: each appends its key and value, then attends to all before it.
void AttentionCached(const AttentionCachedHead& head) {
  const int64_t d = head.d;
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  for (int64_t r = 0; r < head.n; ++r) {
    const int64_t at = r * 3 * head.c, last = head.past + r;
    ForVectors(d, [&](int64_t j, int n) {
      StorePartial(head.q + j, LoadRow(head.qkv, at + j, n), n);
      StoreRow(head.keys, last * d + j, LoadRow(head.qkv, at + head.c + j, n), n);
      StoreRow(head.values, last * d + j, LoadRow(head.qkv, at + 2 * head.c + j, n), n);
      StorePartial(head.mix + j, Set(0.0f), n);
    });
    const int64_t count = last + 1;
    SkinnyDots(head.q, 1, d, head.keys, d, d, count, head.scores, count);
    const F32 lowest = Set(-__builtin_inff());
    F32 best = lowest;
    ForVectors(count,
               [&](int64_t j, int n) { best = Max(SelectFirst(n, LoadPartial(head.scores + j, n), lowest), best); });
    const F32 negative_top = Set(-ReduceMax(best) * scale);
    const float sum = SumOver(count, [&](int64_t j, int n) {
      const F32 e = Exp(Fma(LoadPartial(head.scores + j, n), Set(scale), negative_top));
      StorePartial(head.scores + j, e, n);
      return e;
    });
    SkinnyRows(head.scores, 1, count, head.values, d, count, d, head.mix);
    const F32 inverse = Set(1.0f / sum);
    ForVectors(
        d, [&](int64_t j, int n) { StoreRow(head.out, r * head.c + j, LoadPartial(head.mix + j, n) * inverse, n); });
  }
}

}  // namespace
}  // namespace kotodama::cpu
