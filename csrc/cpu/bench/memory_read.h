#pragma once

#include <cstdint>

namespace kotodama::bench {

// Reads `bytes` (a multiple of 1024) once, as fast as memory gives them; returns something that depends on all of them.
uint64_t ReadAll(const void* data, int64_t bytes);

}  // namespace kotodama::bench
