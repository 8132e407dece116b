// How finished tiles reach memory: sums of earlier blocks, bias, GELU and its derivative, rounding.
#pragma once

#include "cpu/kernels/gemm_pack-inl.h"

namespace kotodama::cpu {
namespace {

inline F32 LoadRow(Row row, int64_t index, int n) {
  if (row.bf16) return LoadPartial(static_cast<const BF16*>(row.data) + index, n);
  return LoadPartial(static_cast<const float*>(row.data) + index, n);
}

inline void StoreRow(Row row, int64_t index, F32 value, int n) {
  if (row.bf16) {
    StorePartial(static_cast<BF16*>(row.data) + index, value, n);
  } else {
    StorePartial(static_cast<float*>(row.data) + index, value, n);
  }
}

// What memory of this type would give back after a store.
inline F32 Rounded(F32 value, const float*) {
  return value;
}
inline F32 Rounded(F32 value, const BF16*) {
  return RoundToBF16(value);
}

// Past the caches with `kStream`, where `p` is a multiple of the size of both.
template <bool kStream, typename E>
inline void StoreTwoTo(E* p, F32 a, F32 b) {
#ifdef KOTODAMA_STREAMS
  if (kStream) return StreamTwo(p, a, b);
#endif
  StoreTwo(p, a, b);
}

// Mirrors kotodama::Epilogue, whose header must not be compiled here; gemm_vectors.cc asserts that the numbers agree.
constexpr int kPlainTile = 0, kGeluTile = 1, kGeluBackwardTile = 2;

// The result of n sums, from column j of a row on; partial, bias and aux are those of the row. At GELU also its input.
template <int kEpilogue, typename C, typename Aux>
inline F32 FinishedOf(F32 sum, const float* partial, const float* bias, const Aux* aux, int64_t j, int n, F32* input) {
  F32 value = sum;
  if (partial != nullptr) value = value + LoadPartial(partial + j, n);
  if (bias != nullptr) value = value + LoadPartial(bias + j, n);
  if (kEpilogue == kGeluTile) {
    *input = value;
    value = GeluOf<C>(Rounded(value, static_cast<Aux*>(nullptr)));
  } else if (kEpilogue == kGeluBackwardTile) {
    value = value * GeluSlopeOf<C>(LoadPartial(aux + j, n));
  }
  return value;
}

// Rows first ... end of a tile. With kStream there are only whole pairs of vectors.
template <int kEpilogue, bool kStream, typename C, typename Aux>
void FinishRows(const float* tile, int tile_stride, int first, int end, int columns, const TileOutput& to) {
  // Not in the loop: the compiler cannot know that no store changes `to`.
  const float* from = tile + first * tile_stride;
  const float* bias = to.bias;
  const int64_t partial_stride = to.partial_stride, c_stride = to.c_stride, aux_stride = to.aux_stride;
  const float* partial = to.add_partial ? to.partial + first * partial_stride : nullptr;
  C* c = static_cast<C*>(to.c.data) + first * c_stride;
  Aux* aux = to.aux.data == nullptr ? nullptr : static_cast<Aux*>(to.aux.data) + first * aux_stride;
  for (int r = first; r < end; ++r) {
    int64_t j = 0;
    for (; j + 2 * kWidth <= columns; j += 2 * kWidth) {
      F32 value[2], input[2];
      for (int i = 0; i < 2; ++i) {
        const int64_t at = j + i * kWidth;
        value[i] = FinishedOf<kEpilogue, C>(Load(from + at), partial, bias, aux, at, kWidth, &input[i]);
      }
      if (kEpilogue == kGeluTile && aux != nullptr) StoreTwoTo<kStream>(aux + j, input[0], input[1]);
      StoreTwoTo<kStream>(c + j, value[0], value[1]);
    }
    for (; !kStream && j < columns; j += kWidth) {
      const int n = columns - j < kWidth ? static_cast<int>(columns - j) : kWidth;
      F32 input;
      const F32 value = FinishedOf<kEpilogue, C>(LoadPartial(from + j, n), partial, bias, aux, j, n, &input);
      if (kEpilogue == kGeluTile && aux != nullptr) StorePartial(aux + j, input, n);
      StorePartial(c + j, value, n);
    }
    from += tile_stride;
    c += c_stride;
    if (partial != nullptr) partial += partial_stride;
    if (aux != nullptr) aux += aux_stride;
  }
}

using FinishFunction = void (*)(const float* tile, int tile_stride, int first, int end, int columns,
                                const TileOutput& to);

template <int kEpilogue, typename C, typename Aux>
FinishFunction FinishOfTypes([[maybe_unused]] const TileOutput& to) {
#ifdef KOTODAMA_STREAMS
  if (to.stream) return FinishRows<kEpilogue, true, C, Aux>;
#endif
  return FinishRows<kEpilogue, false, C, Aux>;
}

template <int kEpilogue, typename C>
FinishFunction FinishWithAux(const TileOutput& to) {
  return to.aux.bf16 ? FinishOfTypes<kEpilogue, C, BF16>(to) : FinishOfTypes<kEpilogue, C, float>(to);
}

template <typename C>
FinishFunction FinishWithC(const TileOutput& to) {
  if (to.epilogue == kGeluTile) return FinishWithAux<kGeluTile, C>(to);
  if (to.epilogue == kGeluBackwardTile) return FinishWithAux<kGeluBackwardTile, C>(to);
  return FinishOfTypes<kPlainTile, C, float>(to);
}

// For the last block of K.
inline FinishFunction FinishOf(const TileOutput& to) {
  return to.c.bf16 ? FinishWithC<BF16>(to) : FinishWithC<float>(to);
}

inline void FinishTile(const float* tile, int tile_stride, int rows, int columns, const TileOutput& to) {
  if (to.last) {
    FinishOf(to)(tile, tile_stride, 0, rows, columns, to);
    return;
  }
  for (int r = 0; r < rows; ++r) {
    float* partial = to.partial + r * to.partial_stride;
    ForVectors(columns, [&](int64_t j, int n) {
      F32 value = LoadPartial(tile + r * tile_stride + j, n);
      if (to.add_partial) value = value + LoadPartial(partial + j, n);
      StorePartial(partial + j, value, n);
    });
  }
}

}  // namespace
}  // namespace kotodama::cpu
