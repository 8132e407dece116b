// The matrix product of AMX: tile registers of 16 rows by 64 bytes, and an instruction that multiplies two of them.
//
// Factors are packed into panels, whole units of K one after another; a unit is 32 elements of K, 2 KiB. (a may also be
// read where it is, if its rows are whole units: TilesOfA.)
//   a: two tiles, the panel's rows 0 to 15 and 16 to 31, 32 elements of each
//   b: 16 steps (pairs of K) of the panel's 32 columns
// What lies beyond the matrix is zero.
#pragma once

#include "cpu/kernels/gemm_finish-inl.h"

#ifdef __AMX_BF16__

namespace kotodama::cpu {
namespace {

constexpr int kPanel = 32;         // rows of a, columns of b
constexpr int kUnit = 32;          // elements of K
constexpr int kTileRegister = 16;  // rows
constexpr int64_t kUnitBytes = 2048;

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
  for (int64_t unit = 0; unit < units; ++unit, rows += kUnitBytes, columns += kUnitBytes) {
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

// What is done beside a product, some rows in each unit of K.
class Beside {
 public:
  Beside(const PendingTile* pending, const TileInput* soon, int64_t units) : pending_(pending), soon_(soon) {
    if (pending_ != nullptr) {
      finish_ = FinishOf(pending_->to);
      rows_ = pending_->rows;
      rows_of_unit_ = static_cast<int>((rows_ + units - 1) / units);
    }
    if (soon_ != nullptr) {
      soon_rows_ = soon_->count;
      soon_of_unit_ = static_cast<int>((soon_rows_ + units - 1) / units);
    }
  }

  void Work() {
    if (row_ < rows_) {
      const int end = row_ + rows_of_unit_ < rows_ ? row_ + rows_of_unit_ : rows_;
      finish_(pending_->sums, kPanel, row_, end, pending_->columns, pending_->to);
      row_ = end;
    }
    for (int i = 0; i < soon_of_unit_ && soon_row_ < soon_rows_; ++i, ++soon_row_) {
      const char* row = soon_->rows + soon_row_ * soon_->row_stride;
      for (int byte = 0; byte < soon_->row_bytes; byte += 64) __builtin_prefetch(row + byte, 1);
      __builtin_prefetch(row + soon_->row_bytes - 1, 1);
    }
  }

 private:
  const PendingTile* pending_;
  const TileInput* soon_;
  FinishFunction finish_ = nullptr;
  int row_ = 0, rows_ = 0, rows_of_unit_ = 0;
  int soon_row_ = 0, soon_rows_ = 0, soon_of_unit_ = 0;
};

// to(kTiles x 16, 32) = from + a b over `units` of K, for kTiles tiles of 16 rows of a. Three of them read less from
// beyond the first-level cache than two: 5 KiB for six products, where two by two tiles take 4 KiB for four.
template <int kTiles>
inline void MultiplyTileRows(const TilesOfA& a, const char* b, int64_t units, const float* from, int64_t from_stride,
                             float* to, int64_t to_stride, Beside beside) {
  const int64_t from_bytes = from_stride * 4, to_bytes = to_stride * 4;
  const int64_t row_bytes = a.row_bytes;
  const char* rows0 = a.first[0];
  const char* rows1 = kTiles > 1 ? a.first[1] : nullptr;
  const char* rows2 = kTiles > 2 ? a.first[2] : nullptr;
  asm volatile("" ::: "memory");  // as in MultiplyPanels
  if (from == nullptr) {
    _tile_zero(0);
    _tile_zero(1);
    if (kTiles > 1) _tile_zero(2);
    if (kTiles > 1) _tile_zero(3);
    if (kTiles > 2) _tile_zero(4);
    if (kTiles > 2) _tile_zero(5);
  } else {
    const float* from1 = from + kTileRegister * from_stride;
    const float* from2 = from1 + kTileRegister * from_stride;
    _tile_loadd(0, from, from_bytes);
    _tile_loadd(1, from + kTileRegister, from_bytes);
    if (kTiles > 1) _tile_loadd(2, from1, from_bytes);
    if (kTiles > 1) _tile_loadd(3, from1 + kTileRegister, from_bytes);
    if (kTiles > 2) _tile_loadd(4, from2, from_bytes);
    if (kTiles > 2) _tile_loadd(5, from2 + kTileRegister, from_bytes);
  }
  const char* const end = b + units * kUnitBytes;
  for (int64_t at = 0; b < end; b += kUnitBytes, at += a.unit_bytes) {
    // There is no register for each tile of a: the first two are loaded again, from the first-level cache.
    _tile_loadd(6, b, 128);
    _tile_loadd(7, rows0 + at, row_bytes);
    _tile_dpbf16ps(0, 7, 6);
    if (kTiles > 1) {
      _tile_loadd(7, rows1 + at, row_bytes);
      _tile_dpbf16ps(2, 7, 6);
    }
    if (kTiles > 2) {
      _tile_loadd(7, rows2 + at, row_bytes);
      _tile_dpbf16ps(4, 7, 6);
    }
    beside.Work();
    _tile_loadd(6, b + 64, 128);
    if (kTiles > 2) {
      _tile_dpbf16ps(5, 7, 6);
      _tile_loadd(7, rows1 + at, row_bytes);
    }
    if (kTiles > 1) {
      _tile_dpbf16ps(3, 7, 6);
      _tile_loadd(7, rows0 + at, row_bytes);
    }
    _tile_dpbf16ps(1, 7, 6);
  }
  float* to1 = to + kTileRegister * to_stride;
  float* to2 = to1 + kTileRegister * to_stride;
  _tile_stored(0, to, to_bytes);
  _tile_stored(1, to + kTileRegister, to_bytes);
  if (kTiles > 1) _tile_stored(2, to1, to_bytes);
  if (kTiles > 1) _tile_stored(3, to1 + kTileRegister, to_bytes);
  if (kTiles > 2) _tile_stored(4, to2, to_bytes);
  if (kTiles > 2) _tile_stored(5, to2 + kTileRegister, to_bytes);
}

void MultiplyRows(const TilesOfA& a, int tiles, const char* b, int64_t units, const float* from, int64_t from_stride,
                  float* to, int64_t to_stride, const PendingTile* pending, const TileInput* soon) {
  const Beside beside(pending, soon, units);
  switch (tiles) {
    case 1:
      return MultiplyTileRows<1>(a, b, units, from, from_stride, to, to_stride, beside);
    case 2:
      return MultiplyTileRows<2>(a, b, units, from, from_stride, to, to_stride, beside);
    default:
      return MultiplyTileRows<3>(a, b, units, from, from_stride, to, to_stride, beside);
  }
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

// The unit at step `at` of K of a panel of `count` rows or columns. `along_k`: the elements of one lie side by side
// along K, `source` is (count, K); else (K, count).
template <void (*kAlong)(Block, char*), void (*kAcross)(Block, char*)>
inline void PackUnit(const BF16* source, int64_t ld, bool along_k, int64_t k, int64_t at, int64_t count,
                     BF16 (&copy)[32 * 32], char* out) {
  if (along_k) {
    kAlong(BlockAt(source + at, ld, count, k - at, copy), out);
  } else {
    kAcross(BlockAt(source + at * ld, ld, k - at, count, copy), out);
  }
}

// One panel.
template <void (*kAlong)(Block, char*), void (*kAcross)(Block, char*)>
void PackPanel(const void* source, int64_t ld, bool along_k, int64_t k, int64_t count, void* out) {
  BF16 copy[32 * 32];
  for (int64_t at = 0; at < k; at += kUnit) {
    PackUnit<kAlong, kAcross>(static_cast<const BF16*>(source), ld, along_k, k, at, count, copy,
                              static_cast<char*>(out) + at / kUnit * kUnitBytes);
  }
}

// All panels of `count` rows or columns, `stride` bytes apart. Where rows of the source cross them, all panels take
// their parts of 32 rows before the next: those lie side by side, which the processor's own prefetching follows.
template <void (*kAlong)(Block, char*), void (*kAcross)(Block, char*)>
void PackPanels(const void* source, int64_t ld, bool along_k, int64_t k, int64_t count, void* out, int64_t stride) {
  const BF16* data = static_cast<const BF16*>(source);
  char* target = static_cast<char*>(out);
  if (along_k) {
    for (int64_t i = 0; i < count; i += kPanel, target += stride) {
      PackPanel<kAlong, kAcross>(data + i * ld, ld, along_k, k, count - i, target);
    }
    return;
  }
  BF16 copy[32 * 32];
  for (int64_t at = 0; at < k; at += kUnit, target += kUnitBytes) {
    char* panel = target;
    for (int64_t i = 0; i < count; i += kPanel, panel += stride) {
      PackUnit<kAlong, kAcross>(data + i, ld, along_k, k, at, count - i, copy, panel);
    }
  }
}

// sums[j] = the sum over K of column j of a packed panel of b.
void PanelColumnSums(const void* panel, int64_t units, float* sums) {
  const char* data = static_cast<const char*>(panel);
  F32 even[2] = {Set(0.0f), Set(0.0f)}, odd[2] = {Set(0.0f), Set(0.0f)};
  for (int64_t step = 0; step < units * 16; ++step, data += 128) {
    for (int half = 0; half < 2; ++half) {
      even[half] = even[half] + FirstOfPairs(data + half * 64);
      odd[half] = odd[half] + SecondOfPairs(data + half * 64);
    }
  }
  for (int half = 0; half < 2; ++half) Store(sums + half * 16, even[half] + odd[half]);
}

constexpr TileRegisterKernels MakeTileRegisterKernels() {
  return {kPanel,
          kUnit,
          kUnitBytes,
          StartTiles,
          StopTiles,
          MultiplyRows,
          PackPanels<UnitOfA, UnitOfTransposedA>,
          PackPanels<UnitOfTransposedB, UnitOfB>,
          PanelColumnSums};
}

}  // namespace
}  // namespace kotodama::cpu

#endif
