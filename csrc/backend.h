#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "error.h"
#include "tensor.h"

// The one interface between the model and a device. The model knows no device, a device knows no model.
//
// Operations are enqueued: they run in the order of the calls, and only Download and Synchronize wait for them. All
// shapes are given with the tensors. `X` below is the compute type: F32, or BF16 with F32 accumulation. Residual
// stream, LayerNorm parameters, biases, statistics, losses and gradients of parameters are F32 always. Every operation
// gives the same bits for the same inputs, run after run and for any number of threads.

namespace kotodama {

// ---- Values that change from step to step live in device memory, so that a recorded graph reads fresh ones. ----

// Chooses the dropout masks of one micro-step.
struct DropoutKey {
  uint64_t seed = 0;
  uint64_t micro_step = 0;
};

// The element with row-major index i is dropped when word i % 4 of
// Philox4x32-10(key = seed, counter = {i / 4 low, i / 4 high, site, micro_step low}) is below p * 2^32; the others are
// scaled by 1 / (1 - p). (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.) Backward computes the
// same mask again. p = 0 leaves the values untouched, bit for bit.
struct Dropout {
  float p = 0;
  uint32_t site = 0;                // distinct for every place in the model
  const DropoutKey* key = nullptr;  // device memory; may be null when p = 0
};

// Chooses how the bf16 copies of the parameters are rounded after one step. Devices read it as one.
struct alignas(16) RoundingKey {
  uint64_t seed = 0;
  uint64_t step = 0;
};

// Rounds an F32 number to one of its two neighbours in BF16, to the one further from zero with the probability that
// makes the mean the number itself (Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", section 3;
// `stochastic_rounding` of llm.c). Element i of the vector of all parameters becomes the upper half of its bits plus
// the lower half of word i % 4 of Philox4x32-10(key = seed, counter = {i / 4 low, i / 4 high, step low, step high}).
// What BF16 holds stays as it is; NaN stays NaN.
struct StochasticRounding {
  int64_t first = 0;                 // index of the tensor's first element, a multiple of 4
  const RoundingKey* key = nullptr;  // device memory; null: to nearest even instead
};

struct LossTotals {
  double sum = 0;     // of the losses in nats
  int64_t count = 0;  // of the labels that are not ignored
};

struct OptimizerScalars {
  float learning_rate = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  float correction1 = 0, correction2 = 0;  // 1 - beta1^t, 1 - beta2^t
  float gradient_scale = 0;                // 1 / labels counted since the last step: gradients accumulate as sums
  float max_grad_norm = 0;                 // 0: no clipping
  // Written by GlobalNorm.
  float grad_norm = 0;   // of gradient_scale * gradients
  float grad_clip = 0;   // what AdamW multiplies the accumulated gradients with
  uint32_t applied = 0;  // 0 when the norm is not finite: AdamW then changes nothing
};

constexpr int32_t kIgnoredLabel = -100;

// ---- Operations ----

// out[b, t] = dropout(wte[ids[b, t]] + wpe[position + t])
struct EmbeddingForward {
  Tensor ids;  // (B, T) I32
  Tensor wte;  // (V, C) F32
  Tensor wpe;  // (n_positions, C) F32
  Tensor out;  // (B, T, C) F32
  int64_t position = 0;
  Dropout dropout;
};

struct EmbeddingBackward {
  Tensor ids;   // (B, T) I32
  Tensor dout;  // (B, T, C) F32, before the dropout mask
  Tensor dwte;  // (V, C) F32, added to
  Tensor dwpe;  // (n_positions, C) F32, added to from row 0
  Dropout dropout;
};

// sum = x + dropout(addend); out = (sum - mean) * rstd * weight + bias, with mean and rstd over C.
struct LayerNormForward {
  Tensor x;             // (N, C) F32
  Tensor addend;        // (N, C) X, or none: then sum is x and `sum` is not written
  Tensor sum;           // (N, C) F32; may be x itself
  Tensor weight, bias;  // (C) F32
  Tensor out;           // (N, C) X
  Tensor mean, rstd;    // (N) F32, or none
  float eps = 1e-5f;    // added to the variance
  Dropout dropout;      // of the addend
};

// dx is the gradient of the residual stream: with `accumulate` it already holds what flows past this LayerNorm.
struct LayerNormBackward {
  Tensor dout;            // (N, C) X
  Tensor x;               // (N, C) F32, the `sum` of forward
  Tensor weight;          // (C) F32
  Tensor mean, rstd;      // (N) F32
  Tensor dx;              // (N, C) F32
  Tensor dweight, dbias;  // (C) F32
  bool accumulate_dx = true;
  bool accumulate = false;  // into dweight and dbias
  Tensor daddend;           // (N, C) X, or none: dropout mask * dx, for the branch that `addend` came from
  Dropout dropout;          // of the addend of the LayerNormForward whose sum was x
};

enum class Epilogue : uint8_t {
  kNone,
  kGelu,          // c = gelu(result), aux = result
  kGeluBackward,  // c = result * gelu'(aux)
};

// c = epilogue(op(a) op(b) + bias), or c += op(a) op(b) with `accumulate`; op(a) is (M, K), op(b) is (K, N).
// The tanh form of GELU (Hendrycks and Gimpel 2016, "gelu_new").
struct Gemm {
  bool transpose_a = false, transpose_b = false;
  int64_t m = 0, n = 0, k = 0;
  Tensor a, b;                        // X; stored (M, K) or (K, M), (K, N) or (N, K). b may come from Quantize, with up
                                      // to MostInt8Rows, no transpose_a and no bias_gradient
  Tensor c;                           // X or F32
  int64_t lda = 0, ldb = 0, ldc = 0;  // elements from row to row as stored, the last row too; 0: dense
  Tensor bias;                        // (N) F32, or none
  Epilogue epilogue = Epilogue::kNone;
  Tensor aux;               // (M, N) X, dense; with the GELU epilogues
  bool accumulate = false;  // needs kNone, no bias, and c F32
  Tensor bias_gradient;     // (N) F32, or none: the sums over K of op(b), added with `accumulate`, else written
  // Not 0: b is a parameter that keeps its bits as long as this number is the same, so a packed copy of it may be kept.
  uint64_t weight_version = 0;
  // With weight_version: these bits of b are read again, so that a packed copy is worth its memory from the first time.
  bool reused = false;
};

// Causal attention of the packed projection; scores are scaled by 1 / sqrt(D). T x T is never stored.
struct AttentionForward {
  int64_t b = 0, t = 0, h = 0, d = 0;
  Tensor qkv;       // (B, T, 3C) X
  Tensor out;       // (B, T, C) X
  Tensor lse;       // (B, H, T) F32: log of the sum of exp of the scaled scores
  Dropout dropout;  // of the probabilities; element index ((b H + h) T + query) T + key
};

struct AttentionBackward {
  int64_t b = 0, t = 0, h = 0, d = 0;
  Tensor qkv;   // (B, T, 3C) X
  Tensor out;   // (B, T, C) X
  Tensor lse;   // (B, H, T) F32
  Tensor dout;  // (B, T, C) X
  Tensor dqkv;  // (B, T, 3C) X, written
  Dropout dropout;
};

// Appends the keys and values of n new positions to a cache that holds `past`, then attends from the new positions.
struct AttentionCached {
  int64_t b = 0, n = 0, h = 0, d = 0, past = 0, capacity = 0;
  Tensor qkv;           // (B, n, 3C) X
  Tensor keys, values;  // (B, H, capacity, D) X
  Tensor out;           // (B, n, C) X
};

// losses[r] = logsumexp(logits[r]) - logits[r, labels[r]], 0 where the label is ignored. With `gradient`, logits become
// softmax - one_hot (0 in ignored rows and in the padding), not scaled.
struct CrossEntropy {
  Tensor logits;  // (R, Vp) X, in place
  Tensor labels;  // (R) I32
  Tensor losses;  // (R) F32
  int64_t v = 0;  // real vocabulary, at most Vp
  bool gradient = true;
};

struct AdamW {
  Tensor param, grad, exp_avg, exp_avg_sq;  // (n) F32
  Tensor compute;                           // (n) BF16 copy of param, or none
  StochasticRounding rounding;              // of the copy
  bool decay = true;
  const OptimizerScalars* scalars = nullptr;  // device memory
};

// Memory that an operation takes beside its tensors.
struct WorkingMemory {
  size_t kept = 0;    // by a product: for a packed copy of b, if `reused`
  size_t shared = 0;  // by all operations, one after another
};

struct DeviceInfo {
  std::string type;    // "cpu" or "cuda"
  std::string name;    // e.g. the processor's or the GPU's name
  std::string detail;  // e.g. "AVX-512, 2 threads" or "compute capability 8.0"
  size_t total_bytes = 0, free_bytes = 0;
  int threads = 0;  // of this process that compute, each in memory of its own; 0 where other processors do
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceInfo Info() const = 0;
  virtual bool SupportsBF16() const = 0;
  // With up to so many rows, Gemm takes a b that Quantize made. 0: there is no Quantize.
  virtual int64_t MostInt8Rows() const { return 0; }
  // FLOP/s of products of this type (kF32, kBF16) at the very best, measured now in about a millisecond; 0 where only
  // its maker knows.
  virtual double PeakFlops(DType) { return 0; }
  // Throws Error(kOptions) where the operations do not take rows of C elements.
  virtual void RequireWidth(int64_t c) const { static_cast<void>(c); }
  // Where all of a batch's memory, its logits too, is at most so much and there is plenty, what backward could compute
  // again is best kept.
  virtual size_t KeptActivationBytes() const { return 0; }
  // How large a chunk of logits the head, the loss and their backward pass are best given at a time.
  virtual size_t LogitBytes() const { return size_t{32} << 20; }

