#include "recorder.h"

#include <utility>

#include "error.h"

namespace kotodama::bench {

std::vector<Operation> Recorder::Take() {
  return std::exchange(operations_, {});
}

Recorder::Recorder(const Backend& like)
    : info_(like.Info()), kept_activation_bytes_(like.KeptActivationBytes()), logit_bytes_(like.LogitBytes()) {}

void* Recorder::Allocate(size_t bytes) {
  if (bytes > info_.free_bytes) {
    throw Error(ErrorCode::kMemory, "recorder: needs " + std::to_string(bytes) + " bytes, " +
                                        std::to_string(info_.free_bytes) + " would be free on the device");
  }
  void* data = reinterpret_cast<void*>(next_address_);
  next_address_ += (bytes + 511) / 256 * 256;
  info_.free_bytes -= bytes;
  allocations_[data] = bytes;
  return data;
}

void Recorder::Free(void* data) noexcept {
  const auto found = allocations_.find(data);
  if (found == allocations_.end()) return;
  info_.free_bytes += found->second;
  allocations_.erase(found);
}

void Recorder::Round(const Tensor&, const Tensor&, const StochasticRounding&) {
  throw Error(ErrorCode::kOptions, "recorder: copies are rounded at random by AdamW alone in a training step");
}

// The model asks how many labels there were: all of them.
void Recorder::Download(void* target, const void* source, size_t bytes) {
  if (source != totals_ || bytes != sizeof(LossTotals)) return;
  *static_cast<LossTotals*>(target) = {0, labels_};
}

void Recorder::Zero(void* data, size_t bytes) {
  Add(bench::Zero{Tensor(data, DType::kI32, {static_cast<int64_t>(bytes / 4)})});
}

void Recorder::Run(const AttentionCached&) {
  throw Error(ErrorCode::kOptions, "recorder: decoding is no part of a training step");
}

void Recorder::ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) {
  totals_ = totals;
  labels_ = labels.size();
  Add(bench::ReduceLoss{losses, labels});
}

}  // namespace kotodama::bench
