#include "gpt2/memory_plan.h"

#include <cstdio>

#include "error.h"
#include "host_memory.h"

namespace kotodama {

std::string FormatBytes(size_t bytes) {
  char text[32];
  if (bytes >= size_t{1} << 30) {
    std::snprintf(text, sizeof(text), "%.1f GiB", static_cast<double>(bytes) / (1 << 30));
  } else if (bytes >= size_t{1} << 20) {
    std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  } else {
    std::snprintf(text, sizeof(text), "%zu bytes", bytes);
  }
  return text;
}

std::string Text(BatchShape shape) {
  return "batch size " + std::to_string(shape.b) + ", block size " + std::to_string(shape.t);
}

void RequireFree(size_t needed, size_t free, const std::string& purpose, const std::string& hint) {
  if (needed <= free) return;
  throw Error(ErrorCode::kMemory,
              purpose + " needs " + FormatBytes(needed) + ", " + FormatBytes(free) + " are free\n  hint: " + hint);
}

void RequireRoomForResult(int64_t floats, const std::string& purpose) {
  const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  if (bytes < size_t{4} << 20) return;
  RequireFree(bytes, ReadHostMemory().free, purpose, "use a smaller batch size or block size");
}

}  // namespace kotodama
