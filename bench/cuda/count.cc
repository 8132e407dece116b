#include <cstdio>
#include <exception>

#include "arguments.h"
#include "cuda/cuda_backend.h"
#include "error.h"
#include "prepared.h"
#include "simulator.h"

// Runs every operation of a GPT-2 training step once on the simulated device and prints what its kernels did, as JSON:
//   KOTODAMA_CUDA_DRIVER=build/gpu-sim/libcuda-sim.so count --batch 16 > counts.json
// For a quick look, --sample 8 runs only 8 blocks of each row of a grid along x, which stand for the others.

namespace kotodama::bench {
namespace {

void PrintItem(const WorkItem& item, const std::string& counters, const std::vector<int32_t>& ids) {
  const Traffic fewest = FewestBytes(item.operation, ids);
  std::printf(
      "{\"name\":%s,\"description\":%s,\"perMicroStep\":%lld,\"perStep\":%lld,\"flops\":%lld,"
      "\"fewestRead\":%lld,\"fewestWritten\":%lld,\"counters\":%s}",
      Quoted(item.name).c_str(), Quoted(Describe(item.operation)).c_str(), static_cast<long long>(item.per_micro_step),
      static_cast<long long>(item.per_step), static_cast<long long>(Flops(item.operation)),
      static_cast<long long>(fewest.read), static_cast<long long>(fewest.written), counters.c_str());
}

void Count(const Arguments& arguments) {
  const std::unique_ptr<Backend> backend = MakeCudaBackend(0);
  const std::optional<Simulator> simulator = FindSimulator();
  if (!simulator) {
    throw Error(ErrorCode::kDevice, "only the simulator counts; set KOTODAMA_CUDA_DRIVER to its library");
  }
  const Workload workload = RecordWorkload(arguments.config(), arguments.shape(), *backend);
  const std::vector<int32_t> ids = RandomIds(workload.shape.rows(), workload.config.vocab_size);
  std::printf(
      "{\"batch\":%lld,\"block\":%lld,\"layers\":%lld,\"heads\":%lld,\"width\":%lld,\"vocabulary\":%lld,"
      "\"parameters\":%lld,\"positionParameters\":%lld,\"operations\":[\n",
      static_cast<long long>(arguments.batch), static_cast<long long>(arguments.block),
      static_cast<long long>(arguments.layers), static_cast<long long>(arguments.heads),
      static_cast<long long>(arguments.width), static_cast<long long>(arguments.vocabulary),
      static_cast<long long>(workload.parameters), static_cast<long long>(workload.position_parameters));
  const char* separator = "";
  for (const WorkItem& item : workload.items) {
    if (arguments.step_only && item.per_micro_step + item.per_step == 0) continue;
    simulator->sample_blocks(BlocksAreAlike(item.operation) ? static_cast<uint32_t>(arguments.sample) : 0);
    Prepared prepared(*backend, item.operation, workload.config.vocab_size);
    simulator->reset_counters();
    prepared.Run();
    backend->Synchronize();
    std::printf("%s", separator);
    PrintItem(item, simulator->counters_json(), ids);
    separator = ",\n";
  }
  std::printf("\n]}\n");
}

}  // namespace
}  // namespace kotodama::bench

int main(int argc, char** argv) {
  try {
    kotodama::bench::Count(kotodama::bench::ParseArguments(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "count: %s\n", error.what());
    return 1;
  }
}
