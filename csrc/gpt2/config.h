#pragma once

#include <cstdint>

namespace kotodama {

// GPT-2's numbers, named as in Hugging Face's GPT2Config.
struct Config {
  int64_t vocab_size = 0;   // V
  int64_t n_positions = 0;  // the longest block
  int64_t n_embd = 0;       // C
  int64_t n_layer = 0;      // L
  int64_t n_head = 0;       // H
  int64_t n_inner = 0;      // width of the MLP, usually 4 C
  float layer_norm_epsilon = 1e-5f;
  double initializer_range = 0.02;
  float embd_pdrop = 0, attn_pdrop = 0, resid_pdrop = 0;

  // Vp: rows of the embedding as stored, so that every row of logits and every tile of the head starts aligned. The
  // padding rows are zero and stay zero.
  int64_t padded_vocab() const { return (vocab_size + 63) / 64 * 64; }
  int64_t head_size() const { return n_embd / n_head; }
};

// Throws Error(kOptions) that names the first value that cannot be.
void Validate(const Config& config);

}  // namespace kotodama
