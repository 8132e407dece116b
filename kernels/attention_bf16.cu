#include "attention_bf16.cuh"

// One kernel for each pass and width of head; a head of another size takes the next wider one.

using namespace kotodama::kernels;

#define KOTODAMA_ATTENTION(D)                                                                                         \
  extern "C" __global__ void __launch_bounds__(128, 2) attention_forward_bf16_##D(const AttentionParams p) {          \
    AttentionForwardBf16<D>(p);                                                                                       \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_queries_bf16_##D(const AttentionParams p) { \
    AttentionBackwardQueriesBf16<D>(p);                                                                               \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_keys_bf16_##D(const AttentionParams p) {    \
    AttentionBackwardKeysBf16<D>(p);                                                                                  \
  }

KOTODAMA_ATTENTION(32)
KOTODAMA_ATTENTION(64)
KOTODAMA_ATTENTION(96)
KOTODAMA_ATTENTION(128)

#undef KOTODAMA_ATTENTION
