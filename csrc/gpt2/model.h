#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "backend.h"
#include "gpt2/activations.h"
#include "gpt2/config.h"
#include "gpt2/device_buffer.h"
#include "gpt2/memory_plan.h"
#include "gpt2/network.h"
#include "gpt2/parameters.h"

namespace kotodama {

enum class Precision : uint8_t { kF32, kBF16 };

// The weights that a model begins with; zeros for one whose weights are all about to be written.
enum class Start : uint8_t { kRandom, kZeros };

// How the bf16 copy of the matrices is made of their fp32 masters, in bf16 precision. Stochastic rounding is for bf16
// without masters, where small updates would else be lost; with masters they are not, and it adds noise (see
// StochasticRounding of backend.h).
enum class CopyRounding : uint8_t { kNearest, kStochastic };

enum class TensorKind : uint8_t { kParam, kGrad, kExpAvg, kExpAvgSq };

struct StepOptions {
  double learning_rate = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double max_grad_norm = 0;  // 0: no clipping
};

struct StepResult {
  double grad_norm = 0;
  bool applied = false;  // false when the norm is not finite: then nothing was changed
};

struct TrainStepResult {
  LossTotals loss;  // of the micro-step
  StepResult step;
  double update_seconds = 0;  // what Step took
};

// What the next micro-step will probably read; nothing by default. Only its bytes matter, and it is checked when it
// comes.
struct NextBatch {
  const int32_t* ids = nullptr;
  const int32_t* labels = nullptr;
  size_t count = 0;  // of ids, and of labels
};

// Restored on resume, so that bias correction and dropout masks go on where they stopped.
struct Counters {
  int64_t step = 0;        // optimizer steps applied
  int64_t micro_step = 0;  // ForwardBackward calls
};

// One GPT-2 on one device: weights, gradients, AdamW's moments, and the calls that use them. Not thread-safe. A call
// returns when its result is there; every failure is an Error. The backend must outlive the model.
class Model {
 public:
  // Takes the parameters' memory and sets their starting values. `seed` is theirs, that of dropout and that of
  // rounding. Error(kOptions) for stochastic rounding in fp32.
  Model(const Config& config, Precision precision, uint64_t seed, Backend& backend, Start start = Start::kRandom,
        CopyRounding rounding = CopyRounding::kNearest);

  const Config& config() const { return network_.config; }
  const ParameterTable& table() const { return table_; }
  const Network& network() const { return network_; }
  // FLOP/s that the device does at best in this model's precision; see Backend.
  double PeakFlops() const;
  // Device memory held now.
  size_t held_bytes() const;
  // What the device has taken so far, at least, for training's operations to work in.
  size_t worked_in() const { return worked_in_; }

  MemoryPlan Plan(BatchShape shape) const;
  // Takes all memory that training on batches of up to this shape needs. Error(kMemory) when it does not fit.
  void Reserve(BatchShape shape);

  // One micro-step. Gradients are added to those of earlier calls since the last step, as sums over labels.
  // ids and labels are (B, T); labels are already shifted, kIgnoredLabel where there is none. A device that can copies
  // `next` while it computes; another batch may come all the same.
  LossTotals ForwardBackward(const int32_t* ids, const int32_t* labels, BatchShape shape, const NextBatch& next = {});
  // AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW) on the gradients' mean over the labels counted since the
  // last step, clipped to a global norm. Decay on the 2-D tensors alone. The gradients are forgotten.
  StepResult Step(const StepOptions& options);
  // ForwardBackward and Step. Where the micro-step's loss is not finite, or no label was counted since the last step,
  // nothing is updated and the gradients are forgotten: applied is false, the norm NaN. Wrong options are an Error
  // before anything is computed.
  TrainStepResult TrainStep(const int32_t* ids, const int32_t* labels, BatchShape shape, const StepOptions& options,
                            const NextBatch& next = {});
  // The global norm that Step would find; may be called before it. Changes nothing.
  double GradientNorm();
  void ZeroGradients();
  // From now on Step leaves these parameters alone: no update, no decay, and their gradients are 0, also those from
  // before. Others that were frozen before are no longer. Error(kOptions) when a name is unknown or nothing is left to
  // train.
  void Freeze(const std::vector<std::string>& names);

  LossTotals Evaluate(const int32_t* ids, const int32_t* labels, BatchShape shape);
  // logits is (B, T, V).
  void Forward(const int32_t* ids, BatchShape shape, float* logits);
  // What each position of a layer attends to, without dropout: probabilities is (B, H, T, T), 0 above the diagonal.
  void Attention(const int32_t* ids, BatchShape shape, int64_t layer, float* probabilities);
  // The residual stream that enters each block and, last, the output of ln_f, without dropout: states is
  // (L + 1, B, T, C), as Transformers' `output_hidden_states`.
  void HiddenStates(const int32_t* ids, BatchShape shape, float* states);

