// Products with few rows, which memory bounds: b is read once, where it is.
#pragma once

#include "cpu/kernels/gemm_finish-inl.h"

namespace kotodama::cpu {
namespace {

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
