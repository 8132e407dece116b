// Products with few rows, which memory bounds: b is read once, where it is.
#pragma once

#include "cpu/kernels/gemm_finish-inl.h"

namespace kotodama::cpu {
namespace {

// As those of BF16 memory, in the order of memory.
template <typename E>
inline void LoadTwo(const E* p, F32& a, F32& b) {
  a = Load(p);
  b = Load(p + kWidth);
}
template <typename E>
inline void InOrder(const E*, F32&, F32&) {}

// How many of n columns come in pairs of vectors. Their sums are kept in the order of LoadTwo.
inline int64_t WholePairs(int64_t n) {
  return n / (2 * kWidth) * (2 * kWidth);
}

// out(m, n) += columns p * a_apart of a(m, ...) times rows p * b_apart of b, for p < kRows; m is 1 if kOne. Reads ahead
// of itself: into the rows from `next` on where these end.
template <int kRows, bool kOne, typename E>
void SkinnyBlock(const float* a, int64_t m, int64_t lda, int64_t a_apart, const E* b, int64_t b_apart, const E* next,
                 int64_t n, float* out) {
  constexpr int64_t kAhead = 1024 / static_cast<int64_t>(sizeof(E));
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(E));
  const int64_t pairs = WholePairs(n);
  F32 first[kRows];
  for (int p = 0; p < kRows; ++p) first[p] = Set(a[p * a_apart]);
  for (int64_t j = 0; j < pairs; j += 2 * kWidth) {
    const E* ahead = j + kAhead < n ? b + (j + kAhead) : next + (j + kAhead - n);
    F32 low[kRows], high[kRows];
#pragma GCC unroll 4
    for (int p = 0; p < kRows; ++p) {
      // To the second cache: the sums fill the first.
      for (int64_t line = 0; line < 2 * kWidth; line += kLine) __builtin_prefetch(ahead + p * b_apart + line, 0, 2);
      LoadTwo(b + p * b_apart + j, low[p], high[p]);
    }
    for (int64_t i = 0; i < (kOne ? 1 : m); ++i) {
      float* sums = out + i * n + j;
      F32 low_sum = Load(sums), high_sum = Load(sums + kWidth);
#pragma GCC unroll 4
      for (int p = 0; p < kRows; ++p) {
        const F32 factor = kOne ? first[p] : Set(a[i * lda + p * a_apart]);
        low_sum = Fma(factor, low[p], low_sum);
        high_sum = Fma(factor, high[p], high_sum);
      }
      Store(sums, low_sum);
      Store(sums + kWidth, high_sum);
    }
  }
  for (int64_t i = 0; i < m; ++i) {
    ForVectors(n - pairs, [&](int64_t j, int width) {
      float* sums = out + i * n + pairs + j;
      F32 sum = LoadPartial(sums, width);
      for (int p = 0; p < kRows; ++p) {
        sum = Fma(Set(a[i * lda + p * a_apart]), LoadPartial(b + p * b_apart + pairs + j, width), sum);
      }
      StorePartial(sums, sum, width);
    });
  }
}

// out(m, n) = a(m, k) b(k, n). The rows of b are read once: four at a time, each from its own quarter, since one stream
// of reads does not fill the memory's queues.
template <bool kOne, typename E>
void SkinnyRowsOf(const float* a, int64_t m, int64_t lda, const E* b, int64_t ldb, int64_t k, int64_t n, float* out) {
  const int64_t quarter = k / 4;
  ForVectors(m * n, [&](int64_t j, int width) { StorePartial(out + j, Set(0.0f), width); });
  for (int64_t p = 0; p < quarter; ++p) {
    // Behind the last row of its quarter, a stream goes on in the rows behind these, which the thread may get next.
    const E* next = b + (p + 1 < quarter ? p + 1 : k) * ldb;
    SkinnyBlock<4, kOne>(a + p, m, lda, quarter, b + p * ldb, quarter * ldb, next, n, out);
  }
  for (int64_t p = 4 * quarter; p < k; ++p) {
    SkinnyBlock<1, kOne>(a + p, m, lda, 0, b + p * ldb, 0, b + (p + 1) * ldb, n, out);
  }
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < WholePairs(n); j += 2 * kWidth) {
      float* sums = out + i * n + j;
      F32 low = Load(sums), high = Load(sums + kWidth);
      InOrder(b, low, high);
      Store(sums, low);
      Store(sums + kWidth, high);
    }
  }
}

