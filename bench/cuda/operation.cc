#include "operation.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <type_traits>

namespace kotodama::bench {
namespace {

const char* TypeName(DType type) {
  return type == DType::kBF16 ? "bf16" : type == DType::kF32 ? "f32" : "i32";
}

// The weight matrix that a product belongs to, by its shape; "" where it is none of GPT-2's.
std::string MatrixOf(int64_t in, int64_t out, const Config& config) {
  const int64_t c = config.n_embd;
  if (in == c && out == 3 * c) return "c_attn";
  if (in == c && out == c) return "c_proj";
  if (in == c && out == config.n_inner) return "c_fc";
  if (in == config.n_inner && out == c) return "mlp c_proj";
  return "";
}

std::string NameOfGemm(const Gemm& op, const Config& config) {
  const int64_t vp = config.padded_vocab();
  const bool is_head = op.transpose_a ? op.m == vp : op.transpose_b ? op.n == vp : op.k == vp;
  if (is_head) return op.transpose_a ? "head dW" : op.transpose_b ? "head logits" : "head dX";
  if (op.transpose_a) return MatrixOf(op.m, op.n, config) + " dW";
  if (op.transpose_b) return MatrixOf(op.n, op.k, config) + " dX";
  return MatrixOf(op.k, op.n, config) + " forward";
}

std::string WithDropout(const Dropout& dropout) {
  return dropout.p > 0 ? ", dropout" : "";
}

struct Namer {
  const Config& config;

  std::string operator()(const EmbeddingForward& op) const { return "embedding forward" + WithDropout(op.dropout); }
  std::string operator()(const EmbeddingBackward& op) const { return "embedding backward" + WithDropout(op.dropout); }
  std::string operator()(const LayerNormForward& op) const {
    std::string name = "LayerNorm forward";
    if (op.addend) name += " + residual";
    if (!op.mean) name += ", again";
    return name + WithDropout(op.dropout);
  }
  std::string operator()(const LayerNormBackward& op) const {
    std::string name = "LayerNorm backward";
    if (!op.accumulate_dx) name += ", last";
    if (!op.daddend) name += ", first";
    return name + WithDropout(op.dropout);
  }
  std::string operator()(const Gemm& op) const { return NameOfGemm(op, config); }
  std::string operator()(const AttentionForward& op) const { return "attention forward" + WithDropout(op.dropout); }
  std::string operator()(const AttentionBackward& op) const { return "attention backward" + WithDropout(op.dropout); }
  std::string operator()(const CrossEntropy&) const { return "cross-entropy"; }
  std::string operator()(const AdamW& op) const {
    return std::string(op.decay ? "AdamW, matrices" : "AdamW, vectors") +
           (op.rounding.key != nullptr ? ", stochastic rounding" : "");
  }
  std::string operator()(const Gelu&) const { return "GELU, again"; }
  std::string operator()(const Cast& op) const {
    return std::string("cast ") + TypeName(op.source.dtype) + " to " + TypeName(op.target.dtype);
  }
  std::string operator()(const ReduceLoss&) const { return "sum of losses"; }
  std::string operator()(const GlobalNorm&) const { return "global norm"; }
  std::string operator()(const Zero&) const { return "zero"; }
};

// The scalars that decide what is launched, beside the tensors.
struct Details {
  std::string operator()(const EmbeddingForward& op) const { return "embedding forward" + Text(op.dropout); }
  std::string operator()(const EmbeddingBackward& op) const { return "embedding backward" + Text(op.dropout); }
  std::string operator()(const LayerNormForward& op) const { return "layernorm forward" + Text(op.dropout); }
  std::string operator()(const LayerNormBackward& op) const { return "layernorm backward" + Text(op.dropout); }
  std::string operator()(const Gemm& op) const {
    return std::string("gemm ") + (op.transpose_a ? "t" : "n") + (op.transpose_b ? "t " : "n ") + Text(op.m) + "x" +
           Text(op.n) + "x" + Text(op.k) + " strides " + Text(op.lda) + " " + Text(op.ldb) + " " + Text(op.ldc) +
           " epilogue " + Text(static_cast<int64_t>(op.epilogue));
  }
  std::string operator()(const AttentionForward& op) const {
    return "attention forward" + Shape(op) + Text(op.dropout);
  }
  std::string operator()(const AttentionBackward& op) const {
    return "attention backward" + Shape(op) + Text(op.dropout);
  }
  std::string operator()(const CrossEntropy& op) const { return "cross-entropy v " + Text(op.v); }
  std::string operator()(const AdamW& op) const {
    return std::string(op.decay ? "adamw decay" : "adamw") + (op.rounding.key != nullptr ? " stochastic" : "");
  }
  std::string operator()(const Gelu&) const { return "gelu"; }
  std::string operator()(const Cast&) const { return "cast"; }
  std::string operator()(const ReduceLoss&) const { return "reduce loss"; }
  std::string operator()(const GlobalNorm&) const { return "global norm"; }
  std::string operator()(const Zero&) const { return "zero"; }

