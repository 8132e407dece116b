// Tile registers in software: the intrinsics of AMX that the kernels use, as the Intel 64 manual (volume 2) defines
// their instructions, for processors without them. Include it before the kernels. All tiles have 16 rows of 64 bytes.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kotodama::test {
namespace {

constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;

struct TileRegisters {
  bool configured;
  alignas(64) char rows[kTiles][kRows][kRowBytes];
};
thread_local TileRegisters registers;

// Where the processor would raise an exception.
inline void Require(bool condition, const char* expected) {
  if (condition) return;
  std::fprintf(stderr, "tile registers: expected %s\n", expected);
  std::abort();
}

inline char (&TileAt(int tile))[kRows][kRowBytes] {
  Require(registers.configured, "LDTILECFG before any use");
  return registers.rows[tile];
}

// LDTILECFG
inline void ConfigureTiles(const void* memory) {
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
  } given;
  static_assert(sizeof(given) == 64, "as the instruction reads it");
  std::memcpy(&given, memory, sizeof(given));
  Require(given.palette == 1 && given.start_row == 0, "palette 1, from row 0");
  for (uint8_t byte : given.reserved) Require(byte == 0, "zeros in reserved bytes");
  for (int i = 0; i < 16; ++i) {
    const bool exists = i < kTiles;
    Require(given.bytes_per_row[i] == (exists ? kRowBytes : 0) && given.rows[i] == (exists ? kRows : 0),
            "eight tiles of 16 rows by 64 bytes");
  }
  registers = {};
  registers.configured = true;
}

// TILERELEASE
inline void ReleaseTiles() {
  registers = {};
}

// TILEZERO
inline void ZeroTile(int tile) {
  std::memset(TileAt(tile), 0, kRows * kRowBytes);
}

// TILELOADD; `stride` is in bytes.
inline void LoadTile(int tile, const void* memory, int64_t stride) {
  const char* source = static_cast<const char*>(memory);
  for (char(&row)[kRowBytes] : TileAt(tile)) {
    std::memcpy(row, source, kRowBytes);
    source += stride;
  }
}

// TILESTORED
inline void StoreTile(int tile, void* memory, int64_t stride) {
  char* target = static_cast<char*>(memory);
  for (const char(&row)[kRowBytes] : TileAt(tile)) {
    std::memcpy(target, row, kRowBytes);
    target += stride;
  }
}

// Zeros of the same sign for subnormal numbers.
inline __m512 Flushed(__m512 x) {
  constexpr int kSubnormal = 0x20;
  return _mm512_mask_and_ps(x, _mm512_fpclass_ps_mask(x, kSubnormal), x, _mm512_set1_ps(-0.0f));
}

// The first and the second of each pair of bfloat16.
inline __m512 FirstOf(__m512i pairs) {
  return Flushed(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)));
}
inline __m512 SecondOf(__m512i pairs) {
  return Flushed(_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000)))));
}

// TDPBF16PS: in each element of the result, the firsts of all pairs are summed apart from the seconds. Every sum is
// rounded to the nearest even number and flushed, as every number read is.
inline void MultiplyTiles(int sums, int a, int b) {
  Require(sums != a && sums != b && a != b, "three tiles");
  __m512 first_of_b[kRows], second_of_b[kRows];
  for (int k = 0; k < kRows; ++k) {
    const __m512i pairs = _mm512_load_si512(TileAt(b)[k]);
    first_of_b[k] = FirstOf(pairs);
    second_of_b[k] = SecondOf(pairs);
  }
  for (int row = 0; row < kRows; ++row) {
    __m512 first = _mm512_setzero_ps(), second = _mm512_setzero_ps();
    for (int k = 0; k < kRows; ++k) {
      int pair;
      std::memcpy(&pair, TileAt(a)[row] + 4 * k, sizeof(pair));
      const __m512i pairs = _mm512_set1_epi32(pair);
      first = Flushed(_mm512_fmadd_ps(FirstOf(pairs), first_of_b[k], first));
      second = Flushed(_mm512_fmadd_ps(SecondOf(pairs), second_of_b[k], second));
    }
    char* const target = TileAt(sums)[row];
    const __m512 before = Flushed(_mm512_load_ps(target));
    _mm512_store_ps(target, Flushed(_mm512_add_ps(before, Flushed(_mm512_add_ps(first, second)))));
  }
}

}  // namespace
}  // namespace kotodama::test

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig ::kotodama::test::ConfigureTiles
#define _tile_release ::kotodama::test::ReleaseTiles
#define _tile_zero ::kotodama::test::ZeroTile
#define _tile_loadd ::kotodama::test::LoadTile
#define _tile_stored ::kotodama::test::StoreTile
#define _tile_dpbf16ps ::kotodama::test::MultiplyTiles