  // `values` has the tensor's size. Gradients are means over the labels counted since the last step.
  void ReadTensor(TensorKind kind, const std::string& name, float* values);
  void WriteTensor(TensorKind kind, const std::string& name, const float* values, size_t count);

  Counters counters() const { return counters_; }
  void set_counters(const Counters& counters);

  // Makes the bf16 copy that stochastic rounding gives these weights after these steps, where it is not there: also of
  // a model that was put together from a checkpoint. Every pass calls it first.
  void RefreshCopy();

  // Throws Error(kOptions) when there is no such layer.
  void CheckLayer(int64_t layer) const;
  // Throws Error(kOptions) when batch or block size cannot be.
  void CheckShape(BatchShape shape) const;
  // Throws Error(kOptions) that names the first id outside the vocabulary and its place; rows have `columns` ids.
  void CheckIds(const int32_t* ids, size_t count, int64_t columns) const;

 private:
  // Values that operations read and write on the device.
  struct DeviceState {
    DropoutKey dropout;
    RoundingKey rounding;
    OptimizerScalars scalars;
    LossTotals totals;
  };
  // A part of the arenas.
  struct Span {
    int64_t first, count;
    bool decay;
  };
  enum class Pass : uint8_t { kTrain, kTrainAccumulate, kEvaluate, kForward, kNorm, kStep };

  DeviceState* state() const { return static_cast<DeviceState*>(state_.data()); }
  float* ArenaOf(TensorKind kind);
  // Whatever writes gradients calls it, so that frozen ones are 0 for everyone.
  void ZeroFrozen();
  void UploadRoundingKey(int64_t step);
  // How the copy of an arena's elements from `first` on is rounded.
  StochasticRounding RoundingFrom(int64_t first) const;
  // The elements of an arena and of its bf16 copy.
  Tensor PartOf(const DeviceBuffer& arena, const Span& span) const;
  Tensor CopyOf(const Span& span) const;
  void CheckBatch(const int32_t* ids, const int32_t* labels, BatchShape shape) const;
  // What of a training batch's activations is kept: everything where the backend likes that and `spare` more bytes hold
  // it, or the activations' memory does already.
  Keep KeepFor(BatchShape shape, size_t spare) const;
  // Bytes of the activations of a training batch.
  size_t TrainingBytes(BatchShape shape, Keep keep) const;
  size_t WorkingBytes(BatchShape shape) const;
  // What to do when a training batch of this shape needs more than `free` bytes: names the batch size that fits.
  std::string HintFor(BatchShape shape, size_t free) const;
  // Follows every change from outside, so that no copy of the old bits is used.
  void ParameterWritten(const Parameter& parameter);
  void RequireGradients(const std::string& call) const;
  void EnsureTrainingState();
  void EnsureActivations(size_t bytes, BatchShape shape);
  // Ensures those of a training batch. Gives what is kept: less than `keep` where the device has less than it said.
  Keep EnsureTrainingActivations(BatchShape shape, Keep keep);
  // Announces what the micro-step after the one that is under way will upload.
  void Prefetch(const NextBatch& next);
  Activations Prepare(const int32_t* ids, const int32_t* labels, BatchShape shape, bool training);
  uint64_t RecordKey(Pass pass, BatchShape shape);
  void ForgetRecording(Pass pass, BatchShape shape);
  // Those of all passes over batches; the optimizer's stay.
  void ForgetBatchRecordings();

  ParameterTable table_;
  Network network_;
  Precision precision_;
  CopyRounding rounding_;
  DropoutKey dropout_;
  Counters counters_;
  int64_t gradient_passes_ = 0;  // micro-steps and labels in the gradients
  int64_t gradient_labels_ = 0;
  std::vector<Span> trained_;  // what Step updates
  std::vector<Span> frozen_;   // the rest

  DeviceBuffer state_;
  DeviceBuffer parameters_;
  DeviceBuffer compute_;                           // bf16 copy of the decayed span, in bf16 precision
  bool copy_is_current_ = true;                    // with stochastic rounding
  DeviceBuffer gradients_, exp_avg_, exp_avg_sq_;  // taken by the first use
  Weights gradient_views_;
  DeviceBuffer activations_;
  mutable std::map<std::pair<int64_t, int64_t>, size_t> working_bytes_;  // of shapes that were asked for
  size_t worked_in_ = 0;                                                 // what the device took to work in so far
  // Of the shapes that were reserved: what is kept stays the same, whatever becomes free later. Empty after the
  // activations' memory was lost.
  std::map<std::pair<int64_t, int64_t>, Keep> kept_;
  std::map<std::tuple<Pass, int64_t, int64_t>, uint64_t> record_keys_;
  uint64_t next_record_key_ = 1;
};

}  // namespace kotodama
