// What a model takes of its device: planned, asked for and taken.

#include <algorithm>
#include <utility>

#include "error.h"
#include "gpt2/model.h"
#include "gpt2/working_memory.h"

namespace kotodama {
namespace {

// Of the device's memory, one part in so many stays free rather than to hold what backward can compute again: decoders,
// graphs and other programs need some, and a driver gives whole pages.
constexpr size_t kPartLeftFree = 16;

}  // namespace

MemoryPlan Model::Plan(BatchShape shape) const {
  CheckShape(shape);
  const size_t arena = static_cast<size_t>(table_.total) * sizeof(float);
  MemoryPlan plan;
  plan.parameters = arena;
  if (precision_ == Precision::kBF16) plan.parameters += static_cast<size_t>(table_.decayed) * SizeOf(DType::kBF16);
  plan.gradients = arena;
  plan.moments = 2 * arena;
  const DeviceInfo device = network_.backend->Info();
  plan.free = device.free_bytes;
  const size_t state = gradients_ ? 0 : plan.gradients + plan.moments;
  plan.working = WorkingBytes(shape);
  const size_t others = state + plan.working + device.total_bytes / kPartLeftFree;
  plan.keep = KeepFor(shape, plan.free > others ? plan.free - others : 0);
  plan.activations = TrainingBytes(shape, plan.keep) + plan.working;
  plan.total = plan.parameters + plan.gradients + plan.moments + plan.activations;
  return plan;
}

Keep Model::KeepFor(BatchShape shape, size_t spare) const {
  const auto kept = kept_.find({shape.b, shape.t});
  if (kept != kept_.end()) return kept->second;
  const size_t all = TrainingBytes(shape, Keep::kAll), less = TrainingBytes(shape, Keep::kLess);
  // Memory that was reserved for a larger batch is enough for this one: it does not grow to keep more.
  const size_t room = activations_.bytes() + (less <= activations_.bytes() ? 0 : spare);
  return all <= network_.backend->KeptActivationBytes() && all <= room ? Keep::kAll : Keep::kLess;
}

size_t Model::TrainingBytes(BatchShape shape, Keep keep) const {
  const size_t logits = network_.backend->LogitBytes();
  return LayOut(config(), network_.compute_type, logits, shape, true, keep, nullptr, nullptr);
}

size_t Model::WorkingBytes(BatchShape shape) const {
  const auto [entry, is_new] = working_bytes_.try_emplace({shape.b, shape.t}, 0);
  if (is_new) entry->second = WorkingMemoryOf(network_, table_, shape, Keep::kLess);
  return entry->second;
}

void Model::Reserve(BatchShape shape) {
  CheckShape(shape);
  // Every step comes here, and asking how much is free takes a while: not where all is there.
  const std::pair<int64_t, int64_t> key = {shape.b, shape.t};
  const auto kept = kept_.find(key);
  if (gradients_ && kept != kept_.end() && TrainingBytes(shape, kept->second) <= activations_.bytes()) return;
  const MemoryPlan plan = Plan(shape);
  const size_t state = gradients_ ? 0 : plan.gradients + plan.moments;
  const size_t own = plan.activations - plan.working;
  // What the device works in is there already as far as earlier batches needed it.
  const size_t working = plan.working - std::min(plan.working, worked_in_);
  const bool grows = own > activations_.bytes();
  const size_t activations = working + (grows ? own : 0);
  const size_t needed = state + activations, room = plan.free + (grows ? activations_.bytes() : 0);
  if (needed > room) {  // the hint is a search
    const size_t most = plan.free + activations_.bytes() + worked_in_;
    RequireFree(needed, room,
                "training with " + Text(shape) + " (activations " + FormatBytes(activations) +
                    ", gradients and moments " + FormatBytes(state) + ")",
                HintFor(shape, most > state ? most - state : 0));
  }
  const bool had_state = static_cast<bool>(gradients_);
  EnsureTrainingState();
  try {
    kept_[key] = EnsureTrainingActivations(shape, plan.keep);
  } catch (const Error&) {
    // The device had less than it said. What this call took goes back.
    if (!had_state) {
      for (DeviceBuffer* buffer : {&gradients_, &exp_avg_, &exp_avg_sq_}) *buffer = DeviceBuffer();
    }
    throw;
  }
}

std::string Model::HintFor(BatchShape shape, size_t free) const {
  int64_t most = 0;
  for (int64_t too_many = shape.b; too_many - most > 1;) {
    const int64_t middle = most + (too_many - most) / 2;
    const BatchShape smaller{middle, shape.t};
    const size_t needed = TrainingBytes(smaller, Keep::kLess) + WorkingMemoryOf(network_, table_, smaller, Keep::kLess);
    (needed <= free ? most : too_many) = middle;
  }
  if (most == 0) {
    const bool only_without_working = TrainingBytes({1, shape.t}, Keep::kLess) <= free;
    return "not even one block of " + std::to_string(shape.t) + " fits: use a smaller block size or model" +
           (only_without_working && network_.backend->Info().threads > 1 ? ", or fewer threads" : "");
  }
  return "batch size " + std::to_string(most) + " fits: use it with more gradient accumulation";
}

void Model::EnsureTrainingState() {
  if (gradients_) return;
  const size_t arena = static_cast<size_t>(table_.total) * sizeof(float);
  Backend& backend = *network_.backend;
  RequireFree(3 * arena, backend.Info().free_bytes, "the training state of this model (gradients and moments)",
              "use a smaller model");
  DeviceBuffer gradients(backend, arena), exp_avg(backend, arena), exp_avg_sq(backend, arena);
  gradients_ = std::move(gradients);
  exp_avg_ = std::move(exp_avg);
  exp_avg_sq_ = std::move(exp_avg_sq);
  gradient_views_ = ViewOf(table_, network_.config, gradients_.data(), DType::kF32, table_.total);
}

void Model::EnsureActivations(size_t bytes, BatchShape shape) {
  if (bytes <= activations_.bytes()) return;
  Backend& backend = *network_.backend;
  RequireFree(bytes, backend.Info().free_bytes + activations_.bytes(), "a batch (" + Text(shape) + ")",
              "try a smaller batch size or block size");
  // They hold addresses of the old memory.
  ForgetBatchRecordings();
  activations_ = DeviceBuffer();
  try {
    activations_ = DeviceBuffer(backend, bytes);
  } catch (const Error&) {
    kept_.clear();
    throw;
  }
}

Keep Model::EnsureTrainingActivations(BatchShape shape, Keep keep) {
  try {
    EnsureActivations(TrainingBytes(shape, keep), shape);
    return keep;
  } catch (const Error& error) {
    if (keep == Keep::kLess || error.code() != ErrorCode::kMemory) throw;
  }
  EnsureActivations(TrainingBytes(shape, Keep::kLess), shape);
  return Keep::kLess;
}

}  // namespace kotodama
