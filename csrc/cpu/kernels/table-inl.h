// The table of one instruction set's kernels.
#pragma once

#include "cpu/kernels/attention-inl.h"
#include "cpu/kernels/gemm_amx-inl.h"

namespace kotodama::cpu {
namespace {

template <typename Steps, int kRows, int kVectors>
constexpr GemmKernels MakeTileKernels() {
  static_assert(kRows <= kMostTileRows && kVectors * kWidth <= kMostTileColumns, "callers hold the sums of a tile");
  GemmKernels kernels = {};
  kernels.elements = Steps::kElements;
  kernels.tile_rows = kRows;
  kernels.tile_columns = kVectors * kWidth;
  kernels.tiles = Tiles<Steps>;
  kernels.pack_b = PackB<Steps, kVectors * kWidth>;
  kernels.panel_sums = PanelSums<Steps>;
  return kernels;
}

template <typename Steps>
constexpr GemmShapes MakeGemmKernels() {
  GemmShapes shapes = {};
  shapes.packed_a = MakeTileKernels<Steps, kTileRows, kTileVectors>();
  shapes.packed_a.pack_a = PackA<Steps, kTileRows>;
  shapes.a_in_place = MakeTileKernels<Steps, kWideTileRows, kWideTileVectors>();
  return shapes;
}

constexpr Kernels MakeKernels() {
  Kernels kernels = {};
  kernels.f32 = MakeGemmKernels<F32Steps>();
#ifdef KOTODAMA_BF16_DOT
  kernels.bf16 = MakeGemmKernels<PairSteps>();
#else
  kernels.bf16 = MakeGemmKernels<F32Steps>();
#endif
#ifdef __AMX_BF16__
  kernels.tile_registers = MakeTileRegisterKernels();
#endif
#ifdef KOTODAMA_STREAMS
  kernels.streams = true;
#endif
  kernels.finish_tile = FinishTile;
  kernels.skinny_rows = SkinnyRows;
  kernels.skinny_dots = SkinnyDots;
  kernels.layernorm_forward = LayerNormForwardRows;
  kernels.layernorm_backward = LayerNormBackwardRows;
  kernels.attention_scratch = AttentionScratch;
  kernels.attention_forward = AttentionForward;
  kernels.attention_backward = AttentionBackward;
  kernels.attention_cached = AttentionCached;
  kernels.cross_entropy = CrossEntropyRow;
  kernels.adamw = AdamWElements;
  kernels.sum_of_squares = SumOfSquares;
  kernels.gelu = GeluElements;
  kernels.cast = CastElements;
  kernels.round = RoundElements;
  kernels.add = AddElements;
  kernels.sum_of_two = SumOfTwo;
  kernels.dropout = DropoutElements;
  kernels.exp2 = Exp2Elements;
  return kernels;
}

}  // namespace
}  // namespace kotodama::cpu
