// The matrix product of AMX: tile registers of 16 rows by 64 bytes, and an instruction that multiplies two of them.
//
// Both factors are packed into panels, whole units of K one after another; a unit is 32 elements of K, 2 KiB:
//   a: two tiles, the panel's rows 0 to 15 and 16 to 31, 32 elements of each
//   b: 16 steps (pairs of K) of the panel's 32 columns
// What lies beyond the matrix is zero.
#pragma once

#include "cpu/kernels/gemm_pack-inl.h"

#ifdef __AMX_BF16__

namespace kotodama::cpu {
namespace {

constexpr int kPanel = 32;         // rows of a, columns of b
constexpr int kUnit = 32;          // elements of K
constexpr int kTileRegister = 16;  // rows

// As LDTILECFG reads it (Intel 64 manual, volume 1, 18.3): eight tiles of 16 rows by 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void StartTiles() {
  // Not a local variable: GCC 12 believes that the instruction reads eight bytes, and would leave out the others.
  static constexpr TileConfiguration kConfiguration;
  _tile_loadconfig(&kConfiguration);
}

void StopTiles() {
  _tile_release();
}

// to(32, 32) = from + a b over `units` of K; from may be null for zeros. Strides in floats.
void MultiplyPanels(const void* a, const void* b, int64_t units, const float* from, int64_t from_stride, float* to,
                    int64_t to_stride) {
  const int64_t from_bytes = from_stride * 4, to_bytes = to_stride * 4;
  // GCC 12 does not know that the loads below read memory, and would move stores past them.
  asm volatile("" ::: "memory");
  if (from == nullptr) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, from, from_bytes);
    _tile_loadd(1, from + kTileRegister, from_bytes);
    _tile_loadd(2, from + kTileRegister * from_stride, from_bytes);
    _tile_loadd(3, from + kTileRegister * from_stride + kTileRegister, from_bytes);
  }
  const char* rows = static_cast<const char*>(a);
  const char* columns = static_cast<const char*>(b);
  for (int64_t unit = 0; unit < units; ++unit, rows += 2048, columns += 2048) {
    _tile_loadd(6, columns, 128);
    _tile_loadd(4, rows, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, columns + 64, 128);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, rows + 1024, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, to, to_bytes);
  _tile_stored(1, to + kTileRegister, to_bytes);
  _tile_stored(2, to + kTileRegister * to_stride, to_bytes);
  _tile_stored(3, to + kTileRegister * to_stride + kTileRegister, to_bytes);
}

// A block of 32 x 32 elements: the source itself, or a copy with zeros where the matrix ends.
struct Block {
  const BF16* data;
  int64_t ld;
};
inline Block BlockAt(const BF16* source, int64_t ld, int64_t rows, int64_t columns, BF16 (&copy)[32 * 32]) {
  if (rows >= 32 && columns >= 32) return {source, ld};
  __builtin_memset(copy, 0, sizeof(copy));
  const int64_t width = columns < 32 ? columns : 32;
  for (int64_t r = 0; r < 32 && r < rows; ++r) {
    __builtin_memcpy(copy + r * 32, source + r * ld, static_cast<unsigned long>(width) * sizeof(BF16));
  }
  return {copy, 32};
}

inline __m512i LoadRow32(const BF16* row) {
  return _mm512_loadu_si512(row);
}

inline F32 AsFloats(__m512i bits) {
  return {_mm512_castsi512_ps(bits)};
}

// Rows of a lie along K in memory.
inline void UnitOfA(Block block, char* out) {
  for (int r = 0; r < kPanel; ++r) _mm512_storeu_si512(out + r * 64, LoadRow32(block.data + r * block.ld));
}

// Rows of the block are steps of K: pairs of them are interleaved, then transposed as 4-byte units.
inline void UnitOfTransposedA(Block block, char* out) {
  F32 low[16], high[16];
  for (int pair = 0; pair < 16; ++pair) {
    const __m512i first = LoadRow32(block.data + 2 * pair * block.ld);
    const __m512i second = LoadRow32(block.data + (2 * pair + 1) * block.ld);
    low[pair] = AsFloats(_mm512_unpacklo_epi16(first, second));
    high[pair] = AsFloats(_mm512_unpackhi_epi16(first, second));
  }
  Transpose(low);
  Transpose(high);
  // The interleaving took four columns from every eighth on: that is where the rows belong.
  for (int i = 0; i < 16; ++i) {
    const int row = i / 4 * 8 + i % 4;
    _mm512_storeu_ps(out + row * 64, low[i].v);
    _mm512_storeu_ps(out + (row + 4) * 64, high[i].v);
  }
}

inline void UnitOfB(Block block, char* out) {
  const __m512i left = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                right = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  for (int pair = 0; pair < 16; ++pair) {
    const __m512i first = LoadRow32(block.data + 2 * pair * block.ld);
    const __m512i second = LoadRow32(block.data + (2 * pair + 1) * block.ld);
    const __m512i low = _mm512_unpacklo_epi16(first, second), high = _mm512_unpackhi_epi16(first, second);
    _mm512_storeu_si512(out + pair * 128, _mm512_permutex2var_epi64(low, left, high));
    _mm512_storeu_si512(out + pair * 128 + 64, _mm512_permutex2var_epi64(low, right, high));
  }
}

inline void UnitOfTransposedB(Block block, char* out) {
  for (int half = 0; half < 2; ++half) {
    F32 square[16];
    for (int i = 0; i < 16; ++i) square[i] = AsFloats(LoadRow32(block.data + (half * 16 + i) * block.ld));
    Transpose(square);
    for (int i = 0; i < 16; ++i) _mm512_storeu_ps(out + i * 128 + half * 64, square[i].v);
  }
}

// One panel. `along_k`: the elements of a row or column lie side by side along K, `source` is (count, K); else (K,
// count).
template <void (*kAlong)(Block, char*), void (*kAcross)(Block, char*)>
void PackPanel(const void* source, int64_t ld, bool along_k, int64_t k, int64_t count, void* out) {
  const BF16* data = static_cast<const BF16*>(source);
  char* target = static_cast<char*>(out);
  BF16 copy[32 * 32];
  for (int64_t at = 0; at < k; at += kUnit, target += 2048) {
    if (along_k) {
      kAlong(BlockAt(data + at, ld, count, k - at, copy), target);
    } else {
      kAcross(BlockAt(data + at * ld, ld, k - at, count, copy), target);
    }
  }
}

// sums[j] = the sum over K of column j of a packed panel of b.
void PanelColumnSums(const void* panel, int64_t units, float* sums) {
  const char* data = static_cast<const char*>(panel);
  F32 even[2] = {Set(0.0f), Set(0.0f)}, odd[2] = {Set(0.0f), Set(0.0f)};
  for (int64_t step = 0; step < units * 16; ++step, data += 128) {
    for (int half = 0; half < 2; ++half) {
      const __m512i pairs = _mm512_loadu_si512(data + half * 64);
      even[half] = even[half] + AsFloats(_mm512_slli_epi32(pairs, 16));
      odd[half] = odd[half] + AsFloats(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
    }
  }
  for (int half = 0; half < 2; ++half) Store(sums + half * 16, even[half] + odd[half]);
}

constexpr TileRegisterKernels MakeTileRegisterKernels() {
  return {kPanel,
          kUnit,
          2048,
          StartTiles,
          StopTiles,
          MultiplyPanels,
          PackPanel<UnitOfA, UnitOfTransposedA>,
          PackPanel<UnitOfTransposedB, UnitOfB>,
          PanelColumnSums};
}

}  // namespace
}  // namespace kotodama::cpu

#endif
