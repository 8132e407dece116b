#pragma once

#include <cstdint>

#include "backend.h"
#include "gpt2/activations.h"
#include "gpt2/config.h"
#include "gpt2/parameters.h"

// GPT-2 as Hugging Face's GPT2LMHeadModel defines it (pre-LN, tanh GELU, learned positions, tied head), as sequences of
// device operations. Nothing here waits or allocates.

namespace kotodama {

// What the passes share.
struct Network {
  Config config;
  DType compute_type = DType::kF32;  // X
  Backend* backend = nullptr;
  Weights master;   // F32; embeddings, LayerNorm and biases are read from here
  Weights compute;  // X; the matrices as the products read them, `master` itself when X is F32; a Decoder's may be I8
  uint64_t weight_version = 1;              // changes whenever a parameter does
  const DropoutKey* dropout_key = nullptr;  // device memory
};

// Places of dropout, as Dropout::site counts them.
constexpr uint32_t kEmbeddingSite = 0;
constexpr uint32_t AttentionSite(int64_t layer) {
  return static_cast<uint32_t>(3 * layer + 1);
}
constexpr uint32_t AttentionBranchSite(int64_t layer) {
  return static_cast<uint32_t>(3 * layer + 2);
}
constexpr uint32_t MlpBranchSite(int64_t layer) {
  return static_cast<uint32_t>(3 * layer + 3);
}

// x W + bias into out (N, columns of W).
void Linear(const Network& network, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& out,
            Epilogue epilogue = Epilogue::kNone, const Tensor& aux = {});

// From ids to the output of ln_f in `normed`. `training` turns dropout on.
void RunForward(const Network& network, const Activations& activations, bool training);

// logits = normed wte^T: (rows, C) X to (rows, Vp), X or F32. `reused`: more rows follow before the weights change.
void RunHead(const Network& network, const Tensor& normed, const Tensor& logits, bool reused = false);

// Losses of the output of ln_f, chunk by chunk. With `gradients`, also the gradient of that output in `d_normed` and
// the head's part of dwte, added to or, without `accumulate`, written.
void RunLoss(const Network& network, const Activations& activations, const Weights* gradients, bool accumulate);

// From `d_normed` to the gradients of all parameters, as sums over the labels. `accumulate` adds to what is there.
// dwte is always added to: RunLoss came first.
void RunBackward(const Network& network, const Activations& activations, const Weights& gradients, bool accumulate);

}  // namespace kotodama