  // The operations that are not here take little or none. Reads shapes and types; a tensor needs no data.
  virtual WorkingMemory WorkingMemoryOf(const Gemm&) const { return {}; }
  virtual WorkingMemory WorkingMemoryOf(const EmbeddingBackward&) const { return {}; }
  virtual WorkingMemory WorkingMemoryOf(const LayerNormBackward&) const { return {}; }
  virtual WorkingMemory WorkingMemoryOf(const AttentionForward&) const { return {}; }
  virtual WorkingMemory WorkingMemoryOf(const AttentionBackward&) const { return {}; }
  virtual WorkingMemory WorkingMemoryOf(const CrossEntropy&) const { return {}; }

  // Memory comes zeroed and aligned to 256 bytes. Throws Error(kMemory) that names the bytes needed and free.
  virtual void* Allocate(size_t bytes) = 0;
  virtual void Free(void* data) noexcept = 0;
  // Returns once `source` may be reused; in order with the operations.
  virtual void Upload(void* target, const void* source, size_t bytes) = 0;
  // A hint: an Upload of these very bytes will follow. A device that copies while it computes may begin now, beside the
  // operations that are under way. Upload compares the bytes, so that a hint that proves wrong changes nothing.
  virtual void Prefetch(const void* source, size_t bytes) {
    static_cast<void>(source);
    static_cast<void>(bytes);
  }
  // Waits for all operations before it.
  virtual void Download(void* target, const void* source, size_t bytes) = 0;
  virtual void Zero(void* data, size_t bytes) = 0;
  virtual void Synchronize() = 0;

