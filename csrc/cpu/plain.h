#pragma once

#include "backend.h"
#include "cpu/thread_pool.h"

// Every operation in plain scalar code.
namespace kotodama::cpu::plain {

void Run(ThreadPool& pool, const EmbeddingForward& op);
void Run(ThreadPool& pool, const EmbeddingBackward& op);
void Run(ThreadPool& pool, const LayerNormForward& op);
void Run(ThreadPool& pool, const LayerNormBackward& op);
void Run(ThreadPool& pool, const kotodama::Gemm& op);
void Run(ThreadPool& pool, const AttentionForward& op);
void Run(ThreadPool& pool, const AttentionBackward& op);
void Run(ThreadPool& pool, const AttentionCached& op);
void Run(ThreadPool& pool, const CrossEntropy& op);
void Run(ThreadPool& pool, const AdamW& op);
void Gelu(ThreadPool& pool, const Tensor& target, const Tensor& source);
void Cast(ThreadPool& pool, const Tensor& target, const Tensor& source);
void ReduceLoss(const Tensor& losses, const Tensor& labels, LossTotals* totals);
void GlobalNorm(ThreadPool& pool, const Tensor& grads, OptimizerScalars* scalars);

}  // namespace kotodama::cpu::plain
