#pragma once

#include <cmath>
#include <cstdint>

#include "backend.h"

namespace kotodama::cpu {

struct PhiloxWords {
  uint32_t word[4];
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
inline PhiloxWords Philox(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter.word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// The factors that one Dropout puts on the elements: 0 or 1 / (1 - p).
class DropoutMask {
 public:
  explicit DropoutMask(const Dropout& dropout) : p_(dropout.p), site_(dropout.site) {
    if (p_ <= 0) return;
    seed_ = dropout.key->seed;
    micro_step_ = static_cast<uint32_t>(dropout.key->micro_step);
    threshold_ = static_cast<uint64_t>(static_cast<double>(p_) * 4294967296.0);
    scale_ = p_ < 1 ? 1.0f / (1.0f - p_) : 0.0f;
  }

  bool active() const { return p_ > 0; }

  // out[i] = factor of element first + i.
  void Factors(uint64_t first, int64_t count, float* out) const {
    PhiloxWords words = {};
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t index = first + static_cast<uint64_t>(i);
      if (i == 0 || index % 4 == 0) words = Words(index / 4);
      out[i] = words.word[index % 4] < threshold_ ? 0.0f : scale_;
    }
  }

 private:
  PhiloxWords Words(uint64_t block) const {
    return Philox({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), site_, micro_step_}},
                  static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32));
  }

  float p_;
  uint32_t site_;
  uint64_t seed_ = 0;
  uint32_t micro_step_ = 0;
  uint64_t threshold_ = 0;
  float scale_ = 1;
};

}  // namespace kotodama::cpu
