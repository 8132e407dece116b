#pragma once

#include <unordered_map>
#include <utility>

#include "backend.h"
#include "cuda/context.h"
#include "cuda/staging.h"
#include "error.h"
#include "kernels/params.h"

namespace kotodama::cuda {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int index) : context_(index), staging_(context_) {}
  ~CudaBackend() override { DropRecordings(); }

  DeviceInfo Info() const override;
  bool SupportsBF16() const override { return true; }
  void RequireWidth(int64_t c) const override;
  size_t KeptActivationBytes() const override { return ~size_t{0}; }
  // The embedding's gradient is read and written once a chunk, which the product must outweigh.
  size_t LogitBytes() const override { return size_t{256} << 20; }

  WorkingMemory WorkingMemoryOf(const EmbeddingBackward& op) const override;
  WorkingMemory WorkingMemoryOf(const LayerNormBackward& op) const override;
  WorkingMemory WorkingMemoryOf(const AttentionBackward& op) const override;

  void* Allocate(size_t bytes) override;
  void Free(void* data) noexcept override { context_.Free(data); }
  void Upload(void* target, const void* source, size_t bytes) override;
  void Prefetch(const void* source, size_t bytes) override;
  void Download(void* target, const void* source, size_t bytes) override;
  void Zero(void* data, size_t bytes) override;
  void Synchronize() override;
  // The first call with a key runs as it is, so that scratch memory exists; the second is captured as a CUDA graph, and
  // later ones replay it. Where there is no memory for the graph, all of them run as they are: the same bits, more
  // calls.
  void Record(uint64_t key, const std::function<void()>& enqueue) override;
  void Forget(uint64_t key) noexcept override;
  // Milliseconds on the device from the start of what `enqueue` enqueues to its end, for which it waits.
  double Time(const std::function<void()>& enqueue);

  void Run(const EmbeddingForward& op) override;
  void Run(const EmbeddingBackward& op) override;
  void Run(const LayerNormForward& op) override;
  void Run(const LayerNormBackward& op) override;
  void Run(const Gemm& op) override;
  void Run(const AttentionForward& op) override;
  void Run(const AttentionBackward& op) override;
  void Run(const AttentionCached& op) override;
  void Run(const CrossEntropy& op) override;
  void Run(const AdamW& op) override;
  void Gelu(const Tensor& target, const Tensor& source) override;
  void Cast(const Tensor& target, const Tensor& source) override;
  void Round(const Tensor& target, const Tensor& source, const StochasticRounding& rounding) override;
  void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) override;
  void GlobalNorm(const Tensor& grads, OptimizerScalars* scalars) override;

 private:
  struct Recording {
    CUgraphExec graph = nullptr;  // null until the second call
    bool has_memory = true;       // for a graph
  };

  // Calls `f` in the context, and fails the context when the device had a fault.
  template <typename F>
  auto Attempt(F&& f) -> decltype(f());
  // As Attempt, for what changes memory on the device: the context fails when a call was refused, too, for another
  // reason than memory, since part of it may have been done. Of what is being recorded nothing has.
  template <typename F>
  auto Guarded(F&& f) -> decltype(f());

  void BiasGradient(const ::kotodama::Gemm& op);
  void SumBiasGradient(const ::kotodama::Gemm& op, const float* partials, unsigned rows);
  void RequireOutsideRecording(const char* what) const;
  CUgraphExec Capture(const std::function<void()>& enqueue);
  void DropRecordings() noexcept;

  mutable Context context_;  // also what only asks has to make it current
  Staging staging_;
  std::unordered_map<uint64_t, Recording> recordings_;
  bool recording_ = false;
};

template <typename F>
auto CudaBackend::Attempt(F&& f) -> decltype(f()) {
  const CurrentContext current = context_.Enter();
  try {
    return f();
  } catch (const DriverError& error) {
    if (error.is_fault()) context_.Fail(error);
    throw;
  }
}

template <typename F>
auto CudaBackend::Guarded(F&& f) -> decltype(f()) {
  return Attempt([&] {
    try {
      return f();
    } catch (const DriverError& error) {
      if (error.code() != ErrorCode::kMemory && !recording_) context_.Fail(error);
      throw;
    }
  });
}

// ---- Small helpers for the launches ----

constexpr unsigned kThreads = 256;

inline unsigned Blocks(int64_t work, int64_t per_block) {
  return static_cast<unsigned>((work + per_block - 1) / per_block);
}

inline bool IsAligned(const void* data, size_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

// The name of a kernel for a compute type.
inline const char* ForType(DType type, const char* f32, const char* bf16) {
  return type == DType::kBF16 ? bf16 : f32;
}

kernels::DropoutParams ToParams(const Dropout& dropout);

}  // namespace kotodama::cuda