// out[r * out_apart] = x . row r of b, for rows `apart` elements from each other. The sums are the same for any kRows.
// Reads ahead of itself: into the rows from `next` on where these end.
template <int kRows, typename E>
void DotsOfRows(const float* x, const E* b, int64_t apart, const E* next, int64_t k, float* out, int64_t out_apart) {
  constexpr int64_t kAhead = 1024 / static_cast<int64_t>(sizeof(E));
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(E));
  F32 sum[kRows][2];
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = Set(0.0f);
  int64_t p = 0;
  for (; p + 2 * kWidth <= k; p += 2 * kWidth) {
    const F32 low = Load(x + p), high = Load(x + p + kWidth);
    const E* ahead = p + kAhead < k ? b + (p + kAhead) : next + (p + kAhead - k);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const E* row = b + r * apart + p;
      for (int64_t line = 0; line < 2 * kWidth; line += kLine) __builtin_prefetch(ahead + r * apart + line);
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
    const E* next = b + (j + 1 < quarter ? j + 1 : n) * ldb;  // as in SkinnyRowsOf
    for (int64_t i = 0; i < m; ++i) {
      DotsOfRows<4>(a + i * lda, b + j * ldb, quarter * ldb, next, k, out + i * ldo + j, quarter);
    }
  }
  for (int64_t j = 4 * quarter; j < n; ++j) {
    for (int64_t i = 0; i < m; ++i) {
      DotsOfRows<1>(a + i * lda, b + j * ldb, 0, b + (j + 1) * ldb, k, out + i * ldo + j, 0);
    }
  }
}

template <typename E>
void SkinnyRowsOf(const float* a, int64_t m, int64_t lda, const E* b, int64_t ldb, int64_t k, int64_t n, float* out) {
  if (m == 1) {
    SkinnyRowsOf<true>(a, m, lda, b, ldb, k, n, out);
  } else {
    SkinnyRowsOf<false>(a, m, lda, b, ldb, k, n, out);
  }
}

inline SkinnyFactor FactorOf(Row b, int64_t ld) {
  return {b.data, b.bf16 ? Element::kBF16 : Element::kF32, ld};
}

inline void SkinnyRows(const float* a, int64_t m, int64_t lda, SkinnyFactor b, int64_t k, int64_t n, float* out) {
  switch (b.element) {
    case Element::kF32:
      return SkinnyRowsOf(a, m, lda, static_cast<const float*>(b.data), b.ld, k, n, out);
    case Element::kBF16:
      return SkinnyRowsOf(a, m, lda, static_cast<const BF16*>(b.data), b.ld, k, n, out);
    case Element::kI8:
      return SkinnyRowsOf(a, m, lda, static_cast<const int8_t*>(b.data), b.ld, k, n, out);
  }
}

inline void SkinnyDots(const float* a, int64_t m, int64_t lda, SkinnyFactor b, int64_t k, int64_t n, float* out,
                       int64_t ldo) {
  switch (b.element) {
    case Element::kF32:
      return SkinnyDotsOf(a, m, lda, static_cast<const float*>(b.data), b.ld, k, n, out, ldo);
    case Element::kBF16:
      return SkinnyDotsOf(a, m, lda, static_cast<const BF16*>(b.data), b.ld, k, n, out, ldo);
    case Element::kI8:
      return SkinnyDotsOf(a, m, lda, static_cast<const int8_t*>(b.data), b.ld, k, n, out, ldo);
  }
}

}  // namespace
}  // namespace kotodama::cpu
