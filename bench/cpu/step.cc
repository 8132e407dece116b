// One training step (forward, backward, clipping, AdamW) without Node: how long it takes, and which operations take it.
//
//   cpu_step_bench [threads = 0] [fp32 | bf16] [batch = 4] [block = 64] [layers = 12] [width = 768] [heads = 12]
//                  [vocabulary = 50257] [seconds = 5]
//
// One thread is timed by the processor's time that it took, so that other processes' turns do not count; several by the
// wall clock.
// Prints one JSON object: the median step with the spread of all, and the medians of the parts of other steps in
// between, in seconds; the most memory that this process held, and what the model plans.

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/bench/median.h"
#include "cpu/cpu_backend.h"
#include "gpt2/model.h"
#include "timed_backend.h"

namespace kotodama::bench {
namespace {

int Main(int argc, char** argv) {
  const auto number = [&](int index, int64_t otherwise) { return argc > index ? std::atoll(argv[index]) : otherwise; };
  const int threads = static_cast<int>(number(1, 0));
  const bool bf16 = argc > 2 && std::string(argv[2]) == "bf16";
  const BatchShape shape{number(3, 4), number(4, 64)};
  Config config;
  config.n_layer = number(5, 12);
  config.n_embd = number(6, 768);
  config.n_head = number(7, 12);
  config.vocab_size = number(8, 50257);
  config.n_positions = shape.t;
  config.n_inner = 4 * config.n_embd;
  const double seconds = argc > 9 ? std::atof(argv[9]) : 5;

  const std::unique_ptr<Backend> device = MakeCpuBackend(threads);
  const SecondsNow now = threads == 1 ? ThreadSeconds : WallSeconds;
  TimedBackend backend(*device, now);
  Model model(config, bf16 ? Precision::kBF16 : Precision::kF32, 0, backend);
  std::vector<int32_t> ids(static_cast<size_t>(shape.rows())), labels(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(config.vocab_size));
    labels[i] = static_cast<int32_t>((i + 1) * 7919 % static_cast<size_t>(config.vocab_size));
  }
  StepOptions options;
  options.learning_rate = 1e-4;
  options.weight_decay = 0.1;
  options.max_grad_norm = 1;
  const auto step = [&] {
    model.ForwardBackward(ids.data(), labels.data(), shape);
    model.Step(options);
  };
  for (int i = 0; i < 2; ++i) step();  // takes all memory
  backend.Take();

  std::vector<double> steps, parts[kParts];
  const double begin = WallSeconds();
  while (steps.size() < 2 || WallSeconds() - begin < seconds) {
    backend.Watch(false);
    const double start = now();
    step();
    steps.push_back(now() - start);
    backend.Watch(true);
    step();
    const auto taken = backend.Take();
    for (int part = 0; part < kParts; ++part) parts[part].push_back(taken[part]);
  }
  const auto [least, most] = std::minmax_element(steps.begin(), steps.end());
  std::printf("{\"detail\": \"%s\", \"steps\": %zu, \"seconds\": %.6g, \"best\": %.6g, \"worst\": %.6g, \"parts\": {",
              backend.Info().detail.c_str(), steps.size(), Median(steps), *least, *most);
  for (int part = 0; part < kParts; ++part) {
    std::printf("%s\"%s\": %.6g", part > 0 ? ", " : "", kPartNames[part], Median(parts[part]));
  }
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("}, \"peakBytes\": %.0f, \"plannedBytes\": %.0f}\n", usage.ru_maxrss * 1024.0,
              static_cast<double>(model.Plan(shape).total));
  return 0;
}

}  // namespace
}  // namespace kotodama::bench

int main(int argc, char** argv) {
  return kotodama::bench::Main(argc, argv);
}
