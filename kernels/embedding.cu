#include "common.cuh"

// Token plus position embedding. Backward adds up the rows of equal ids in the order of their positions: the pairs
// (id, position) are sorted first, so no atomics on floats are needed. C is a multiple of 4.

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

// ---- Stable radix sort by eight bits a pass; a block of 256 threads owns a tile of 256 pairs ----

namespace kotodama::kernels {
constexpr int kDigits = 256;
}

extern "C" __global__ void sort_count(const SortParams p) {
  __shared__ int counts[kDigits];
  const int i = blockIdx.x * kDigits + threadIdx.x;
  counts[threadIdx.x] = 0;
  __syncthreads();
  if (i < p.n) atomicAdd(&counts[(static_cast<uint32_t>(p.ids_in[i]) >> p.shift) % kDigits], 1);
  __syncthreads();
  p.counts[threadIdx.x * p.tiles + blockIdx.x] = counts[threadIdx.x];
}

// One block of 256 threads turns the counts, digit by digit and tile by tile, into where each group starts.
extern "C" __global__ void sort_scan(const SortParams p) {
  __shared__ int totals[kDigits];
  int* counts = p.counts + threadIdx.x * p.tiles;
  int total = 0;
  for (int tile = 0; tile < p.tiles; ++tile) total += counts[tile];
  totals[threadIdx.x] = total;
  __syncthreads();
  int start = 0;
  for (int digit = 0; digit < threadIdx.x; ++digit) start += totals[digit];
  for (int tile = 0; tile < p.tiles; ++tile) {
    const int count = counts[tile];
    counts[tile] = start;
    start += count;
  }
}

extern "C" __global__ void sort_scatter(const SortParams p) {
  __shared__ int digits[kDigits];
  const int i = blockIdx.x * kDigits + threadIdx.x;
  const int id = i < p.n ? p.ids_in[i] : 0;
  const int digit = (static_cast<uint32_t>(id) >> p.shift) % kDigits;
  digits[threadIdx.x] = digit;
  __syncthreads();
  if (i >= p.n) return;
  int rank = 0;
  for (int before = 0; before < threadIdx.x; ++before) rank += digits[before] == digit;
  const int target = p.counts[digit * p.tiles + blockIdx.x] + rank;
  p.ids_out[target] = id;
  p.positions_out[target] = p.positions_in != nullptr ? p.positions_in[i] : i;
}

// Grid (N, chunks of C): the block at the first of a run of equal ids adds up the run.
extern "C" __global__ void embedding_backward_tokens(const EmbeddingBackwardParams p) {
  const int n = p.b * p.t, first = blockIdx.x, i = blockIdx.y * blockDim.x + threadIdx.x;
  const int id = p.ids[first];
  const DropoutMask dropout(p.dropout);
  if (4 * i >= p.c || (first > 0 && p.ids[first - 1] == id)) return;
  float4 sum = make_float4(0, 0, 0, 0);
  for (int s = first; s < n && p.ids[s] == id; ++s) {
    const int64_t offset = static_cast<int64_t>(p.positions[s]) * p.c + 4 * i;
    float4 d = Load4(p.dout + offset);
    if (dropout.threshold != 0) d = ApplyDropout(dropout, offset, d);
    sum = make_float4(sum.x + d.x, sum.y + d.y, sum.z + d.z, sum.w + d.w);
  }
  float* dwte = p.dwte + static_cast<int64_t>(id) * p.c + 4 * i;
  const float4 before = Load4(dwte);
  Store4(dwte, make_float4(before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w));
}

// Grid (T, chunks of C).
extern "C" __global__ void embedding_backward_positions(const EmbeddingBackwardParams p) {
  const DropoutMask dropout(p.dropout);
  const int t = blockIdx.x, i = blockIdx.y * blockDim.x + threadIdx.x;
  if (4 * i >= p.c) return;
  float4 sum = make_float4(0, 0, 0, 0);
  for (int b = 0; b < p.b; ++b) {
    const int64_t offset = (static_cast<int64_t>(b) * p.t + t) * p.c + 4 * i;
    float4 d = Load4(p.dout + offset);
    if (dropout.threshold != 0) d = ApplyDropout(dropout, offset, d);
    sum = make_float4(sum.x + d.x, sum.y + d.y, sum.z + d.z, sum.w + d.w);
  }
  float* dwpe = p.dwpe + static_cast<int64_t>(t) * p.c + 4 * i;
  const float4 before = Load4(dwpe);
  Store4(dwpe, make_float4(before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w));
}
