#pragma once

#include "cpu/gemm.h"

namespace kotodama::cpu {

constexpr int64_t kVectorColumns = 16;  // a whole number of vectors
constexpr int64_t kPanelGap = 16;       // between packed panels, so that they do not fall on the same cache sets

// How gemm_vectors.cc cuts and multiplies.
struct VectorPlan {
  const kotodama::Gemm* op;
  const GemmKernels* kernels;
  LeadingDimensions ld;
  bool read_a_in_place, read_b_in_place;
  int64_t block_k;  // elements of K in a block
  int64_t blocks_k;
  int64_t parts;       // blocks of K that are items of their own; else 1
  bool needs_partial;  // C cannot hold the sums between blocks of K: an item keeps those of its rows
  int64_t strip;       // columns of a strip
  int64_t rows;        // rows of an item
  int64_t columns;     // columns of an item, of several strips or a part of one
  int64_t row_blocks, groups;
  int64_t rows_of_turn;  // of a shared strip; 0: strips are not shared
  bool only_strip;       // an item has one strip, and only that one reads its rows of a
  bool shares_a;         // the threads pack all of a together, once for each block of K, before the items of that block
  int64_t panels_of_a;   // of all rows of an item, or with only_strip of those that are packed at a time
  int64_t panel_of_a;    // floats from one of them to the next
  // Per worker, in floats.
  int64_t packed_b, packed_a, partial;
  // Memory that MultiplyWithVectors gives it.
  float* sums;       // (parts, M, N), where there are parts
  float* bias_sums;  // (parts, N), likewise
  float* shared_a;   // all panels of a, with shares_a
};

VectorPlan MakeVectorPlan(const Engine& engine, const kotodama::Gemm& op);

}  // namespace kotodama::cpu
