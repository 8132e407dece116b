// The random numbers of dropout and of rounding: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1,
// 2, 3", SC 2011).
#pragma once

#include "cpu/kernels.h"

namespace kotodama::cpu {
namespace {

constexpr int kPhiloxLanes = 16;

// Runs kPhiloxLanes counters at once; word w of counter i is counter[w][i]. Plain loops, which compilers vectorise.
inline void Philox(uint32_t (&counter)[4][kPhiloxLanes], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kPhiloxLanes; ++i) {
      const uint64_t product0 = uint64_t{0xD2511F53} * counter[0][i];
      const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2][i];
      counter[0][i] = static_cast<uint32_t>(product1 >> 32) ^ counter[1][i] ^ key0;
      counter[1][i] = static_cast<uint32_t>(product1);
      counter[2][i] = static_cast<uint32_t>(product0 >> 32) ^ counter[3][i] ^ key1;
      counter[3][i] = static_cast<uint32_t>(product0);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

// The factors of kPhiloxLanes * 4 elements from element 4 * block.
inline void DropoutBlock(const DropoutFactors& dropout, uint64_t block, float* out) {
  uint32_t words[4][kPhiloxLanes];
  for (int i = 0; i < kPhiloxLanes; ++i) {
    words[0][i] = static_cast<uint32_t>(block + i);
    words[1][i] = static_cast<uint32_t>((block + i) >> 32);
    words[2][i] = dropout.site;
    words[3][i] = dropout.micro_step;
  }
  Philox(words, dropout.key[0], dropout.key[1]);
  for (int i = 0; i < kPhiloxLanes; ++i) {
    for (int w = 0; w < 4; ++w) out[4 * i + w] = words[w][i] < dropout.threshold ? 0.0f : dropout.scale;
  }
}

// out[i] = factor of element first + i.
inline void FillDropout(const DropoutFactors& dropout, int64_t first, int64_t count, float* out) {
  float block[4 * kPhiloxLanes];
  for (int64_t done = 0; done < count;) {
    const int64_t index = first + done;
    const int skip = static_cast<int>(index % 4);
    const int64_t left = count - done;
    const int64_t taken = left < 4 * kPhiloxLanes - skip ? left : 4 * kPhiloxLanes - skip;
    DropoutBlock(dropout, static_cast<uint64_t>(index / 4), block);
    for (int64_t i = 0; i < taken; ++i) out[done + i] = block[skip + i];
    done += taken;
  }
}

}  // namespace
}  // namespace kotodama::cpu
