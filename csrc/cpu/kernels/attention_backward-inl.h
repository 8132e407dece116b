// Attention's gradient: one head of one sequence. Probabilities are computed again from lse.
#pragma once

#include "cpu/kernels/attention_tiles-inl.h"

namespace kotodama::cpu {
namespace {

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
  float* q_room = carver.Take(t * layout.d_steps);
  float* dout_room = carver.Take(t * layout.d_steps);
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
  const RowsOfSteps q_rows = FindRows<Steps>(head.qkv, ld, t, d, q_room);
  const RowsOfSteps dout_rows = FindRows<Steps>(head.dout, head.c, t, d, dout_room);
  for (int64_t q = 0; q < t; ++q) {
    delta[q] = SumOver(d, [&](int64_t j, int n) {
      return LoadRow(head.dout, q * head.c + j, n) * LoadRow(head.out, q * head.c + j, n);
    });
  }
  const float scale_value = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  const F32 scale = Set(scale_value), scale2 = Set(scale_value * kLog2E);

  for (int64_t k0 = 0; k0 < t; k0 += kKeyTile) {
    const int64_t tile_keys = t - k0 < kKeyTile ? t - k0 : kKeyTile;
    for (int64_t q0 = k0; q0 < t; q0 += kQueryTile) {
      const int64_t tile_queries = t - q0 < kQueryTile ? t - q0 : kQueryTile;
      // Keys that the last query of the tile sees.
      const int64_t seen = q0 + tile_queries - k0 < tile_keys ? q0 + tile_queries - k0 : tile_keys;
      for (int64_t r0 = 0; r0 < tile_queries; r0 += kTileRows) {
        const int rows = static_cast<int>(tile_queries - r0 < kTileRows ? tile_queries - r0 : kTileRows);
        const int64_t count = q0 + r0 + rows - k0 < seen ? q0 + r0 + rows - k0 : seen;
        if (k0 == 0) {
          FetchPacked(head.dqkv, head.c, q0 + r0, rows, d);
        }
        Scores<Steps>(rows, q_rows.At(q0 + r0), q_rows.stride, keys_t, layout, k0, count, scores + r0 * kKeyTile,
                      kKeyTile);
        Scores<Steps>(rows, dout_rows.At(q0 + r0), dout_rows.stride, values_t, layout, k0, count,
                      dprobabilities + r0 * kKeyTile, kKeyTile);
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
        Product<Steps>(rows, (count + kE - 1) / kE, tiles.RowsOfDs(r0),
                       kKeyTile * static_cast<int64_t>(sizeof(Element)), 4, keys + k0 / kE * layout.columns, layout,
                       /*add=*/k0 > 0, dq + (q0 + r0) * layout.d_padded);
      }
      for (int64_t c0 = 0; c0 < seen; c0 += kTileRows) {
        const int rows = static_cast<int>(seen - c0 < kTileRows ? seen - c0 : kTileRows);
        // Queries before the first of these keys see none of them.
        const int64_t skipped = k0 + c0 > q0 ? (k0 + c0 - q0) / 2 * 2 : 0;
        const int64_t steps = (tile_queries - skipped + kE - 1) / kE;
        const int64_t a = skipped / kE * kKeyTile + c0, b = (q0 + skipped) / kE * layout.columns;
        const bool add = k0 + c0 < q0;  // an earlier tile of queries saw these keys
        Product<Steps>(rows, steps, tiles.ColumnsOfP() + a, 4, kKeyTile * 4, douts + b, layout, add,
                       dv + c0 * layout.d_padded);
        Product<Steps>(rows, steps, tiles.ColumnsOfDs() + a, 4, kKeyTile * 4, queries + b, layout, add,
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

}  // namespace
}  // namespace kotodama::cpu
