#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "backend.h"
#include "gpt2/config.h"

// The operations of csrc/backend.h as values: what the model asks of a device can be listed, described, and asked again
// of another one.

namespace kotodama::bench {

// Those of Backend's operations that are no struct there.
struct Gelu {
  Tensor target, source;
};
struct Cast {
  Tensor target, source;
};
struct ReduceLoss {
  Tensor losses, labels;
};
struct GlobalNorm {
  Tensor grads;
};
struct Zero {
  Tensor target;  // bytes as I32
};

using Operation =
    std::variant<EmbeddingForward, EmbeddingBackward, LayerNormForward, LayerNormBackward, Gemm, AttentionForward,
                 AttentionBackward, CrossEntropy, AdamW, Gelu, Cast, ReduceLoss, GlobalNorm, Zero>;

enum class Access : uint8_t { kRead, kWrite, kUpdate };
enum class Content : uint8_t { kNormal, kPositive, kIds };

// Visits the tensors of an operation that are there: visit(Tensor&, Access, Content).
template <typename Visit>
class TensorVisitor {
 public:
  explicit TensorVisitor(Visit visit) : visit_(visit) {}

  void operator()(EmbeddingForward& op) { Read(op.ids, Content::kIds), Read(op.wte), Read(op.wpe), Write(op.out); }
  void operator()(EmbeddingBackward& op) {
    Read(op.ids, Content::kIds), Read(op.dout), Update(op.dwte), Update(op.dwpe);
  }
  void operator()(LayerNormForward& op) {
    Read(op.x), Read(op.addend), Read(op.weight), Read(op.bias);
    Write(op.out), Write(op.mean), Write(op.rstd);
    if (op.addend) Write(op.sum);
  }
  void operator()(LayerNormBackward& op) {
    Read(op.dout), Read(op.x), Read(op.weight), Read(op.mean), Read(op.rstd, Content::kPositive);
    WriteOrUpdate(op.dx, op.accumulate_dx), Write(op.daddend);
    WriteOrUpdate(op.dweight, op.accumulate), WriteOrUpdate(op.dbias, op.accumulate);
  }
  void operator()(Gemm& op) {
    Read(op.a), Read(op.b), WriteOrUpdate(op.c, op.accumulate), Read(op.bias);
    if (op.epilogue == Epilogue::kGelu) Write(op.aux);
    if (op.epilogue == Epilogue::kGeluBackward) Read(op.aux);
    WriteOrUpdate(op.bias_gradient, op.accumulate);
  }
  void operator()(AttentionForward& op) { Read(op.qkv), Write(op.out), Write(op.lse); }
  void operator()(AttentionBackward& op) { Read(op.qkv), Read(op.out), Read(op.lse), Read(op.dout), Write(op.dqkv); }
  void operator()(CrossEntropy& op) {
    op.gradient ? Update(op.logits) : Read(op.logits);
    Read(op.labels, Content::kIds), Write(op.losses);
  }
  void operator()(AdamW& op) {
    Update(op.param), Read(op.grad), Update(op.exp_avg), Update(op.exp_avg_sq, Content::kPositive), Write(op.compute);
  }
  void operator()(Gelu& op) { Write(op.target), Read(op.source); }
  void operator()(Cast& op) { Write(op.target), Read(op.source); }
  void operator()(ReduceLoss& op) { Read(op.losses), Read(op.labels, Content::kIds); }
  void operator()(GlobalNorm& op) { Read(op.grads); }
  void operator()(Zero& op) { Write(op.target); }

 private:
  void Use(Tensor& tensor, Access access, Content content) {
    if (tensor) visit_(tensor, access, content);
  }
  void Read(Tensor& tensor, Content content = Content::kNormal) { Use(tensor, Access::kRead, content); }
  void Write(Tensor& tensor) { Use(tensor, Access::kWrite, Content::kNormal); }
  void Update(Tensor& tensor, Content content = Content::kNormal) { Use(tensor, Access::kUpdate, content); }
  void WriteOrUpdate(Tensor& tensor, bool update) { update ? Update(tensor) : Write(tensor); }

  Visit visit_;
};

template <typename Visit>
void ForEachTensor(Operation& operation, Visit visit) {
  std::visit(TensorVisitor<Visit>(visit), operation);
}

// A name for a table: "c_attn forward", "LayerNorm backward". Operations of one model with the same description have
// the same name.
std::string NameOf(const Operation& operation, const Config& config);

// Everything that decides how the operation is run, but the addresses; equal texts mean equal launches.
std::string Describe(const Operation& operation);

// What the operation computes, counted as the model's arithmetic: a multiplication and an addition are two; of causal
// attention only what is not masked; 0 where no products are summed.
int64_t Flops(const Operation& operation);

struct Traffic {
  int64_t read = 0, written = 0;
};
// The fewest bytes that it can move to and from memory: each element that it needs once, each result once. The
// embedding reads a row of its table for each of the `ids`; its backward pass reads and writes the row of each
// different id.
Traffic FewestBytes(const Operation& operation, const std::vector<int32_t>& ids);

// Whether the blocks of its kernels do the same work wherever they lie along x: not where it depends on the ids.
bool BlocksAreAlike(const Operation& operation);

// Text-like ids: id i with a probability proportional to 1 / (i + 1) (Zipf's law). Always the same.
std::vector<int32_t> RandomIds(int64_t count, int64_t vocabulary);

}  // namespace kotodama::bench
