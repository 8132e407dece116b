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

// Past the caches with `kStream`, where `p` is a multiple of the size of the vector and n is kWidth.
template <bool kStream, typename E>
inline void StoreTo(E* p, F32 value, int n) {
#ifdef KOTODAMA_STREAMS
  if (kStream) {
    Stream(p, value);
    return;
  }
#endif
  StorePartial(p, value, n);
}

// Mirrors kotodama::Epilogue, whose header must not be compiled here; gemm_vectors.cc asserts that the numbers agree.
constexpr int kPlainTile = 0, kGeluTile = 1, kGeluBackwardTile = 2;

// Rows first ... end of a tile.
template <int kEpilogue, bool kStream, typename C, typename Aux>
void FinishRows(const float* tile, int tile_stride, int first, int end, int columns, const TileOutput& to) {
  for (int r = first; r < end; ++r) {
    const float* from = tile + r * tile_stride;
    const float* partial = to.add_partial ? to.partial + r * to.partial_stride : nullptr;
    C* c = static_cast<C*>(to.c.data) + r * to.c_stride;
    Aux* aux = to.aux.data == nullptr ? nullptr : static_cast<Aux*>(to.aux.data) + r * to.aux_stride;
    ForVectors(columns, [&](int64_t j, int n) {
      F32 value = LoadPartial(from + j, n);
      if (partial != nullptr) value = value + LoadPartial(partial + j, n);
      if (to.bias != nullptr) value = value + LoadPartial(to.bias + j, n);
      if (kEpilogue == kGeluTile) {
        if (aux != nullptr) StoreTo<kStream>(aux + j, value, n);
        value = GeluOf(Rounded(value, static_cast<Aux*>(nullptr)));
      } else if (kEpilogue == kGeluBackwardTile) {
        value = value * GeluSlopeOf(LoadPartial(aux + j, n));
      }
      StoreTo<kStream>(c + j, value, n);
    });
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
