#include "gpt2/test/float64_gpt2.h"

#include <algorithm>
#include <cmath>

namespace kotodama {
namespace {

using Row = std::vector<double>;

Row LayerNorm(const Row& x, const Row& weight, const Row& bias, double eps) {
  double mean = 0, variance = 0;
  for (double value : x) mean += value / static_cast<double>(x.size());
  for (double value : x) variance += (value - mean) * (value - mean) / static_cast<double>(x.size());
  Row out(x.size());
  for (size_t i = 0; i < x.size(); ++i) out[i] = (x[i] - mean) / std::sqrt(variance + eps) * weight[i] + bias[i];
  return out;
}

Row Conv1D(const Row& x, const Row& weight, const Row& bias) {
  Row out = bias;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < out.size(); ++j) out[j] += x[i] * weight[i * out.size() + j];
  }
  return out;
}

double Gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

// The head of width d at `offset` of the last query, over all keys so far.
void Attend(const std::vector<Row>& qkv, size_t c, size_t offset, size_t d, Row& out) {
  const Row& query = qkv.back();
  Row scores(qkv.size());
  for (size_t s = 0; s < qkv.size(); ++s) {
    for (size_t i = 0; i < d; ++i) scores[s] += query[offset + i] * qkv[s][c + offset + i];
    scores[s] /= std::sqrt(static_cast<double>(d));
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (size_t s = 0; s < qkv.size(); ++s) {
    for (size_t i = 0; i < d; ++i) out[offset + i] += scores[s] / sum * qkv[s][2 * c + offset + i];
  }
}

void Add(Row& target, const Row& source) {
  for (size_t i = 0; i < target.size(); ++i) target[i] += source[i];
}

}  // namespace

double Float64Loss(const Config& config, const Float64Weights& weights, const std::vector<int32_t>& ids,
                   const std::vector<int32_t>& labels, int64_t b, int64_t t) {
  const size_t c = static_cast<size_t>(config.n_embd), d = static_cast<size_t>(config.head_size());
  const Row& wte = weights.at("transformer.wte.weight");
  const Row& wpe = weights.at("transformer.wpe.weight");
  double sum = 0;
  int64_t count = 0;
  for (int64_t sequence = 0; sequence < b; ++sequence) {
    std::vector<std::vector<Row>> past(static_cast<size_t>(config.n_layer));  // qkv of every layer and position
    for (int64_t position = 0; position < t; ++position) {
      const int64_t index = sequence * t + position;
      Row x(c);
      for (size_t i = 0; i < c; ++i) {
        x[i] = wte[static_cast<size_t>(ids[index]) * c + i] + wpe[static_cast<size_t>(position) * c + i];
      }
      for (int64_t l = 0; l < config.n_layer; ++l) {
        const std::string layer = "transformer.h." + std::to_string(l) + ".";
        const auto at = [&](const std::string& name) -> const Row& { return weights.at(layer + name); };
        const double eps = config.layer_norm_epsilon;
        std::vector<Row>& qkv = past[static_cast<size_t>(l)];
        qkv.push_back(Conv1D(LayerNorm(x, at("ln_1.weight"), at("ln_1.bias"), eps), at("attn.c_attn.weight"),
                             at("attn.c_attn.bias")));
        Row attended(c);
        for (size_t offset = 0; offset < c; offset += d) Attend(qkv, c, offset, d, attended);
        Add(x, Conv1D(attended, at("attn.c_proj.weight"), at("attn.c_proj.bias")));
        Row inner =
            Conv1D(LayerNorm(x, at("ln_2.weight"), at("ln_2.bias"), eps), at("mlp.c_fc.weight"), at("mlp.c_fc.bias"));
        for (double& value : inner) value = Gelu(value);
        Add(x, Conv1D(inner, at("mlp.c_proj.weight"), at("mlp.c_proj.bias")));
      }
      if (labels[index] < 0) continue;
      const Row out = LayerNorm(x, weights.at("transformer.ln_f.weight"), weights.at("transformer.ln_f.bias"),
                                config.layer_norm_epsilon);
      Row logits(static_cast<size_t>(config.vocab_size));
      for (size_t v = 0; v < logits.size(); ++v) {
        for (size_t i = 0; i < c; ++i) logits[v] += out[i] * wte[v * c + i];
      }
      const double largest = *std::max_element(logits.begin(), logits.end());
      double total = 0;
      for (double logit : logits) total += std::exp(logit - largest);
      sum += largest + std::log(total) - logits[static_cast<size_t>(labels[index])];
      ++count;
    }
  }
  return sum / static_cast<double>(count);
}

}  // namespace kotodama
