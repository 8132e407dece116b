#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>

#include "arguments.h"
#include "csrc/cuda/backend_impl.h"
#include "cuda/cuda_backend.h"
#include "error.h"
#include "gpt2/model.h"
#include "prepared.h"
#include "simulator.h"

// Times every operation of a GPT-2 training step and the step itself on a real GPU, with events. Each operation finds
// its operands in memory, not in the cache: a large buffer is written before it.
//   time [--batch 16 --repeats 20 --json]
// On the simulator there is nothing to time: --dry-run only goes through the motions and prints no times.

namespace kotodama::bench {
namespace {

constexpr size_t kFlushBytes = size_t{256} << 20;  // more than any cache of today's devices

struct Measured {
  double median = 0, fastest = 0;  // milliseconds
};

Measured Summarize(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const size_t n = times.size();
  return {n % 2 == 1 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2, times.front()};
}

// Absent in a dry run.
using Timing = std::optional<Measured>;

class Stopwatch {
 public:
  Stopwatch(cuda::CudaBackend& backend, const Arguments& arguments)
      : backend_(backend),
        repeats_(arguments.dry_run ? 1 : std::max<int64_t>(1, arguments.repeats)),
        dry_run_(arguments.dry_run),
        flush_bytes_(arguments.dry_run ? 256 : kFlushBytes),
        flush_(backend.Allocate(flush_bytes_)) {}
  ~Stopwatch() { backend_.Free(flush_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  // Writing the buffer takes the device longer than the host needs to enqueue the operation behind it, so the times
  // are those of the device alone.
  Timing Run(const std::function<void()>& enqueue) {
    std::vector<double> times;
    for (int64_t i = 0; i < repeats_ + kWarmUps; ++i) {
      backend_.Zero(flush_, flush_bytes_);
      const double time = backend_.Time(enqueue);
      if (i >= kWarmUps) times.push_back(time);
    }
    return dry_run_ ? Timing() : Timing(Summarize(times));
  }

 private:
  static constexpr int64_t kWarmUps = 3;  // the third also replays recordings

  cuda::CudaBackend& backend_;
  int64_t repeats_;
  bool dry_run_;
  size_t flush_bytes_;
  void* flush_;
};

struct Row {
  std::string name, description;
  int64_t per_micro_step = 0, per_step = 0, flops = 0, fewest_bytes = 0;
  Timing timing;
};

std::vector<Row> TimeOperations(cuda::CudaBackend& backend, const Workload& workload, Stopwatch& stopwatch) {
  const std::vector<int32_t> ids = RandomIds(workload.shape.rows(), workload.config.vocab_size);
  std::vector<Row> rows;
  for (const WorkItem& item : workload.items) {
    Prepared prepared(backend, item.operation, workload.config.vocab_size);
    const Traffic fewest = FewestBytes(item.operation, ids);
    rows.push_back({item.name, Describe(item.operation), item.per_micro_step, item.per_step, Flops(item.operation),
                    fewest.read + fewest.written, stopwatch.Run([&] { prepared.Run(); })});
  }
  return rows;
}

// A training step's arithmetic as MFU counts it: 6 for each parameter but the positions, and causal attention.
double ModelFlops(const Workload& workload) {
  const Config& config = workload.config;
  const double per_token = 6.0 * static_cast<double>(workload.parameters - workload.position_parameters) +
                           6.0 * static_cast<double>(config.n_layer * config.n_embd * workload.shape.t);
  return per_token * static_cast<double>(workload.shape.rows());
}

// The whole micro-step and step, as the Trainer asks for them: with uploads, the loss read, and replayed recordings.
std::vector<Row> TimeModel(cuda::CudaBackend& backend, const Workload& workload, Stopwatch& stopwatch) {
  Model model(workload.config, Precision::kBF16, 0, backend);
  const std::vector<int32_t> ids = RandomIds(workload.shape.rows(), workload.config.vocab_size);
  StepOptions options;
  options.learning_rate = 1e-4;
  options.max_grad_norm = 1;
  const auto micro_step = [&] { model.ForwardBackward(ids.data(), ids.data(), workload.shape); };
  const auto flops = static_cast<int64_t>(ModelFlops(workload));
  std::vector<Row> rows;
  rows.push_back({"micro-step", "ForwardBackward", 1, 0, flops, 0, stopwatch.Run(micro_step)});
  rows.push_back({"step with one micro-step", "ForwardBackward, Step", 1, 0, flops, 0, stopwatch.Run([&] {
                    micro_step();
                    model.Step(options);
                  })});
  return rows;
}

void PrintJson(const DeviceInfo& info, const Workload& workload, const std::vector<Row>& rows) {
  std::printf(
      "{\"device\":%s,\"detail\":%s,\"batch\":%lld,\"block\":%lld,\"layers\":%lld,\"modelFlops\":%.0f,"
      "\"operations\":[\n",
      Quoted(info.name).c_str(), Quoted(info.detail).c_str(), static_cast<long long>(workload.shape.b),
      static_cast<long long>(workload.shape.t), static_cast<long long>(workload.config.n_layer), ModelFlops(workload));
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    std::printf(
        "{\"name\":%s,\"description\":%s,\"perMicroStep\":%lld,\"perStep\":%lld,\"flops\":%lld,"
        "\"fewestBytes\":%lld",
        Quoted(row.name).c_str(), Quoted(row.description).c_str(), static_cast<long long>(row.per_micro_step),
        static_cast<long long>(row.per_step), static_cast<long long>(row.flops),
        static_cast<long long>(row.fewest_bytes));
    if (row.timing) {
      std::printf(",\"milliseconds\":%.6f,\"fastest\":%.6f", row.timing->median, row.timing->fastest);
    }
    std::printf("}%s\n", i + 1 < rows.size() ? "," : "");
  }
  std::printf("]}\n");
}

void PrintTable(const DeviceInfo& info, const Workload& workload, const std::vector<Row>& rows) {
  std::printf("%s, %s; batch %lld x %lld, %lld layers, bf16\n", info.name.c_str(), info.detail.c_str(),
              static_cast<long long>(workload.shape.b), static_cast<long long>(workload.shape.t),
              static_cast<long long>(workload.config.n_layer));
  std::printf("%-36s %6s %10s %10s %9s %9s\n", "", "times", "median ms", "fastest", "TFLOP/s", "GB/s");
  for (const Row& row : rows) {
    std::printf("%-36s %6lld", row.name.c_str(), static_cast<long long>(row.per_micro_step + row.per_step));
    if (row.timing) {
      const double seconds = row.timing->median / 1e3;
      std::printf(" %10.4f %10.4f %9.1f %9.0f\n", row.timing->median, row.timing->fastest,
                  static_cast<double>(row.flops) / seconds / 1e12,
                  static_cast<double>(row.fewest_bytes) / seconds / 1e9);
    } else {
      std::printf("  not timed\n");
    }
  }
}

void Time(const Arguments& arguments) {
  MakeCudaBackend(0);  // refuses what cannot be used, with a reason
  cuda::CudaBackend backend(0);
  if (FindSimulator() && !arguments.dry_run) {
    throw Error(ErrorCode::kDevice,
                "this is the simulator, which has no times: unset KOTODAMA_CUDA_DRIVER on a "
                "machine with a GPU, or try the program itself with --dry-run");
  }
  const Workload workload = RecordWorkload(arguments.config(), arguments.shape(), backend);
  Stopwatch stopwatch(backend, arguments);
  std::vector<Row> rows = TimeOperations(backend, workload, stopwatch);
  for (const Row& row : TimeModel(backend, workload, stopwatch)) rows.push_back(row);
  (arguments.json ? PrintJson : PrintTable)(backend.Info(), workload, rows);
}

}  // namespace
}  // namespace kotodama::bench

int main(int argc, char** argv) {
  try {
    kotodama::bench::Time(kotodama::bench::ParseArguments(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "time: %s\n", error.what());
    return 1;
  }
}
