#pragma once

#include "backend.h"
#include "cpu/kernels.h"
#include "cpu/packed_weights.h"
#include "cpu/scratch.h"
#include "cpu/thread_pool.h"

// The operations of backend.h: each file divides one kind of work among the threads and calls the kernels.

namespace kotodama::cpu {

// What every operation needs.
struct Engine {
  const Kernels& kernels;
  ThreadPool& pool;
  Scratch& scratch;
  PackedWeights& weights;
};

void Run(const Engine& engine, const kotodama::EmbeddingForward& op);
void Run(const Engine& engine, const kotodama::EmbeddingBackward& op);
void Run(const Engine& engine, const kotodama::LayerNormForward& op);
void Run(const Engine& engine, const kotodama::LayerNormBackward& op);
void Run(const Engine& engine, const kotodama::Gemm& op);
WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::Gemm& op);
WorkingMemory WorkingMemoryOf(const kotodama::LayerNormBackward& op);
WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::AttentionForward& op);
WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::AttentionBackward& op);
WorkingMemory WorkingMemoryOf(const Engine& engine, const kotodama::CrossEntropy& op);
void Run(const Engine& engine, const kotodama::AttentionForward& op);
void Run(const Engine& engine, const kotodama::AttentionBackward& op);
void Run(const Engine& engine, const kotodama::AttentionCached& op);
void Run(const Engine& engine, const kotodama::CrossEntropy& op);
void Run(const Engine& engine, const kotodama::AdamW& op);
void Gelu(const Engine& engine, const Tensor& target, const Tensor& source);
void Cast(const Engine& engine, const Tensor& target, const Tensor& source);
void Round(const Engine& engine, const Tensor& target, const Tensor& source, const StochasticRounding& rounding);
void Quantize(const Engine& engine, const Tensor& target, const Tensor& source, bool transpose_b);
void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals);
void GlobalNorm(const Engine& engine, const Tensor& grads, OptimizerScalars* scalars);
void Zero(const Engine& engine, void* data, size_t bytes);

// Memory of the engine's scratch.
inline WorkingMemory SharedFloats(int64_t count) {
  return {0, static_cast<size_t>(count) * sizeof(float)};
}

inline int64_t CeilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// `tensor` from element `index` on.
inline Row RowAt(const Tensor& tensor, int64_t index) {
  if (!tensor) return {nullptr, tensor.dtype == DType::kBF16};
  return {tensor.as<char>() + index * static_cast<int64_t>(SizeOf(tensor.dtype)), tensor.dtype == DType::kBF16};
}

inline float* FloatsAt(const Tensor& tensor, int64_t index) {
  return tensor ? tensor.as<float>() + index : nullptr;
}

DropoutFactors MakeDropout(const Dropout& dropout);

// Calls body(begin, end, worker) for pieces of [0, count) of a fixed size.
template <typename Body>
void ForRanges(ThreadPool& pool, int64_t count, int64_t piece, Body body) {
  pool.Run(CeilDivide(count, piece), [&](int64_t item, int worker) {
    const int64_t begin = item * piece, end = begin + piece < count ? begin + piece : count;
    body(begin, end, worker);
  });
}

}  // namespace kotodama::cpu