  // Runs `enqueue`, which must issue the same operations on the same tensors whenever `key` is the same. A device may
  // record them at the first call and replay the recording afterwards.
  virtual void Record(uint64_t key, const std::function<void()>& enqueue) = 0;
  // Gives back what Record keeps of a key that it will not be asked for again.
  virtual void Forget(uint64_t key) noexcept { static_cast<void>(key); }

  virtual void Run(const EmbeddingForward& op) = 0;
  virtual void Run(const EmbeddingBackward& op) = 0;
  virtual void Run(const LayerNormForward& op) = 0;
  virtual void Run(const LayerNormBackward& op) = 0;
  virtual void Run(const Gemm& op) = 0;
  virtual void Run(const AttentionForward& op) = 0;
  virtual void Run(const AttentionBackward& op) = 0;
  virtual void Run(const AttentionCached& op) = 0;
  virtual void Run(const CrossEntropy& op) = 0;
  virtual void Run(const AdamW& op) = 0;
  // target = gelu(source), both (n) X: recomputes what Epilogue::kGelu gave, bit for bit.
  virtual void Gelu(const Tensor& target, const Tensor& source) = 0;
  // Rounds to nearest even where it narrows.
  virtual void Cast(const Tensor& target, const Tensor& source) = 0;
  // The copy that AdamW would make of a parameter: source (n) F32, target (n) BF16. `rounding` has a key.
  virtual void Round(const Tensor& target, const Tensor& source, const StochasticRounding& rounding) = 0;
  // Eight bits for each weight of Gemm::b: source (rows, columns) F32 / scale, rounded to an integer of -127 to 127, in
  // `target`, I8, whose scale is written too: for every column of op(b) its largest magnitude / 127. Of numbers that
  // are not finite the scale is not finite. (Dettmers et al. 2022, "LLM.int8()", section 2.1, absmax quantization.)
  virtual void Quantize(const Tensor& target, const Tensor& source, bool transpose_b) {
    static_cast<void>(target), static_cast<void>(source), static_cast<void>(transpose_b);
    throw Error(ErrorCode::kDevice, "this device has no 8-bit weights");
  }
  // totals = sum of losses and number of labels that are not ignored; both (N).
  virtual void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals) = 0;
  // Fills grad_norm, grad_clip and applied; grads is (n) F32.
  virtual void GlobalNorm(const Tensor& grads, OptimizerScalars* scalars) = 0;
};

}  // namespace kotodama
