// Decoded memory operand.
#pragma once

#include "decoder.h"
#include "lanes.h"

namespace gpusim {

struct MemoryOp {
  Space space = Space::kGeneric;
  bool has_base = false;
  bool wide = true;  // 64-bit base register
  int base = 0;      // its place among the operands
  int64_t offset = 0;
  int data = 0;       // place of the first data operand
  int count = 1;      // elements of a vector
  int element = 4;    // bytes
  bool sign = false;  // loads: extend by sign
  uint8_t register_bytes[8] = {};
  uint32_t bytes() const { return static_cast<uint32_t>(count * element); }
};

/// Addresses of all lanes, in the operand's own space.
inline void lane_addresses(const Warp& w, const Instr& in, const MemoryOp& op, uint64_t* out) {
  if (!op.has_base) {
    for (int i = 0; i < kLanes; ++i) out[i] = static_cast<uint64_t>(op.offset);
  } else if (op.wide) {
    const uint64_t* b = src<uint64_t>(w, in.r[op.base]);
    for (int i = 0; i < kLanes; ++i) out[i] = b[i] + static_cast<uint64_t>(op.offset);
  } else {
    const uint32_t* b = src<uint32_t>(w, in.r[op.base]);
    for (int i = 0; i < kLanes; ++i) out[i] = static_cast<uint32_t>(b[i] + static_cast<uint32_t>(op.offset));
  }
}

/// Takes the state space modifier, or derives it from the operand. Fills in address parts; the base becomes operand
/// `base`.
void decode_address(Decoder& d, const Operand& o, Space space, MemoryOp* op);
Space take_space(Decoder& d);
/// The kernel may touch shared memory in pieces of this size.
void note_shared_access(Decoder& d, Space space, int element);

}  // namespace gpusim
