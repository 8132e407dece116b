#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpt2/config.h"
#include "tensor.h"

namespace kotodama {

// B T of a batch is at most this.
constexpr int64_t kMostRows = int64_t{1} << 30;

// One batch: B sequences of T positions.
struct BatchShape {
  int64_t b = 0, t = 0;
  int64_t rows() const { return b * t; }  // N
};

// Whether LayerNorm outputs and GELU are kept for backward, or computed again there, bit for bit: that costs a few
// passes over memory and saves 2C + F numbers per row and layer.
enum class Keep : uint8_t { kLess, kAll };

// What backward needs of one layer.
struct LayerActivations {
  Tensor sum_1;           // (N, C) F32, the residual stream that enters ln_1
  Tensor mean_1, rstd_1;  // (N) F32
  Tensor qkv;             // (B, T, 3C) X
  Tensor attention;       // (B, T, C) X
  Tensor lse;             // (B, H, T) F32
  Tensor sum_2;           // (N, C) F32, the residual stream that enters ln_2
  Tensor mean_2, rstd_2;  // (N) F32
  Tensor pre_gelu;        // (N, F) X
  // Scratch of all layers, unless everything is kept.
  Tensor normed_1, normed_2;  // (N, C) X, outputs of ln_1 and ln_2
  Tensor gelu;                // (N, F) X; in backward its gradient
};

// All tensors of one forward and backward pass; X is the compute type.
struct Activations {
  BatchShape shape;
  Keep keep = Keep::kLess;
  Tensor ids;                            // (B, T) I32
  Tensor labels;                         // (N) I32
  Tensor losses;                         // (N) F32
  std::vector<LayerActivations> layers;  // without `training` all of them are the same memory
  Tensor sum_f;                          // (N, C) F32, the residual stream that enters ln_f
  Tensor mean_f, rstd_f;                 // (N) F32

  // Scratch, shared by all layers.
  Tensor normed;      // (N, C) X, output of ln_f, or of the LayerNorm at hand
  Tensor branch;      // (N, C) X, what a branch adds to the residual stream; in backward its gradient
  Tensor wide;        // (N, max(F, 3C)) X: GELU's output, then gradients as wide
  Tensor d_normed;    // (N, C) X
  Tensor d_residual;  // (N, C) F32
  Tensor logits;      // (R, Vp) X, one chunk of rows

  // The first `columns` x N elements of `wide` as a dense matrix.
  Tensor Wide(int64_t columns) const {
    Tensor view = wide;
    view.shape[1] = columns;
    return view;
  }
};

// R, the rows of logits that exist at one time: as many as fit `logit_bytes`, in whole tiles of the devices' GEMM.
// Smaller chunks would read and write the embedding's gradient (V x C, more than the chunk itself) too often for the
// arithmetic done on them; larger ones cost memory, and leave a cache between the head, the loss and their backward.
int64_t LogitRows(const Config& config, DType compute_type, size_t logit_bytes, int64_t rows);

// Lays all tensors out from `base` and returns the bytes they take, which never shrink with more rows. With base null
// it only counts. `training` keeps every layer's activations and adds what backward needs; without it `keep` says
// nothing. `logit_bytes` is the backend's LogitBytes().
size_t LayOut(const Config& config, DType compute_type, size_t logit_bytes, BatchShape shape, bool training, Keep keep,
              void* base, Activations* activations);

}  // namespace kotodama
