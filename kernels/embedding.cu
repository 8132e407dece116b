#include "common.cuh"

// Token plus position embedding. C is a multiple of 4.
//
// Backward reads its gradient once for both tables, although a token's rows lie anywhere: a block owns a few columns of
// all rows and keeps them in shared memory, a tile of rows at a time, where they can be read in either order. The rows
// of a tile are sorted by id before, so each sum has one owner and one order, without atomics.

using namespace kotodama::kernels;

namespace kotodama::kernels {
constexpr int kEmbeddingPieces = 2;  // of four columns of a thread, which share what it reads of the ids
}

// Grid (T): a block walks over the batch, so that a row of wpe is read once.
extern "C" __global__ void embedding_forward(const EmbeddingForwardParams p) {
  const DropoutMask dropout(p.dropout);
  const int t = blockIdx.x;
  for (int i = threadIdx.x; 4 * i < p.c; i += kEmbeddingPieces * blockDim.x) {
    float4 positions[kEmbeddingPieces] = {};
    const auto each = [&](auto f) {
#pragma unroll
      for (int piece = 0; piece < kEmbeddingPieces; ++piece) {
        const int column = 4 * (i + piece * blockDim.x);
        if (column < p.c) f(positions[piece], column);
      }
    };
    each([&](float4& v, int column) { v = Load4(p.wpe + static_cast<int64_t>(t) * p.c + column); });
    for (int b = 0; b < p.b; ++b) {
      const int64_t row = static_cast<int64_t>(b) * p.t + t;
      const float* token_row = p.wte + static_cast<int64_t>(p.ids[row]) * p.c;
      each([&](const float4& position, int column) {
        const float4 token = Load4(token_row + column);
        float4 v = make_float4(token.x + position.x, token.y + position.y, token.z + position.z, token.w + position.w);
        if (dropout.threshold != 0) v = ApplyDropout(dropout, row * p.c + column, v);
        Store4(p.out + row * p.c + column, v);
      });
    }
  }
}

// ---- Backward. Rows are counted position by position, r = t * B + b, so that all of one lie in one tile ----

// Grid (tiles): sorts the rows of each tile by id, and rows of the same id by their number (Batcher 1968, bitonic).
extern "C" __global__ void embedding_sort(const EmbeddingSortParams p) {
  extern __shared__ uint64_t keys[];  // (slots): id and row; the slots behind the last row sort behind all ids
  const int first = blockIdx.x * p.tile_rows, rows = min(p.tile_rows, p.b * p.t - first);
  for (int i = threadIdx.x; i < p.slots; i += blockDim.x) {
    const int row = first + i;
    keys[i] = i < rows ? static_cast<uint64_t>(p.ids[row % p.b * p.t + row / p.b]) << 16 | i : ~uint64_t{0};
  }
  for (int run = 2; run <= p.slots; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int pair = threadIdx.x; pair < p.slots / 2; pair += blockDim.x) {
        const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
        const uint64_t a = keys[low], b = keys[high];
        const bool ascending = (low & run) == 0;
        if ((a > b) != ascending) continue;
        keys[low] = b;
        keys[high] = a;
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rows; i += blockDim.x) {
    p.sorted_ids[first + i] = static_cast<int32_t>(keys[i] >> 16);
    p.sorted_rows[first + i] = static_cast<uint16_t>(keys[i]);
  }
}

namespace kotodama::kernels {

constexpr int kEmbeddingColumns = 8;  // that a block takes at a time: a sector of a row
constexpr int kRowsAtOnce = 8;        // that a thread reads before it adds them up

__device__ __forceinline__ float4 Sum(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

}  // namespace kotodama::kernels

// Grid (C / kEmbeddingGroupColumns). Two threads share a row, four columns each.
extern "C" __global__ void __launch_bounds__(1024) embedding_backward(const EmbeddingBackwardParams p) {
  extern __shared__ float4 gradient[];                                 // (tile rows, 2): dout behind the dropout mask
  auto* ids = reinterpret_cast<int32_t*>(gradient + 2 * p.tile_rows);  // (tile rows), sorted
  auto* rows = reinterpret_cast<uint16_t*>(ids + p.tile_rows);         // (tile rows): where in the tile
  const DropoutMask dropout(p.dropout);
  const int half = threadIdx.x % 2, worker = threadIdx.x / 2, workers = blockDim.x / 2, all = p.b * p.t;
  for (int first = 0; first < all; first += p.tile_rows) {
    const int n = min(p.tile_rows, all - first);
    for (int part = 0; part < kEmbeddingGroupColumns; part += kEmbeddingColumns) {
      const int column = blockIdx.x * kEmbeddingGroupColumns + part + 4 * half;
      const bool inside = column < p.c;
      __syncthreads();
      for (int i = threadIdx.x; part == 0 && i < n; i += blockDim.x) {
        ids[i] = p.ids[first + i];
        rows[i] = p.rows[first + i];
      }
      for (int i = worker; inside && i < n; i += workers) {
        const int row = first + i;
        const int64_t offset = (static_cast<int64_t>(row % p.b) * p.t + row / p.b) * p.c + column;
        const float4 d = Load4(p.dout + offset);
        gradient[2 * i + half] = dropout.threshold != 0 ? ApplyDropout(dropout, offset, d) : d;
      }
      __syncthreads();
      if (!inside) continue;

      // The worker at the first of a run of equal ids adds up the run.
      for (int i = worker; i < n; i += workers) {
        const int id = ids[i];
        if (i > 0 && ids[i - 1] == id) continue;
        float* target = p.dwte + static_cast<int64_t>(id) * p.c + column;
        const float4 before = Load4(target);
        float4 sum = make_float4(0, 0, 0, 0);
        int next = i;
        for (; next + kRowsAtOnce <= n && ids[next + kRowsAtOnce - 1] == id; next += kRowsAtOnce) {
          float4 d[kRowsAtOnce];
#pragma unroll
          for (int j = 0; j < kRowsAtOnce; ++j) d[j] = gradient[2 * rows[next + j] + half];
#pragma unroll
          for (int j = 0; j < kRowsAtOnce; ++j) sum = Sum(sum, d[j]);
        }
        for (; next < n && ids[next] == id; ++next) sum = Sum(sum, gradient[2 * rows[next] + half]);
        Store4(target, Sum(before, sum));
      }
      for (int t = first / p.b + worker; t <= (first + n - 1) / p.b; t += workers) {
        float* target = p.dwpe + static_cast<int64_t>(t) * p.c + column;
        const float4 before = Load4(target);
        float4 sum = make_float4(0, 0, 0, 0);
        const int end = min((t + 1) * p.b - first, n);
        for (int i = max(t * p.b - first, 0); i < end; ++i) sum = Sum(sum, gradient[2 * i + half]);
        Store4(target, Sum(before, sum));
      }
    }
  }
}
