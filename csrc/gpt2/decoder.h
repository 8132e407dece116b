#pragma once

#include <cstdint>
#include <vector>

#include "gpt2/activations.h"
#include "gpt2/device_buffer.h"
#include "gpt2/model.h"

namespace kotodama {

// Generates: keeps the keys and values of what B sequences hold so far. All memory is taken at the start. The model
// must outlive it.
class Decoder {
 public:
  // Up to `capacity` positions, at most n_positions. Error(kMemory) when the cache does not fit beside what the device
  // works in. `int8`: positions that
  // come one at a time after others are computed with matrices of eight bits (Backend::Quantize), as long as there are
  // no more sequences than the device multiplies so; Error(kOptions) where it cannot at all.
  Decoder(Model& model, int64_t batch_size, int64_t capacity, bool int8 = false);

  int64_t batch_size() const { return batch_size_; }
  int64_t length() const { return length_; }
  size_t held_bytes() const { return memory_.bytes(); }

  // Appends `count` ids, (B, n) row-major; logits of the last position, (B, V).
  void Append(const int32_t* ids, size_t count, float* logits);
  // Forgets all positions after the first `length` ones.
  void Reset(int64_t length = 0) { length_ = length; }

 private:
  size_t LayOut(void* base);
  size_t WorkingBytes();
  void RefreshInt8();
  void RunPositions(const Network& network, const std::vector<int32_t>& ids, int64_t n, bool last);

  Model& model_;
  int64_t batch_size_, capacity_;
  bool int8_;
  int64_t length_ = 0;
  int64_t chunk_;  // positions run at once; a long prompt takes several rounds
  DeviceBuffer memory_;
  Network int8_network_;  // with `int8`: the model's with matrices of eight bits, of the weights of its weight_version

  std::vector<Tensor> keys_, values_;   // per layer (B, H, capacity, D) X
  Tensor ids_;                          // (B, chunk) I32
  Tensor residual_;                     // (B chunk, C) F32
  Tensor normed_, attention_, branch_;  // (B chunk, C) X
  Tensor qkv_;                          // (B chunk, 3C) X
  Tensor gelu_, pre_gelu_;              // (B chunk, F) X
  Tensor last_;                         // (B, C) X, output of ln_f at the last position
  Tensor logits_;                       // (B, Vp) F32
};

}  // namespace kotodama