 private:
  static std::string Text(int64_t n) { return std::to_string(n); }
  static std::string Text(const Dropout& dropout) {
    return dropout.p > 0 ? " dropout " + std::to_string(dropout.p) : "";
  }
  template <typename Op>
  static std::string Shape(const Op& op) {
    return " b " + Text(op.b) + " t " + Text(op.t) + " h " + Text(op.h) + " d " + Text(op.d);
  }
};

// Query-key pairs of causal attention times the width that each pair is multiplied over.
template <typename Op>
int64_t CausalProducts(const Op& op) {
  return op.b * op.h * op.d * (op.t * (op.t + 1) / 2);
}

int64_t DistinctRows(const std::vector<int32_t>& ids) {
  std::vector<int32_t> sorted = ids;
  std::sort(sorted.begin(), sorted.end());
  return std::unique(sorted.begin(), sorted.end()) - sorted.begin();
}

}  // namespace

std::string NameOf(const Operation& operation, const Config& config) {
  return std::visit(Namer{config}, operation);
}

std::string Describe(const Operation& operation) {
  std::string text = std::visit(Details(), operation);
  Operation copy = operation;
  ForEachTensor(copy, [&](const Tensor& tensor, Access access, Content) {
    text += access == Access::kRead ? " r" : access == Access::kWrite ? " w" : " u";
    text += std::string(":") + TypeName(tensor.dtype);
    for (int i = 0; i < tensor.rank; ++i) text += (i == 0 ? " " : "x") + std::to_string(tensor.shape[i]);
  });
  return text;
}

int64_t Flops(const Operation& operation) {
  if (const auto* gemm = std::get_if<Gemm>(&operation)) return 2 * gemm->m * gemm->n * gemm->k;
  // Forward: scores and the weighted sum; backward: scores, dP, dV, dQ and dK.
  if (const auto* forward = std::get_if<AttentionForward>(&operation)) return 2 * 2 * CausalProducts(*forward);
  if (const auto* backward = std::get_if<AttentionBackward>(&operation)) return 2 * 5 * CausalProducts(*backward);
  return 0;
}

Traffic FewestBytes(const Operation& operation, const std::vector<int32_t>& ids) {
  Operation copy = operation;
  const void* table = nullptr;
  const void* positions = nullptr;
  int64_t block = 0;
  int64_t rows = 0;  // of the table
  if (auto* forward = std::get_if<EmbeddingForward>(&copy)) {
    table = forward->wte.data, positions = forward->wpe.data, block = forward->ids.shape[1];
    rows = static_cast<int64_t>(ids.size());
  } else if (auto* backward = std::get_if<EmbeddingBackward>(&copy)) {
    table = backward->dwte.data, positions = backward->dwpe.data, block = backward->ids.shape[1];
    rows = DistinctRows(ids);
  }
  Traffic traffic;
  ForEachTensor(copy, [&](const Tensor& tensor, Access access, Content) {
    int64_t bytes = static_cast<int64_t>(tensor.bytes());
    if (table != nullptr && tensor.data == table) bytes = bytes / tensor.shape[0] * rows;
    if (positions != nullptr && tensor.data == positions) bytes = bytes / tensor.shape[0] * block;
    if (access != Access::kWrite) traffic.read += bytes;
    if (access != Access::kRead) traffic.written += bytes;
  });
  return traffic;
}

bool BlocksAreAlike(const Operation& operation) {
  return !std::holds_alternative<EmbeddingForward>(operation) && !std::holds_alternative<EmbeddingBackward>(operation);
}

std::vector<int32_t> RandomIds(int64_t count, int64_t vocabulary) {
  std::mt19937_64 random(1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) {
    // V^u - 1 for u uniform in [0, 1) has a density of 1 / (x + 1).
    const double u = static_cast<double>(random() >> 11) / 9007199254740992.0;
    id = static_cast<int32_t>(std::min(std::pow(static_cast<double>(vocabulary), u) - 1, vocabulary - 1.0));
  }
  return ids;
}

}  // namespace kotodama::bench
