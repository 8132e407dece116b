#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpt2/activations.h"
#include "operation.h"

namespace kotodama::bench {

// One kind of operation of a training step, and how often it occurs.
struct WorkItem {
  std::string name;
  Operation operation;
  int64_t per_micro_step = 0;
  int64_t per_step = 0;  // beside the micro-steps
};

// What GPT-2 asks of `device` in a bf16 micro-step that adds to the gradients of another one, and in an optimizer step.
// The list is the model's own: csrc/gpt2 runs on a recorder. After it come operations that this list lacks: dropout,
// and casts.
struct Workload {
  Config config;
  BatchShape shape;
  int64_t parameters = 0;           // as users count them, without padding
  int64_t position_parameters = 0;  // of these the learned positions
  std::vector<WorkItem> items;
};

// GPT-2 of the given sizes; the feed-forward layer is four times as wide as the others.
Config MakeConfig(int64_t layers, int64_t heads, int64_t width, int64_t vocabulary, int64_t positions);

Workload RecordWorkload(const Config& config, BatchShape shape, const Backend& device);

}  // namespace kotodama::bench
