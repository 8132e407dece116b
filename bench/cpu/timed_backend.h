#pragma once

#include <time.h>

#include <array>
#include <chrono>
#include <utility>

#include "backend.h"

namespace kotodama::bench {

enum Part { kGemm, kAttention, kLayerNorm, kCrossEntropy, kEmbedding, kGelu, kOptimizer, kOther, kParts };
constexpr const char* kPartNames[kParts] = {"gemm",      "attention", "layerNorm", "crossEntropy",
                                            "embedding", "gelu",      "optimizer", "other"};

using SecondsNow = double (*)();

inline double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// That this thread ran on a processor.
inline double ThreadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// A device that passes every operation on and notes how long it took. For devices whose operations run at once.
class TimedBackend final : public Backend {
 public:
  TimedBackend(Backend& device, SecondsNow now) : device_(device), now_(now) {}

  // Looking at the clock takes time itself, which shows where a step is tiny.
  void Watch(bool watch) { watches_ = watch; }
  // Seconds of each part since the last call.
  std::array<double, kParts> Take() { return std::exchange(seconds_, {}); }

  DeviceInfo Info() const override { return device_.Info(); }
  bool SupportsBF16() const override { return device_.SupportsBF16(); }
  size_t KeptActivationBytes() const override { return device_.KeptActivationBytes(); }
  size_t LogitBytes() const override { return device_.LogitBytes(); }
  WorkingMemory WorkingMemoryOf(const Gemm& op) const override { return device_.WorkingMemoryOf(op); }
  void* Allocate(size_t bytes) override { return device_.Allocate(bytes); }
  void Free(void* data) noexcept override { device_.Free(data); }
  void Upload(void* target, const void* source, size_t bytes) override { device_.Upload(target, source, bytes); }
  void Download(void* target, const void* source, size_t bytes) override { device_.Download(target, source, bytes); }
  void Synchronize() override { device_.Synchronize(); }
  void Record(uint64_t, const std::function<void()>& enqueue) override { enqueue(); }

  void Zero(void* data, size_t bytes) override {
    Time(kOther, [&] { device_.Zero(data, bytes); });
  }
  void Run(const EmbeddingForward& op) override { TimeRun(kEmbedding, op); }
  void Run(const EmbeddingBackward& op) override { TimeRun(kEmbedding, op); }
  void Run(const LayerNormForward& op) override { TimeRun(kLayerNorm, op); }
  void Run(const LayerNormBackward& op) override { TimeRun(kLayerNorm, op); }
  void Run(const Gemm& op) override { TimeRun(kGemm, op); }
  void Run(const AttentionForward& op) override { TimeRun(kAttention, op); }
  void Run(const AttentionBackward& op) override { TimeRun(kAttention, op); }
  void Run(const AttentionCached& op) override { TimeRun(kAttention, op); }
  void Run(const CrossEntropy& op) override { TimeRun(kCrossEntropy, op); }
  void Run(const AdamW& op) override { TimeRun(kOptimizer, op); }
  void Gelu(const Tensor& target, const Tensor& source) override {
    Time(kGelu, [&] { device_.Gelu(target, source); });
  }
  void Cast(const Tensor& target, const Tensor& source) override {
    Time(kOther, [&] { device_.Cast(target, source); });
  }
  void Round(const Tensor& target, const Tensor& source, const StochasticRounding& rounding) override {
    Time(kOther, [&] { device_.Round(target, source, rounding); });
  }
  void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) override {
    Time(kCrossEntropy, [&] { device_.ReduceLoss(losses, labels, totals); });
  }
  void GlobalNorm(const Tensor& grads, OptimizerScalars* scalars) override {
    Time(kOptimizer, [&] { device_.GlobalNorm(grads, scalars); });
  }

 private:
  template <typename Work>
  void Time(Part part, const Work& work) {
    if (!watches_) return work();
    const double begin = now_();
    work();
    seconds_[part] += now_() - begin;
  }
  template <typename Op>
  void TimeRun(Part part, const Op& op) {
    Time(part, [&] { device_.Run(op); });
  }

  Backend& device_;
  const SecondsNow now_;
  bool watches_ = true;
  std::array<double, kParts> seconds_ = {};
};

}  // namespace kotodama::bench
