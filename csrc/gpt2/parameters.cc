#include "gpt2/parameters.h"

#include "error.h"

namespace kotodama {
namespace {

int64_t RoundUp64(int64_t n) {
  return (n + 63) / 64 * 64;
}

}  // namespace

ParameterTable::ParameterTable(const Config& config) {
  const int64_t c = config.n_embd, f = config.n_inner;
  const auto add = [this](std::string name, std::vector<int64_t> shape, Initial initial) {
    Parameter parameter;
    parameter.name = std::move(name);
    parameter.decay = shape.size() == 2;
    parameter.size = 1;
    for (int64_t dim : shape) parameter.size *= dim;
    parameter.shape = std::move(shape);
    parameter.initial = initial;
    list.push_back(std::move(parameter));
  };
  const auto add_layer_norm = [&](const std::string& name) {
    add(name + ".weight", {c}, Initial::kOnes);
    add(name + ".bias", {c}, Initial::kZeros);
  };
  const auto add_linear = [&](const std::string& name, int64_t in, int64_t out, Initial initial) {
    add(name + ".weight", {in, out}, initial);
    add(name + ".bias", {out}, Initial::kZeros);
  };

  add("transformer.wte.weight", {config.vocab_size, c}, Initial::kNormal);
  add("transformer.wpe.weight", {config.n_positions, c}, Initial::kNormal);
  for (int64_t l = 0; l < config.n_layer; ++l) {
    const std::string layer = "transformer.h." + std::to_string(l);
    add_layer_norm(layer + ".ln_1");
    add_linear(layer + ".attn.c_attn", c, 3 * c, Initial::kNormal);
    add_linear(layer + ".attn.c_proj", c, c, Initial::kNormalResidual);
    add_layer_norm(layer + ".ln_2");
    add_linear(layer + ".mlp.c_fc", c, f, Initial::kNormal);
    add_linear(layer + ".mlp.c_proj", f, c, Initial::kNormalResidual);
  }
  add_layer_norm("transformer.ln_f");

  for (bool decay : {true, false}) {
    for (Parameter& parameter : list) {
      if (parameter.decay != decay) continue;
      parameter.offset = total;
      // The first parameter is wte; its padding rows belong to its place.
      total += RoundUp64(&parameter == &list.front() ? config.padded_vocab() * c : parameter.size);
    }
    if (decay) decayed = total;
  }
}

const Parameter& ParameterTable::Find(const std::string& name) const {
  for (const Parameter& parameter : list) {
    if (parameter.name == name) return parameter;
  }
  throw Error(ErrorCode::kOptions, "there is no tensor '" + name + "'; tensors lists the names");
}

Weights ViewOf(const ParameterTable& table, const Config& config, void* arena, DType dtype, int64_t elements) {
  size_t index = 0;
  const auto next = [&]() -> Tensor {
    const Parameter& parameter = table.list[index++];
    if (parameter.offset >= elements) return {};
    void* data = static_cast<char*>(arena) + static_cast<size_t>(parameter.offset) * SizeOf(dtype);
    if (parameter.shape.size() == 1) return {data, dtype, {parameter.shape[0]}};
    return {data, dtype, {parameter.shape[0], parameter.shape[1]}};
  };
  Weights weights;
  weights.wte = next();
  weights.head = Tensor(weights.wte.data, dtype, {config.padded_vocab(), config.n_embd});
  weights.wpe = next();
  weights.layers.resize(static_cast<size_t>(config.n_layer));
  for (LayerWeights& layer : weights.layers) {
    layer.ln_1_weight = next();
    layer.ln_1_bias = next();
    layer.c_attn_weight = next();
    layer.c_attn_bias = next();
    layer.c_proj_weight = next();
    layer.c_proj_bias = next();
    layer.ln_2_weight = next();
    layer.ln_2_bias = next();
    layer.c_fc_weight = next();
    layer.c_fc_bias = next();
    layer.mlp_proj_weight = next();
    layer.mlp_proj_bias = next();
  }
  weights.ln_f_weight = next();
  weights.ln_f_bias = next();
  return weights;
}

}  // namespace kotodama
