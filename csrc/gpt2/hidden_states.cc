#include <vector>

#include "gpt2/device_buffer.h"
#include "gpt2/model.h"

namespace kotodama {

void Model::HiddenStates(const int32_t* ids, BatchShape shape, float* states) {
  CheckBatch(ids, nullptr, shape);
  Backend& backend = *network_.backend;
  Activations activations = Prepare(ids, nullptr, shape, false);
  const int64_t size = shape.rows() * config().n_embd;
  const size_t bytes = static_cast<size_t>(size) * sizeof(float);
  RequireFree(static_cast<size_t>(config().n_layer + 1) * bytes, backend.Info().free_bytes,
              "keeping the hidden states of this batch", "use a smaller batch or block");

  // What enters the blocks goes through one place where nobody asks for it; here each block has its own.
  std::vector<DeviceBuffer> kept;  // each (N, C) F32
  for (LayerActivations& layer : activations.layers) {
    kept.emplace_back(backend, bytes);
    layer.sum_1.data = kept.back().data();
  }
  RunForward(network_, activations, false);
  kept.emplace_back(backend, bytes);
  backend.Cast(Tensor(kept.back().data(), DType::kF32, {size}), activations.normed);

  RequireRoomForResult((config().n_layer + 1) * size, "hiddenStates with " + Text(shape));
  for (const DeviceBuffer& state : kept) {
    backend.Download(states, state.data(), bytes);
    states += size;
  }
}

}  // namespace kotodama
