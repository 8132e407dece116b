#pragma once

#include "common.cuh"

namespace kotodama::kernels {

struct GemmTile {
  int m, n;
};

// Which tile of c a block computes: blocks that run together cover a few rows and columns of tiles, so that they
// share what is in the cache.
__device__ __forceinline__ GemmTile TileOfBlock(const GemmParams& p) {
  constexpr int kGroup = 8;
  const int block = blockIdx.x, per_group = kGroup * p.tiles_n;
  const int first = block / per_group * kGroup, rows = min(p.tiles_m - first, kGroup), rest = block % per_group;
  return {first + rest % rows, rest / rows};
}

}  // namespace kotodama::kernels
