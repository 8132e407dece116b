#include "gpt2/working_memory.h"

#include <algorithm>
#include <map>
#include <utility>

namespace kotodama {
namespace {

// Computes nothing: asks the device what it would need for the operations that come.
class Asking final : public Backend {
 public:
  explicit Asking(const Backend& device) : device_(device) {}

  size_t bytes() const {
    size_t sum = shared_;
    for (const auto& [weight, bytes] : kept_) sum += bytes;
    return sum;
  }

  DeviceInfo Info() const override { return {}; }
  bool SupportsBF16() const override { return true; }
  void* Allocate(size_t) override { return nullptr; }
  void Free(void*) noexcept override {}
  void Upload(void*, const void*, size_t) override {}
  void Download(void*, const void*, size_t) override {}
  void Zero(void*, size_t) override {}
  void Synchronize() override {}
  void Record(uint64_t, const std::function<void()>& enqueue) override { enqueue(); }

  void Run(const Gemm& op) override {
    const size_t kept = Ask(op).kept;
    if (kept > 0) kept_[{op.b.data, op.transpose_b}] = kept;
  }
  void Run(const EmbeddingForward&) override {}
  void Run(const EmbeddingBackward& op) override { Ask(op); }
  void Run(const LayerNormForward&) override {}
  void Run(const LayerNormBackward& op) override { Ask(op); }
  void Run(const AttentionForward& op) override { Ask(op); }
  void Run(const AttentionBackward& op) override { Ask(op); }
  void Run(const AttentionCached&) override {}
  void Run(const CrossEntropy& op) override { Ask(op); }
  void Run(const AdamW&) override {}
  void Gelu(const Tensor&, const Tensor&) override {}
  void Cast(const Tensor&, const Tensor&) override {}
  void Round(const Tensor&, const Tensor&, const StochasticRounding&) override {}
  void ReduceLoss(const Tensor&, const Tensor&, LossTotals*) override {}
  void GlobalNorm(const Tensor&, OptimizerScalars*) override {}

 private:
  template <typename Op>
  WorkingMemory Ask(const Op& op) {
    const WorkingMemory memory = device_.WorkingMemoryOf(op);
    shared_ = std::max(shared_, memory.shared);
    return memory;
  }

  const Backend& device_;
  size_t shared_ = 0;
  std::map<std::pair<const void*, bool>, size_t> kept_;  // a weight, and in which of its two forms
};

}  // namespace

size_t WorkingMemoryOf(const Backend& device, const std::function<void(Backend&)>& run) {
  Asking asking(device);
  run(asking);
  return asking.bytes();
}

size_t WorkingMemoryOf(const Network& network, const ParameterTable& table, BatchShape shape, Keep keep) {
  void* const address = AddressForAsking();
  Activations activations;
  LayOut(network.config, network.compute_type, network.backend->LogitBytes(), shape, true, keep, address, &activations);
  const Weights gradients = ViewOf(table, network.config, address, DType::kF32, table.total);
  Network dry = network;
  dry.master = dry.compute = gradients;
  if (network.compute_type == DType::kBF16) {
    dry.compute = ViewOf(table, network.config, address, DType::kBF16, table.decayed);
  }
  return WorkingMemoryOf(*network.backend, [&](Backend& asking) {
    dry.backend = &asking;
    RunForward(dry, activations, true);
    RunLoss(dry, activations, &gradients, false);
    RunBackward(dry, activations, gradients, false);
  });
}

}  // namespace kotodama
