#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "gpt2/activations.h"
#include "gpt2/network.h"
#include "gpt2/parameters.h"

namespace kotodama {

// Where tensors may be laid out for a `run` that only asks: nothing reads or writes there. (One without an address
// would count as none.)
inline void* AddressForAsking() {
  return reinterpret_cast<void*>(uintptr_t{1} << 20);
}

// Bytes that the device takes beside all tensors for the operations that `run` gives the backend it is called with.
// That one computes nothing.
size_t WorkingMemoryOf(const Backend& device, const std::function<void(Backend&)>& run);

// Bytes that the network's device takes for one training batch of this shape beside all tensors: room for its
// operations to work in, and packed copies of the weights that one batch reads several times. With several batches to a
// step it may keep more copies, where there is memory for them.
size_t WorkingMemoryOf(const Network& network, const ParameterTable& table, BatchShape shape, Keep keep);

}  // namespace kotodama
