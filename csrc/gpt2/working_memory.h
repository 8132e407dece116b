#pragma once

#include <cstddef>

#include "gpt2/activations.h"
#include "gpt2/network.h"
#include "gpt2/parameters.h"

namespace kotodama {

// Bytes that the network's device takes for one training batch of this shape beside all tensors: room for its
// operations to work in, and packed copies of the weights that one batch reads several times. With several batches to a
// step it may keep more copies, where there is memory for them.
size_t WorkingMemoryOf(const Network& network, const ParameterTable& table, BatchShape shape, Keep keep);

}  // namespace kotodama
