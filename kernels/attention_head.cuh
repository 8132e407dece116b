#pragma once

#include "common.cuh"

namespace kotodama::kernels {

// Where this block's sequence and head lie.
struct Head {
  int64_t index;   // b * H + h
  int64_t stride;  // from one position to the next in qkv
  int64_t qkv;     // first element of the queries; keys and values follow C and 2C later
  int64_t out;     // first element in out and dout
  int c;

  __device__ __forceinline__ explicit Head(const AttentionParams& p) {
    const int b = blockIdx.x / p.h, h = blockIdx.x % p.h;
    c = p.h * p.d;
    index = blockIdx.x;
    stride = 3 * static_cast<int64_t>(c);
    qkv = b * p.t * stride + h * p.d;
    out = (static_cast<int64_t>(b) * p.t * p.h + h) * p.d;
  }
};

}  // namespace kotodama::kernels
