#pragma once

#include <vector>

#include "operation.h"

namespace kotodama::bench {

// A device that computes nothing and remembers what it was asked for. Its memory is addresses alone.
class Recorder final : public Backend {
 public:
  // The operations since the last call.
  std::vector<Operation> Take();

  DeviceInfo Info() const override;
  bool SupportsBF16() const override { return true; }
  void* Allocate(size_t bytes) override;
  void Free(void*) noexcept override {}
  void Upload(void*, const void*, size_t) override {}
  void Download(void* target, const void* source, size_t bytes) override;
  void Zero(void* data, size_t bytes) override;
  void Synchronize() override {}
  void Record(uint64_t, const std::function<void()>& enqueue) override { enqueue(); }

  void Run(const EmbeddingForward& op) override { Add(op); }
  void Run(const EmbeddingBackward& op) override { Add(op); }
  void Run(const LayerNormForward& op) override { Add(op); }
  void Run(const LayerNormBackward& op) override { Add(op); }
  void Run(const Gemm& op) override { Add(op); }
  void Run(const AttentionForward& op) override { Add(op); }
  void Run(const AttentionBackward& op) override { Add(op); }
  void Run(const AttentionCached& op) override;
  void Run(const CrossEntropy& op) override { Add(op); }
  void Run(const AdamW& op) override { Add(op); }
  void Gelu(const Tensor& target, const Tensor& source) override { Add(bench::Gelu{target, source}); }
  void Cast(const Tensor& target, const Tensor& source) override { Add(bench::Cast{target, source}); }
  void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) override;
  void GlobalNorm(const Tensor& grads, OptimizerScalars*) override { Add(bench::GlobalNorm{grads}); }

 private:
  void Add(const Operation& operation) { operations_.push_back(operation); }

  std::vector<Operation> operations_;
  uintptr_t next_address_ = uintptr_t{1} << 40;
  const LossTotals* totals_ = nullptr;
  int64_t labels_ = 0;
};

}  // namespace kotodama::bench
