#pragma once

#include <unordered_map>
#include <vector>

#include "operation.h"

namespace kotodama::bench {

// A device that computes nothing and remembers what it was asked for. It tells the model what `like` would, so that the
// model asks the same of it; its memory is addresses alone.
class Recorder final : public Backend {
 public:
  explicit Recorder(const Backend& like);

  // The operations since the last call.
  std::vector<Operation> Take();

  DeviceInfo Info() const override { return info_; }
  bool SupportsBF16() const override { return true; }
  size_t KeptActivationBytes() const override { return kept_activation_bytes_; }
  size_t LogitBytes() const override { return logit_bytes_; }
  void* Allocate(size_t bytes) override;
  void Free(void* data) noexcept override;
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
  void Round(const Tensor&, const Tensor&, const StochasticRounding&) override;
  void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) override;
  void GlobalNorm(const Tensor& grads, OptimizerScalars*) override { Add(bench::GlobalNorm{grads}); }

 private:
  void Add(const Operation& operation) { operations_.push_back(operation); }

  DeviceInfo info_;
  size_t kept_activation_bytes_;
  size_t logit_bytes_;
  std::vector<Operation> operations_;
  std::unordered_map<void*, size_t> allocations_;
  uintptr_t next_address_ = uintptr_t{1} << 40;
  const LossTotals* totals_ = nullptr;
  int64_t labels_ = 0;
};

}  // namespace kotodama::bench
