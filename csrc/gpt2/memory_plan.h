#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "gpt2/activations.h"

namespace kotodama {

// Bytes of device memory that training takes.
struct MemoryPlan {
  size_t parameters = 0;  // fp32 masters, and the bf16 copy of the matrices in bf16 precision
  size_t gradients = 0;
  size_t moments = 0;
  Keep keep = Keep::kLess;
  size_t activations = 0;  // of one micro-step, and what the device works in
  size_t working = 0;      // the latter alone
  size_t total = 0;
  size_t free = 0;  // on the device now, beside what the model holds already
};

// "6.1 GiB", "12 MiB", "512 bytes".
std::string FormatBytes(size_t bytes);

// "batch size 2, block size 8".
std::string Text(BatchShape shape);

// Throws Error(kMemory) when `needed` more bytes are not free: the numbers, what they are for, and what to do.
void RequireFree(size_t needed, size_t free, const std::string& purpose, const std::string& hint);

// The same for a result of `floats` in the host's memory, on top of what is copied there on its way. Writing it where
// too little is free would end the process. Call it once everything else is taken; small results are not checked.
void RequireRoomForResult(int64_t floats, const std::string& purpose);

}  // namespace kotodama
