// Checked access to the state spaces, shared by loads, stores, atomics, cp.async and ldmatrix.
#pragma once

#include "warp.h"

namespace gpusim {

/// Which window generic addresses fall into, as masks of lanes.
struct Windows {
  Mask global, shared, local, param;
};
Windows classify(const uint64_t* addresses, Mask m);

/// Fails unless every active address is a multiple of `bytes`.
void check_alignment(const uint64_t* addresses, Mask m, uint32_t bytes);

/// Fails unless every lane's bytes lie in an allocation and, for a read, have been written. A write marks them written.
/// `row`: the lanes' pieces lie side by side. Addresses are host addresses afterwards and before.
void check_global(Warp& w, const uint64_t* addresses, Mask m, uint32_t bytes, bool row, bool is_write);
void count_global(Warp& w, const uint64_t* addresses, Mask m, uint32_t bytes, bool row, bool is_write);

/// Fails unless every lane's bytes lie in the block's shared memory. Races are left to the callers.
void check_shared_bounds(Warp& w, const uint64_t* offsets, Mask m, uint32_t bytes);
/// Bank conflicts: 32 banks of 4 bytes; accesses of 8 and 16 bytes go in 2 and 4 phases.
void count_shared(Warp& w, const Instr& in, const uint64_t* offsets, Mask m, uint32_t bytes, bool row, bool is_write);

/// Lane i's piece begins where lane i-1's ends, all 32 lanes.
bool is_row(const uint64_t* addresses, Mask m, uint32_t bytes);

}  // namespace gpusim
