#pragma once

#include <cstdint>

#include "cpu/simd/element.h"

// What the compiled kernels of one instruction set offer. Kernels work on raw memory in one thread; the files beside
// this one divide an operation among threads. Nothing here has a body: code in a header would be compiled with the
// flags of every instruction set, and the linker would keep any one of them.

namespace kotodama::cpu {

// Which elements of an operation survive dropout, and their factor; made from kotodama::Dropout by MakeDropout.
struct DropoutFactors {
  bool active;
  uint32_t key[2];      // of Philox
  uint32_t site;        // third word of the counter
  uint32_t micro_step;  // fourth word
  uint64_t threshold;   // words below it drop the element
  float scale;          // of the others
};

// Memory of either type: a null pointer is none.
struct Row {
  void* data;
  bool bf16;
};

// How the results of register tiles side by side reach memory.
struct TileOutput {
  float* partial;  // f32 sums that earlier blocks of K left and later ones read
  int64_t partial_stride;
  bool add_partial;  // false: the first block of K
  bool last;         // the block of K after which `c` is written
  Row c;
  int64_t c_stride;
  const float* bias;  // of the first column, or null
  int epilogue;       // an Epilogue
  Row aux;
  int64_t aux_stride;
  // Past the caches where the kernels can (`streams`): the rows of c, and of aux where it is written, are whole cache
  // lines.
  bool stream;
};

// Where the sums of register tiles go from the registers, whole vectors of them.
struct TileTarget {
  Row rows;
  int64_t stride;     // elements
  bool add;           // to what is there; f32 only
  const float* bias;  // of the first column, or null
  bool far;           // not in the cache: asked for before a tile is computed
};

// Panels of `columns` columns of b, packed or where b is. Strides in 4-byte units.
struct PanelsOfB {
  const float* first;
  int64_t panel_stride, step_stride;
  int columns;
};

// A finished tile of 32 columns on its way to memory: it is written row by row while the next one is multiplied, so
// that the processor works on both and the memory takes the rows as they come.
struct PendingTile {
  const float* sums;
  int rows, columns;  // of them that are inside the matrix
  TileOutput to;
};

// What is in memory where a tile goes or is read with it, sums or GELU's input: asked for while the tile is multiplied.
struct TileInput {
  const char* rows;    // or null
  int64_t row_stride;  // bytes
  int count, row_bytes;
};

// Memory that will be needed soon. A tile asks for some lines of it at every few steps of its own work, so that they
// are in the cache when their turn comes; all at once they would only wait for each other.
struct Prefetch {
  const char* row;
  int64_t row_stride;  // bytes
  int64_t rows;        // left, this one included; 0: nothing to do
  int lines_per_row;
  int line;            // the next of this row
  int lines_per_turn;  // a turn is kStepsPerTurn steps of a tile
};
constexpr int kStepsPerTurn = 16;

// A row of register tiles: some rows of a by panels of b.
struct TileProduct {
  int64_t steps;
  const char* a;  // 4-byte units at a + row * row_stride + step * step_stride (bytes; one of the two is 4)
  int64_t row_stride, step_stride;
  PanelsOfB b;
  TileTarget to;
  Prefetch* soon;  // two regions to ask for meanwhile, or null
};
constexpr int kMostTileRows = 8, kMostTileColumns = 64;  // on any processor

// One matrix-product path: f32 by f32, or bfloat16 pairs. A "step" is what one instruction takes along K: one float, or
// a pair of bfloat16; 4 bytes either way.
struct GemmKernels {
  int elements;  // of K in a step: 1 or 2
  int tile_rows, tile_columns;
  // product.to of (rows, columns) takes a b, tile by tile; at most tile_rows rows. The last vector is computed and
  // written whole.
  void (*tiles)(const TileProduct& product, int rows, int64_t columns);
  // Panels of tile_columns, each step by step, with zeros behind the last column and in the missing half of a pair.
  // b is stored (N, K) if transposed, else (K, N). Strides of panels in 4-byte units.
  void (*pack_b)(Row b, int64_t ld, bool transposed, int64_t k, int64_t n, float* out, int64_t panel_stride);
  // The same for panels of tile_rows; a is stored (K, M) if transposed, else (M, K).
  void (*pack_a)(Row a, int64_t ld, bool transposed, int64_t k, int64_t m, float* out, int64_t panel_stride);
  // sums[j] += column j of b, over the steps of one panel, as `tiles` finds them.
  void (*panel_sums)(const float* panel, int64_t b_stride, int columns, int64_t steps, float* sums);
};

// One to three tiles of 16 rows of a, in a packed panel or where the matrix is.
struct TilesOfA {
  const char* first[3];
  int64_t row_bytes, unit_bytes;  // from row to row, and from one unit of K to the next
};

// The product of bfloat16 panels of 32 rows or columns, packed by units of 32 elements of K. All null where the
// processor has no tile registers.
struct TileRegisterKernels {
  int panel, unit;
  int64_t unit_bytes;
  // Around all other calls of one thread.
  void (*start)();
  void (*stop)();
  // to(tiles x 16, 32) = from + a b over `units` of K; `from` may be null for zeros. Strides in floats. Meanwhile
  // `pending` is written and `soon` is asked for; both may be null.
  void (*multiply)(const TilesOfA& a, int tiles, const char* b, int64_t units, const float* from, int64_t from_stride,
                   float* to, int64_t to_stride, const PendingTile* pending, const TileInput* soon);
  // Packs rows of a or columns of b into panels of 32, `stride` bytes apart. along_k: stored (count, K), else (K,
  // count).
  void (*pack_a)(const void* source, int64_t ld, bool along_k, int64_t k, int64_t count, void* out, int64_t stride);
  void (*pack_b)(const void* source, int64_t ld, bool along_k, int64_t k, int64_t count, void* out, int64_t stride);
  // sums[j] = the sum over K of column j of a packed panel of b.
  void (*column_sums)(const void* panel, int64_t units, float* sums);
};

// The factor that a product with few rows reads where it is; int8_t without its scale.
struct SkinnyFactor {
  const void* data;
  Element element;
  int64_t ld;  // elements from row to row
};

struct LayerNormRows {
  int64_t first, rows, c;  // `first` counts dropout elements; the pointers are those of the first row
  const float* x;
  Row addend;
  float* sum;
  const float* weight;
  const float* bias;
  Row out;
  float* mean;
  float* rstd;
  float eps;
  DropoutFactors dropout;
};

struct LayerNormGradientRows {
  int64_t first, rows, c;
  Row dout;
  const float* x;
  const float* weight;
  const float* mean;
  const float* rstd;
  float* dx;
  bool accumulate_dx;
  Row daddend;
  float* dweight;  // (c), written: the sums of these rows
  float* dbias;
  DropoutFactors dropout;
};

// One head of one sequence.
struct AttentionHead {
  int64_t t, d;
  int64_t first_query, queries;  // the rows of this piece
  Row qkv;                       // at this sequence and head: q; k and v follow at +c and +2c
  int64_t c;
  Row out;     // at this sequence and head, row stride c
  float* lse;  // (t) of this head
  Row dout;
  Row dqkv;
  int64_t first_element;  // dropout's index of (query 0, key 0)
  DropoutFactors dropout;
  float* scratch;  // attention_scratch() floats
};

struct AttentionCachedHead {
  int64_t n, d, past, c;
  Row qkv;           // at this sequence and head
  Row keys, values;  // of this sequence and head: (capacity, d)
  Row out;
  float* scores;  // (past + n), scratch like the next two
  float* q;       // (d)
  float* mix;     // (d)
};

struct AdamWRange {
  int64_t count;
  float* param;
  const float* grad;
  float* exp_avg;
  float* exp_avg_sq;
  BF16* compute;
  float beta1, beta2, eps, gradient_factor, step_size, second_scale, decay_factor;
};

// As StochasticRounding of csrc/backend.h.
struct RoundingFactors {
  uint32_t key[2];
  uint32_t step[2];
};

// The tiles for a that is packed, and for a that is read where it is; the latter have no pack_a.
struct GemmShapes {
  GemmKernels packed_a, a_in_place;
};

struct Kernels {
  GemmShapes f32;
  GemmShapes bf16;  // equals f32 where the processor cannot multiply bfloat16
  TileRegisterKernels tile_registers;
  bool streams;  // writes past the caches pay
  void (*finish_tile)(const float* tile, int tile_stride, int rows, int columns, const TileOutput& output);
  // For few rows of a. out(m, n) = a(m, k) b, b stored (K, N).
  void (*skinny_rows)(const float* a, int64_t m, int64_t lda, SkinnyFactor b, int64_t k, int64_t n, float* out);
  // out(m, n) = a(m, k) b^T, b stored (N, K): one dot product per row of b.
  void (*skinny_dots)(const float* a, int64_t m, int64_t lda, SkinnyFactor b, int64_t k, int64_t n, float* out,
                      int64_t ldo);

