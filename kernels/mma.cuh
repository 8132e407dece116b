#pragma once

#include "common.cuh"

// The tensor-core instructions of compute capability 8.0 and the layouts they ask for (PTX ISA, "Matrix multiply-
// accumulate", "ldmatrix", "cp.async").

namespace kotodama::kernels {

// ---- Copies from global to shared memory that run beside the arithmetic ----

__device__ __forceinline__ uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// All copies go to `target` + `offset`, which costs no instruction.
template <int offset>
__device__ __forceinline__ void CopyAsync16(uint32_t target, const void* source) {
  asm volatile("cp.async.cg.shared.global [%0 + %2], [%1], 16;" ::"r"(target), "l"(source), "n"(offset) : "memory");
}
// Copies the first `bytes` of 16 and fills the rest with zeros.
template <int offset>
__device__ __forceinline__ void CopyAsync16(uint32_t target, const void* source, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0 + %3], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(bytes), "n"(offset)
               : "memory");
}
// Four bytes, or a zero.
__device__ __forceinline__ void CopyAsync4(uint32_t target, const void* source, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}
__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `pending` groups of this thread are still under way.
template <int pending>
__device__ __forceinline__ void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// `base` and `count` times `step` bytes: one instruction, where 64-bit addition takes two.
template <int count>
__device__ __forceinline__ const bf16* Advance(const bf16* base, uint32_t step) {
  const bf16* address;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(address) : "r"(step), "n"(count), "l"(base));
  return address;
}

// ---- Tiles in shared memory: rows of `chunks` pieces of 16 bytes, permuted so that eight rows' pieces of one column,
// which is what ldmatrix reads at once, lie in different banks. `chunks` is a multiple of four. Tiles begin at
// multiples of 128 bytes, where the banks begin anew. A larger alignment would cost memory: ptxas rounds what each
// kernel of the module declares up to the largest alignment of dynamic memory in any of them. ----

template <int chunks>
__device__ __forceinline__ int Swizzle(int row, int chunk) {
  static_assert(chunks % 4 == 0, "rows are multiples of 64 bytes");
  return chunks % 8 == 0 ? chunk ^ (row & 7) : chunk ^ ((row >> 1) & 3);
}
// In bytes from the tile's start.
template <int chunks>
__device__ __forceinline__ uint32_t SwizzledOffset(int row, int chunk) {
  return static_cast<uint32_t>((row * chunks + Swizzle<chunks>(row, chunk)) * 16);
}

// ---- Fragments. With g = lane / 4 and t = lane % 4, a lane of m16n8k16 holds
//   A (16, 16): rows g, g + 8, g, g + 8 at columns 2t, 2t, 2t + 8, 2t + 8, two neighbours each
//   B (16, 8):  column g, rows 2t and 2t + 8, two neighbours each
//   C (16, 8):  rows g, g, g + 8, g + 8 at columns 2t, 2t + 1, 2t, 2t + 1 ----

// From `address` + `offset`, which costs no instruction.
template <int offset>
__device__ __forceinline__ void LoadMatrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address), "n"(offset)
               : "memory");
}
template <int offset>
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address), "n"(offset)
               : "memory");
}

// c += a b
__device__ __forceinline__ void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c = a b
__device__ __forceinline__ void MmaFirst(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %10, %10, %10};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}

}  // namespace kotodama::kernels
