#pragma once

#include <cstdint>

// What the host passes to each kernel: one plain struct a kernel, the same bytes on both sides. Pointers are addresses
// on the device; `void*` is an array of the compute type X (float or bf16) of the kernel's name. Shapes in comments.

namespace kotodama::kernels {

// ---- What csrc/backend.h defines too; the host's code compares it where it passes it on ----

constexpr int32_t kIgnoredLabel = -100;

enum GemmEpilogue : int32_t { kEpilogueNone, kEpilogueGelu, kEpilogueGeluBackward };

struct OptimizerScalars {
  float learning_rate, beta1, beta2, eps, weight_decay;
  float correction1, correction2;
  float gradient_scale;
  float max_grad_norm;
  float grad_norm;
  float grad_clip;
  uint32_t applied;
};

struct LossTotals {
  double sum;
  int64_t count;
};

// ---- Parameters ----

struct DropoutParams {
  const uint64_t* key;  // seed, micro step; not read when threshold is 0
  uint32_t threshold;   // an element is dropped when its random word is below this; 0: no dropout
  uint32_t site;
  float scale;  // of the elements that stay
};

struct EmbeddingForwardParams {
  const int32_t* ids;  // (B, T)
  const float* wte;    // (V, C)
  const float* wpe;    // (positions, C), from the first position used
  float* out;          // (B, T, C)
  int32_t b, t, c;
  DropoutParams dropout;
};

// Rows (position, sequence) of the embedding's backward pass are counted as r = t * B + b and taken in tiles.
struct EmbeddingSortParams {
  const int32_t* ids;     // (B, T)
  int32_t* sorted_ids;    // (N), each tile by itself
  uint16_t* sorted_rows;  // (N): whose id it is, counted within the tile
  int32_t b, t;
  int32_t tile_rows;  // at most 65536
  int32_t slots;      // tile_rows or more, a power of two
};

constexpr int kEmbeddingGroupColumns = 16;  // of a block, which reads the sorted ids once for them

struct EmbeddingBackwardParams {
  const int32_t* ids;    // (N), as sorted
  const uint16_t* rows;  // (N)
  const float* dout;     // (B, T, C)
  float* dwte;           // (V, C)
  float* dwpe;           // (positions, C)
  int32_t b, t, c;
  int32_t tile_rows;
  DropoutParams dropout;
};

constexpr int kMostLayerNormRows = 48;  // that a block takes

struct LayerNormForwardParams {
  const float* x;      // (N, C)
  const void* addend;  // (N, C), or null
  float* sum;          // (N, C), null without addend
  const float *weight, *bias;
  void* out;           // (N, C)
  float *mean, *rstd;  // (N), or null
  float* wide;         // (blocks, 2 + warps, C) for the kernels of wide rows
  int32_t n, c, rows_per_block;
  float eps;
  DropoutParams dropout;
};

struct LayerNormBackwardParams {
  const void* dout;  // (N, C)
  const float* x;    // (N, C)
  const float *weight, *mean, *rstd;
  float* dx;        // (N, C)
  void* daddend;    // (N, C), or null
  float* partials;  // (blocks, 2, C): each block's sums for dweight and dbias
  float* wide;      // (blocks, 3 + 2 * warps, C) for the kernels of wide rows
  int32_t n, c, rows_per_block;
  int32_t accumulate_dx;
  DropoutParams dropout;
};

// target[c] = (accumulate ? target[c] : 0) + the sum over r of partials[r, c]; columns from `split` on go to `second`.
struct SumRowsParams {
  const float* partials;  // (rows, columns)
  float *target, *second;
  int32_t rows, columns, split;
  int32_t accumulate;
};

// Sums over chunks of the rows of an X matrix: partials[chunk, column].
struct ColumnSumsParams {
  const void* source;  // (rows, columns), `stride` elements from row to row
  float* partials;     // (chunks, columns)
  int64_t stride;
  int32_t rows, columns, rows_per_chunk;
};

// Steps along K that bf16 tiles have in shared memory.
constexpr int32_t kFewestGemmStages = 3, kMostGemmStages = 4;

struct GemmParams {
  const void *a, *b;
  void* c;
  const float* bias;  // (N), or null
  void* aux;          // (M, N), with the GELU epilogues
  float* partials;    // (splits, M, N) when the sum over K is split, else null
  float* b_sums;      // (splits, N): the sums over K of b, or null; written by the bf16 tiles of layout tn alone
  int64_t lda, ldb, ldc;
  int32_t m, n, k;
  int32_t k_per_split;
  int32_t stages;  // kFewestGemmStages or kMostGemmStages; read by the bf16 tiles alone
  int32_t tiles_m, tiles_n;
  int32_t epilogue;    // GemmEpilogue
  int32_t c_is_float;  // else c is X
  int32_t accumulate;
  int32_t transpose_a, transpose_b;  // read by the plain kernel alone
};

struct AttentionParams {
  const void* qkv;   // (B, T, 3, H, D)
  void* out;         // (B, T, H, D)
  float* lse;        // (B, H, T)
  const void* dout;  // (B, T, H, D), in the backward pass
  void* dqkv;        // (B, T, 3, H, D)
  float* delta;      // (B, H, T): sums over D of dout * out
  int32_t b, t, h, d;
  float scale;  // of the scores
  DropoutParams dropout;
};

struct AttentionDecodeParams {
  const void* qkv;      // (B, n, 3, H, D)
  void *keys, *values;  // (B, H, capacity, D)
  void* out;            // (B, n, H, D)
  float* partials;      // (B, H, n, splits, D + 2): sums, maximum and total of each split; with one split not used
  int32_t b, n, h, d, past, capacity;
  int32_t splits, keys_per_split;
  float scale;
};

struct CrossEntropyParams {
  void* logits;           // (R, Vp)
  const int32_t* labels;  // (R)
  float* losses;          // (R)
  int32_t v, vp;
  int32_t staged;  // how many elements of a row fit into shared memory
  int32_t gradient;
};

struct RoundingParams {
  const uint64_t* key;  // seed, step
  int64_t first;        // index of the first element among all parameters, a multiple of 4
};

constexpr int kAdamWPieces = 4;  // of four elements, of a thread

struct AdamWParams {
  float *param, *exp_avg, *exp_avg_sq;
  const float* grad;
  uint16_t* compute;    // bf16, or null
  const void* scalars;  // OptimizerScalars
  int64_t n;
  int32_t decay;
  RoundingParams rounding;  // of `compute`, by adamw_stochastic
};

// The copy that adamw_stochastic makes.
struct RoundParams {
  const float* source;
  uint16_t* target;  // bf16
  int64_t n;
  RoundingParams rounding;
};

struct GlobalNormParams {
  const float* grads;
  double* partials;  // (blocks)
  void* scalars;     // OptimizerScalars
  int64_t n;
  int32_t blocks;
};

struct ReduceLossParams {
  const float* losses;
  const int32_t* labels;
  void* totals;  // LossTotals
  int64_t n;
};

struct ElementwiseParams {
  const void* source;
  void* target;
  int64_t n;
};

}  // namespace kotodama::kernels