  void (*layernorm_forward)(const LayerNormRows& rows);
  void (*layernorm_backward)(const LayerNormGradientRows& rows);
  int64_t (*attention_scratch)(int64_t t, int64_t d, bool bf16, bool backward);  // floats
  void (*attention_forward)(const AttentionHead& head);
  void (*attention_backward)(const AttentionHead& head);
  void (*attention_cached)(const AttentionCachedHead& head);
  // Returns the loss; with `gradient` the row becomes softmax - one_hot, zeros from v to vp. `powers`: scratch, (v),
  // for bfloat16 logits with `gradient`.
  float (*cross_entropy)(Row logits, int64_t v, int64_t vp, int64_t label, bool gradient, float* powers);
  void (*adamw)(const AdamWRange& range);
  double (*sum_of_squares)(const float* x, int64_t count);
  void (*gelu)(Row target, Row source, int64_t count);
  void (*cast)(Row target, Row source, int64_t count);
  // Rounds the elements first ... first + count of all parameters, up or down at random; first is a multiple of 4.
  void (*round)(BF16* target, const float* source, int64_t first, int64_t count, const RoundingFactors& rounding);
  // target[i] += source[i]
  void (*add)(float* target, const float* source, int64_t count);
  void (*sum_of_two)(float* target, const float* a, const float* b, int64_t count);
  // target[i] = source[i] * factor of element first + i
  void (*dropout)(float* target, const float* source, int64_t first, int64_t count, const DropoutFactors& dropout);
  // 2^source[i], for at most a little above 0
  void (*exp2)(float* target, const float* source, int64_t count);
};

enum class Isa : int;
const Kernels& KernelsOf(Isa isa);

const Kernels& PortableKernels();
#ifdef __x86_64__
const Kernels& Avx2Kernels();
const Kernels& Avx512Kernels();
const Kernels& Avx512Bf16Kernels();
const Kernels& AmxKernels();
#endif

}  // namespace kotodama::cpu
