#include "attention_bf16_backward.cuh"
#include "attention_bf16_forward.cuh"

// One kernel for each pass, width of head and whether there is dropout, whose random numbers would cost every run
// registers. A head of another size takes the next wider one.

using namespace kotodama::kernels;

#define KOTODAMA_ATTENTION(suffix, D, dropout)                                                                    \
  extern "C" __global__ void __launch_bounds__(128, 2) attention_forward_bf16_##suffix(const AttentionParams p) { \
    AttentionForwardBf16<D, dropout>(p);                                                                          \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(128, 2)                                                            \
      attention_backward_queries_bf16_##suffix(const AttentionParams p) {                                         \
    AttentionBackwardQueriesBf16<D, dropout>(p);                                                                  \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(128, 2)                                                            \
      attention_backward_keys_bf16_##suffix(const AttentionParams p) {                                            \
    AttentionBackwardKeysBf16<D, dropout>(p);                                                                     \
  }
#define KOTODAMA_ATTENTION_WIDTH(D) \
  KOTODAMA_ATTENTION(D, D, false)   \
  KOTODAMA_ATTENTION(D##_dropout, D, true)

KOTODAMA_ATTENTION_WIDTH(32)
KOTODAMA_ATTENTION_WIDTH(64)
KOTODAMA_ATTENTION_WIDTH(96)
KOTODAMA_ATTENTION_WIDTH(128)

#undef KOTODAMA_ATTENTION_WIDTH
#undef KOTODAMA_ATTENTION
