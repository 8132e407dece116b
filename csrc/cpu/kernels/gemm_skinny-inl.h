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

// out[r * out_apart] = x . row r of b, for rows `apart` elements from each other. The sums are the same for any kRows.
template <int kRows, typename E>
void DotsOfRows(const float* x, const E* b, int64_t apart, int64_t k, float* out, int64_t out_apart) {
  constexpr int64_t kAhead = 1024 / static_cast<int64_t>(sizeof(E));
  F32 sum[kRows][2];
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = Set(0.0f);
  int64_t p = 0;
  for (; p + 2 * kWidth <= k; p += 2 * kWidth) {
    const F32 low = Load(x + p), high = Load(x + p + kWidth);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const E* row = b + r * apart + p;
      __builtin_prefetch(row + kAhead);
      sum[r][0] = Fma(low, Load(row), sum[r][0]);
      sum[r][1] = Fma(high, Load(row + kWidth), sum[r][1]);
    }
  }
  for (; p < k; p += kWidth) {
    const int width = static_cast<int>(k - p < kWidth ? k - p : kWidth);
    const F32 part = LoadPartial(x + p, width);
    for (int r = 0; r < kRows; ++r) sum[r][0] = Fma(part, LoadPartial(b + r * apart + p, width), sum[r][0]);
  }
  for (int r = 0; r < kRows; ++r) out[r * out_apart] = ReduceAdd(sum[r][0] + sum[r][1]);
}

// out(i, j) = a(i, :) . b(j, :). Four rows of b at once, each from its own quarter: one stream of reads does not fill
// the memory's queues.
template <typename E>
void SkinnyDotsOf(const float* a, int64_t m, int64_t lda, const E* b, int64_t ldb, int64_t k, int64_t n, float* out,
                  int64_t ldo) {
  const int64_t quarter = n / 4;
  for (int64_t j = 0; j < quarter; ++j) {
    for (int64_t i = 0; i < m; ++i) {
      DotsOfRows<4>(a + i * lda, b + j * ldb, quarter * ldb, k, out + i * ldo + j, quarter);
    }
  }
  for (int64_t j = 4 * quarter; j < n; ++j) {
    for (int64_t i = 0; i < m; ++i) DotsOfRows<1>(a + i * lda, b + j * ldb, 0, k, out + i * ldo + j, 0);
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
