#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpt2/config.h"
#include "tensor.h"

namespace kotodama {

enum class Initial : uint8_t {
  kNormal,          // N(0, initializer_range)
  kNormalResidual,  // the same, divided by sqrt(2 L): projections that end in the residual stream
  kOnes,
  kZeros,
};

// One parameter tensor and its place in an arena of fp32 numbers.
struct Parameter {
  std::string name;            // Hugging Face's
  std::vector<int64_t> shape;  // Hugging Face's layout; linear weights are Conv1D, (in, out)
  Initial initial = Initial::kZeros;
  bool decay = false;  // weight decay: the 2-D tensors
  int64_t size = 0;    // elements
  int64_t offset = 0;  // of the first element in the arena
};

// Where every parameter lies. Parameters, gradients and both moments are one arena each with this same layout: the
// decayed tensors first, then the others, so that the optimizer makes one pass over each of the two spans. Every tensor
// starts at a multiple of 64 elements. What lies between tensors is zero and stays zero.
struct ParameterTable {
  explicit ParameterTable(const Config& config);

  // Throws Error(kOptions) when there is none of this name.
  const Parameter& Find(const std::string& name) const;

  std::vector<Parameter> list;  // in Hugging Face's order
  int64_t decayed = 0;          // elements of the first span
  int64_t total = 0;            // elements of the arena
};

struct LayerWeights {
  Tensor ln_1_weight, ln_1_bias;          // (C)
  Tensor c_attn_weight, c_attn_bias;      // (C, 3C), (3C)
  Tensor c_proj_weight, c_proj_bias;      // (C, C), (C)
  Tensor ln_2_weight, ln_2_bias;          // (C)
  Tensor c_fc_weight, c_fc_bias;          // (C, F), (F)
  Tensor mlp_proj_weight, mlp_proj_bias;  // (F, C), (C)
};

// The tensors of one arena, by their place in the network.
struct Weights {
  Tensor wte;   // (V, C)
  Tensor head;  // (Vp, C): wte with its padding rows
  Tensor wpe;   // (n_positions, C)
  std::vector<LayerWeights> layers;
  Tensor ln_f_weight, ln_f_bias;  // (C)
};

// Views of an arena that holds `elements` elements of `dtype`; tensors beyond its end are none.
Weights ViewOf(const ParameterTable& table, const Config& config, void* arena, DType dtype, int64_t elements);

}  // namespace kotodama
