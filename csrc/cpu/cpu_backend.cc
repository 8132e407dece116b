#include "cpu/cpu_backend.h"

#include <cstring>
#include <string>

#include "cpu/gemm.h"
#include "cpu/machine.h"
#include "cpu/memory.h"
#include "cpu/ops.h"
#include "cpu/peak.h"
#include "cpu/thread_pool.h"
#include "error.h"
#include "host_memory.h"

namespace kotodama {
namespace {

using cpu::Isa;

// Operations run at once, on the threads of the pool: there is no queue, nothing to record and nothing to wait for.
class CpuBackend : public Backend {
 public:
  explicit CpuBackend(int threads)
      : isa_(cpu::ChooseIsa()),
        pool_(threads),
        memory_(&pool_),
        scratch_(&memory_),
        weights_(&memory_),
        engine_{cpu::KernelsOf(isa_), pool_, scratch_, weights_} {}

  DeviceInfo Info() const override {
    const HostMemory memory = ReadHostMemory();
    DeviceInfo info;
    info.type = "cpu";
    info.name = cpu::ProcessorName();
    info.detail = std::string(cpu::NameOf(isa_)) + ", " + std::to_string(pool_.threads()) +
                  (pool_.threads() == 1 ? " thread" : " threads");
    info.total_bytes = memory.total;
    info.free_bytes = memory.free;
    info.threads = pool_.threads();
    return info;
  }

  // More would come from memory more slowly than it is computed again.
  size_t KeptActivationBytes() const override { return size_t{64} << 20; }
  bool SupportsBF16() const override { return true; }
  int64_t MostInt8Rows() const override { return cpu::kSkinnyRows; }
  double PeakFlops(DType type) override { return cpu::PeakFlops(pool_, isa_, type, 5); }

  // 768 rows of GPT-2's logits in bfloat16: with fewer, tile registers wait for the embedding's gradient.
  size_t LogitBytes() const override { return size_t{75} << 20; }

  WorkingMemory WorkingMemoryOf(const Gemm& op) const override { return cpu::WorkingMemoryOf(engine_, op); }
  WorkingMemory WorkingMemoryOf(const LayerNormBackward& op) const override { return cpu::WorkingMemoryOf(op); }
  WorkingMemory WorkingMemoryOf(const AttentionForward& op) const override { return cpu::WorkingMemoryOf(engine_, op); }
  WorkingMemory WorkingMemoryOf(const AttentionBackward& op) const override {
    return cpu::WorkingMemoryOf(engine_, op);
  }
  WorkingMemory WorkingMemoryOf(const CrossEntropy& op) const override { return cpu::WorkingMemoryOf(engine_, op); }

  void* Allocate(size_t bytes) override { return memory_.Allocate(bytes); }
  void Free(void* data) noexcept override {
    weights_.Forget(data, memory_.BytesOf(data));
    memory_.Free(data);
  }
  void Upload(void* target, const void* source, size_t bytes) override { std::memcpy(target, source, bytes); }
  void Download(void* target, const void* source, size_t bytes) override { std::memcpy(target, source, bytes); }
  void Synchronize() override {}
  void Record(uint64_t, const std::function<void()>& enqueue) override { enqueue(); }

  void Zero(void* data, size_t bytes) override { cpu::Zero(engine_, data, bytes); }

  void Run(const EmbeddingForward& op) override { cpu::Run(engine_, op); }
  void Run(const EmbeddingBackward& op) override { cpu::Run(engine_, op); }
  void Run(const LayerNormForward& op) override { cpu::Run(engine_, op); }
  void Run(const LayerNormBackward& op) override { cpu::Run(engine_, op); }
  void Run(const Gemm& op) override { cpu::Run(engine_, op); }
  void Run(const AttentionForward& op) override { cpu::Run(engine_, op); }
  void Run(const AttentionBackward& op) override { cpu::Run(engine_, op); }
  void Run(const AttentionCached& op) override { cpu::Run(engine_, op); }
  void Run(const CrossEntropy& op) override { cpu::Run(engine_, op); }
  void Run(const AdamW& op) override { cpu::Run(engine_, op); }
  void Gelu(const Tensor& target, const Tensor& source) override { cpu::Gelu(engine_, target, source); }
  void Cast(const Tensor& target, const Tensor& source) override { cpu::Cast(engine_, target, source); }
  void Round(const Tensor& target, const Tensor& source, const StochasticRounding& rounding) override {
    cpu::Round(engine_, target, source, rounding);
  }
  void Quantize(const Tensor& target, const Tensor& source, bool transpose_b) override {
    cpu::Quantize(engine_, target, source, transpose_b);
  }
  void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) override {
    cpu::ReduceLoss(losses, labels, totals);
  }
  void GlobalNorm(const Tensor& grads, OptimizerScalars* scalars) override { cpu::GlobalNorm(engine_, grads, scalars); }

 private:
  const Isa isa_;
  cpu::ThreadPool pool_;
  cpu::Memory memory_;
  cpu::Scratch scratch_;
  cpu::PackedWeights weights_;
  const cpu::Engine engine_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(int threads) {
  if (threads < 0) {
    throw Error(ErrorCode::kOptions, "threads: expected 0 (all cores) or more, found " + std::to_string(threads));
  }
  return std::make_unique<CpuBackend>(threads == 0 ? cpu::UsableCores() : threads);
}

}  // namespace kotodama
