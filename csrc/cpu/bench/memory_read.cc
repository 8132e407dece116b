#include "memory_read.h"

namespace kotodama::bench {

uint64_t ReadAll(const void* data, int64_t bytes) {
  // Four places at once: one stream of the processor's prefetching does not fill the memory's queues.
  constexpr int kStreams = 4;
  typedef uint64_t Line __attribute__((vector_size(64)));
  const int64_t lines = bytes / kStreams / static_cast<int64_t>(sizeof(Line));
  const Line* from = static_cast<const Line*>(data);
  Line sum[kStreams] = {};
  for (int64_t i = 0; i < lines; ++i) {
    for (int s = 0; s < kStreams; ++s) {
      __builtin_prefetch(from + s * lines + i + 16);
      sum[s] ^= from[s * lines + i];
    }
  }
  const Line all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
  uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) bits ^= all[i];
  return bits;
}

}  // namespace kotodama::bench
