// Every operation of GPT-2 124M, as a share of what the machine can do, and beside the products those of other
// libraries. Each repetition measures the peak right before and after the operation, in the same threads, and the
// rivals right behind it, so that other load on the machine hits all; printed are the medians.
//
//   cpu_ops_bench [threads = 1] [filter] [seconds per operation = 0.5] [json]
//
// With `json` every line is one object.

#ifdef __linux__
#include <sched.h>
#endif
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cpu/cpu_backend.h"
#include "cpu/kernels.h"
#include "cpu/machine.h"
#include "cpu/peak.h"
#include "cpu/thread_pool.h"
#include "median.h"
#include "memory_read.h"
#include "rivals.h"

namespace kotodama::bench {
namespace {

using Clock = std::chrono::steady_clock;

// libgomp's threads are bound to cores (OMP_PROC_BIND), the calling one to the first. Ours are not, and would inherit
// that core; and a calling thread that was moved to the core of another of libgomp's would stay there.
void UseAllCores() {
#ifdef __linux__
  cpu_set_t all;
  std::memset(&all, 0xff, sizeof(all));
  sched_setaffinity(0, sizeof(all), &all);
#endif
}
void UseFirstCore() {
#ifdef __linux__
  cpu_set_t all, first;
  if (sched_getaffinity(0, sizeof(all), &all) != 0) return;
  CPU_ZERO(&first);
  for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&first) == 0; ++core) {
    if (CPU_ISSET(core, &all)) CPU_SET(core, &first);
  }
  sched_setaffinity(0, sizeof(first), &first);
#endif
}

// The time of one thread that ran on a processor, so that other processes' turns do not count; with several threads the
// wall clock.
double Now(int threads) {
  if (threads > 1) return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + time.tv_nsec * 1e-9;
}

class Bench {
 public:
  Bench(int threads, std::string filter, double seconds, bool json)
      : isa_(cpu::ChooseIsa()),
        threads_(threads),
        filter_(std::move(filter)),
        seconds_(seconds),
        json_(json),
        backend_(MakeCpuBackend(threads)),
        pool_(threads) {}

  Backend& backend() { return *backend_; }
  bool Wanted(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  Tensor Make(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor tensor(nullptr, dtype, shape);
    tensor.data = backend_->Allocate(tensor.bytes());
    owned_.push_back(tensor.data);
    return tensor;
  }
  Tensor Random(DType dtype, std::initializer_list<int64_t> shape, float scale = 1) {
    const Tensor tensor = Make(dtype, shape);
    uint32_t state = 12345;
    for (int64_t i = 0; i < tensor.size(); ++i) {
      state = state * 1664525 + 1013904223;
      const float value = (static_cast<float>(state >> 8) / 8388608 - 1) * scale;
      uint32_t bits;
      __builtin_memcpy(&bits, &value, 4);
      if (dtype == DType::kF32) tensor.as<float>()[i] = value;
      if (dtype == DType::kBF16) tensor.as<uint16_t>()[i] = static_cast<uint16_t>(bits >> 16);
    }
    return tensor;
  }
  void FreeAll() {
    for (void* data : owned_) backend_->Free(data);
    owned_.clear();
  }

  // GFLOP/s.
  double PeakNow(bool bf16) { return cpu::PeakFlops(pool_, isa_, bf16 ? DType::kBF16 : DType::kF32, 1) * 1e-9; }

  // Bytes a second that all threads together read from memory, far more of it than any cache holds: the best of ten,
  // since other processes only ever take some of it.
  double ReadRate() {
    const Tensor data = Make(DType::kF32, {int64_t{1} << 28});
    const int64_t piece = static_cast<int64_t>(data.bytes()) / 64;
    std::vector<uint64_t> bits(64);
    double best = 0;
    for (int i = 0; i < 10; ++i) {
      const double start = Now(threads_);
      pool_.Run(64, [&](int64_t item, int) { bits[item] ^= ReadAll(data.as<char>() + item * piece, piece); });
      best = std::max(best, data.bytes() / (Now(threads_) - start));
    }
    FreeAll();
    for (uint64_t value : bits) {
      if (value != 0) std::fprintf(stderr, "memory that was zero is not\n");
    }
    return best;
  }

  // The threads of OpenBLAS (2^26 cycles) and libgomp spin for a while when their work is done, on the cores that the
  // next one to be timed needs.
  void WaitForIdleThreads() const {
    if (threads_ > 1) std::this_thread::sleep_for(std::chrono::milliseconds(60));
  }

  // flops: of one run, for the share of the arithmetic peak; bytes: of one run, for GB/s. Either may be 0.
  void Measure(const std::string& name, bool bf16, double flops, double bytes, const std::function<void()>& run,
               const std::vector<Rival>& rivals = {}) {
    run();
    for (const Rival& rival : rivals) rival.run();
    WaitForIdleThreads();
    std::vector<double> times, shares;
    std::vector<std::vector<double>> rival_times(rivals.size());
    const auto begin = Clock::now();
    while (times.size() < 5 || std::chrono::duration<double>(Clock::now() - begin).count() < seconds_) {
      const double before = PeakNow(bf16);
      times.push_back(TimeOf(run));
      const double after = PeakNow(bf16);
      if (flops > 0) shares.push_back(flops / times.back() * 1e-9 / ((before + after) / 2));
      for (size_t i = 0; i < rivals.size(); ++i) {
        UseFirstCore();
        rival_times[i].push_back(TimeOf(rivals[i].run));
        UseAllCores();
        WaitForIdleThreads();
      }
    }
    const double time = Median(times), best = *std::min_element(times.begin(), times.end());
    if (json_) {
      std::printf("{\"name\": \"%s\", \"seconds\": %.9g, \"best\": %.9g", name.c_str(), time, best);
      if (flops > 0) std::printf(", \"flops\": %.9g, \"share\": %.4g", flops, Median(shares));
      if (bytes > 0) std::printf(", \"bytes\": %.9g", bytes);
      std::printf(", \"rivals\": {");
      for (size_t i = 0; i < rivals.size(); ++i) {
        std::printf("%s\"%s\": %.9g", i > 0 ? ", " : "", rivals[i].name.c_str(), Median(rival_times[i]));
      }
      std::printf("}}\n");
    } else {
      std::printf("%-40s %9.3f ms (best %9.3f)", name.c_str(), time * 1e3, best * 1e3);
      if (flops > 0) std::printf("  %6.1f GFLOP/s  %5.1f %% of peak", flops / time * 1e-9, 100 * Median(shares));
      if (bytes > 0) std::printf("  %5.1f GB/s", bytes / time * 1e-9);
      for (size_t i = 0; i < rivals.size(); ++i) {
        std::printf("  %s %9.3f ms", rivals[i].name.c_str(), Median(rival_times[i]) * 1e3);
      }
      std::printf("\n");
    }
    std::fflush(stdout);
  }

  bool json() const { return json_; }
  int threads() const { return threads_; }

 private:
  // Several threads run for a while before: the first run finds them asleep.
  double TimeOf(const std::function<void()>& run) const {
    const auto begin = Clock::now();
    while (threads_ > 1 && Clock::now() - begin < std::chrono::milliseconds(20)) run();
    const double start = Now(threads_);
    run();
    return Now(threads_) - start;
  }

  const cpu::Isa isa_;
  const int threads_;
  const std::string filter_;
  const double seconds_;
  const bool json_;
  std::unique_ptr<Backend> backend_;
  cpu::ThreadPool pool_;
  std::vector<void*> owned_;
};

const char* NameOf(DType type) {
  switch (type) {
    case DType::kBF16:
      return "bf16";
    case DType::kI8:
      return "int8";
    default:
      return "f32";
  }
}

struct Product {
  const char* name;
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  Epilogue epilogue = Epilogue::kNone;
  bool f32_result = false;
};

// The products of a model c wide with a vocabulary of vp, padded; the head's for a chunk of tokens, as LogitRows of
// csrc/gpt2 cuts them.
void BenchGemms(Bench& bench, DType type, const std::string& label, int64_t tokens, int64_t c, int64_t vp) {
  const int64_t row_bytes = vp * static_cast<int64_t>(SizeOf(type));
  const int64_t rows = std::min(tokens, static_cast<int64_t>(bench.backend().LogitBytes()) / row_bytes / 64 * 64);
  const std::vector<Product> products = {
      {"fwd qkv", false, false, tokens, 3 * c, c},
      {"fwd attention out", false, false, tokens, c, c},
      {"fwd fc", false, false, tokens, 4 * c, c},
      {"fwd fc + gelu", false, false, tokens, 4 * c, c, Epilogue::kGelu},
      {"fwd mlp out", false, false, tokens, c, 4 * c},
      {"dX qkv", false, true, tokens, c, 3 * c},
      {"dX attention out", false, true, tokens, c, c},
      {"dX fc", false, true, tokens, c, 4 * c},
      {"dX mlp out", false, true, tokens, 4 * c, c},
      {"dX mlp out + gelu'", false, true, tokens, 4 * c, c, Epilogue::kGeluBackward},
      {"dW qkv", true, false, c, 3 * c, tokens, Epilogue::kNone, true},
      {"dW attention out", true, false, c, c, tokens, Epilogue::kNone, true},
      {"dW fc", true, false, c, 4 * c, tokens, Epilogue::kNone, true},
      {"dW mlp out", true, false, 4 * c, c, tokens, Epilogue::kNone, true},
      {"head fwd", false, true, rows, vp, c},
      {"head dX", false, false, rows, c, vp},
      {"head dW", true, false, vp, c, rows, Epilogue::kNone, true},
  };
  for (const Product& p : products) {
    const std::string name = std::string("gemm ") + NameOf(type) + " " + label + " " + p.name;
    if (!bench.Wanted(name)) continue;
    Gemm op;
    op.transpose_a = p.transpose_a;
    op.transpose_b = p.transpose_b;
    op.m = p.m, op.n = p.n, op.k = p.k;
    op.a = p.transpose_a ? bench.Random(type, {p.k, p.m}) : bench.Random(type, {p.m, p.k});
    // So that the results are about as large as the factors, as they are in a model.
    const float scale = 1.7f / std::sqrt(static_cast<float>(p.k));
    op.b = p.transpose_b ? bench.Random(type, {p.n, p.k}, scale) : bench.Random(type, {p.k, p.n}, scale);
    op.c = bench.Make(p.f32_result ? DType::kF32 : type, {p.m, p.n});
    op.epilogue = p.epilogue;
    if (p.epilogue != Epilogue::kNone) op.aux = bench.Random(type, {p.m, p.n});
    // The head's weights and their gradient are used once per chunk of rows.
    const bool head = std::strncmp(p.name, "head", 4) == 0;
    if (head && !p.f32_result) op.weight_version = 1;
    if (p.f32_result) {
      op.accumulate = head;
      if (!head) op.bias_gradient = bench.Make(DType::kF32, {p.n});
    } else if (!p.transpose_b) {
      op.bias = bench.Random(DType::kF32, {p.n});
    }
    // The others do not add the bias or its gradient in the same call, which costs ours little; GELU is another matter.
    bench.Measure(
        name, type == DType::kBF16, 2.0 * p.m * p.n * p.k, 0, [&] { bench.backend().Run(op); },
        p.epilogue == Epilogue::kNone ? RivalsOf(op, bench.threads()) : std::vector<Rival>());
    bench.FreeAll();
  }
}

void BenchAttention(Bench& bench, DType type, int64_t b, int64_t t) {
  const int64_t h = 12, d = 64, c = h * d;
  const std::string name =
      std::string("attention ") + NameOf(type) + " " + std::to_string(b) + " x " + std::to_string(t);
  if (!bench.Wanted(name)) return;
  AttentionForward forward;
  forward.b = b, forward.t = t, forward.h = h, forward.d = d;
  forward.qkv = bench.Random(type, {b, t, 3 * c});
  forward.out = bench.Make(type, {b, t, c});
  forward.lse = bench.Make(DType::kF32, {b, h, t});
  // Causality leaves t (t + 1) / 2 scores of a head.
  const double products = static_cast<double>(b) * h * t * (t + 1) / 2 * d * 2;
  bench.Measure(name + " forward", type == DType::kBF16, 2 * products, 0, [&] { bench.backend().Run(forward); });
  AttentionBackward backward;
  backward.b = b, backward.t = t, backward.h = h, backward.d = d;
  backward.qkv = forward.qkv;
  backward.out = forward.out;
  backward.lse = forward.lse;
  backward.dout = bench.Random(type, {b, t, c});
  backward.dqkv = bench.Make(type, {b, t, 3 * c});
  bench.Measure(name + " backward", type == DType::kBF16, 5 * products, 0, [&] { bench.backend().Run(backward); });
  bench.FreeAll();
}

void BenchRest(Bench& bench, DType type, int64_t tokens) {
  const int64_t c = 768, v = 50257, vp = 50304, rows = 256;
  const std::string suffix = std::string(" ") + NameOf(type) + " " + std::to_string(tokens);
  const double x_bytes = static_cast<double>(SizeOf(type)), elements = static_cast<double>(tokens) * c;
  if (bench.Wanted("layernorm" + suffix)) {
    LayerNormForward forward;
    forward.x = bench.Random(DType::kF32, {tokens, c});
    forward.addend = bench.Random(type, {tokens, c});
    forward.sum = bench.Make(DType::kF32, {tokens, c});
    forward.weight = bench.Random(DType::kF32, {c});
    forward.bias = bench.Random(DType::kF32, {c});
    forward.out = bench.Make(type, {tokens, c});
    forward.mean = bench.Make(DType::kF32, {tokens});
    forward.rstd = bench.Make(DType::kF32, {tokens});
    bench.Measure("layernorm" + suffix + " forward", false, 0, elements * (8 + 2 * x_bytes),
                  [&] { bench.backend().Run(forward); });
    LayerNormBackward backward;
    backward.dout = bench.Random(type, {tokens, c});
    backward.x = forward.sum;
    backward.weight = forward.weight;
    backward.mean = forward.mean;
    backward.rstd = forward.rstd;
    backward.dx = bench.Make(DType::kF32, {tokens, c});
    backward.dweight = bench.Make(DType::kF32, {c});
    backward.dbias = bench.Make(DType::kF32, {c});
    backward.daddend = bench.Make(type, {tokens, c});
    bench.Measure("layernorm" + suffix + " backward", false, 0, elements * (12 + 2 * x_bytes),
                  [&] { bench.backend().Run(backward); });
    bench.FreeAll();
  }
  if (bench.Wanted("cross entropy" + suffix)) {
    CrossEntropy op;
    op.logits = bench.Random(type, {rows, vp});
    op.labels = bench.Make(DType::kI32, {rows});
    op.losses = bench.Make(DType::kF32, {rows});
    op.v = v;
    bench.Measure("cross entropy" + suffix + " (256 rows)", false, 0, 2.0 * rows * vp * x_bytes,
                  [&] { bench.backend().Run(op); });
    bench.FreeAll();
  }
  if (bench.Wanted("embedding" + suffix)) {
    EmbeddingForward forward;
    forward.ids = bench.Make(DType::kI32, {1, tokens});
    for (int64_t i = 0; i < tokens; ++i) forward.ids.as<int32_t>()[i] = static_cast<int32_t>(i * 7919 % v);
    forward.wte = bench.Make(DType::kF32, {v, c});
    forward.wpe = bench.Make(DType::kF32, {tokens, c});
    forward.out = bench.Make(DType::kF32, {1, tokens, c});
    bench.Measure("embedding" + suffix + " forward", false, 0, elements * 12, [&] { bench.backend().Run(forward); });
    EmbeddingBackward backward;
    backward.ids = forward.ids;
    backward.dout = forward.out;
    backward.dwte = forward.wte;
    backward.dwpe = forward.wpe;
    bench.Measure("embedding" + suffix + " backward", false, 0, elements * 20, [&] { bench.backend().Run(backward); });
    bench.FreeAll();
  }
}

void BenchOptimizer(Bench& bench, bool with_copy) {
  const int64_t n = 124439808;
  const std::string name = with_copy ? "adamw 124M + bf16 copy" : "adamw 124M";
  if (!bench.Wanted(name)) return;
  AdamW op;
  op.param = bench.Make(DType::kF32, {n});
  op.grad = bench.Make(DType::kF32, {n});
  op.exp_avg = bench.Make(DType::kF32, {n});
  op.exp_avg_sq = bench.Make(DType::kF32, {n});
  if (with_copy) op.compute = bench.Make(DType::kBF16, {n});
  OptimizerScalars scalars;
  scalars.learning_rate = 1e-3f, scalars.beta1 = 0.9f, scalars.beta2 = 0.95f, scalars.eps = 1e-8f;
  scalars.correction1 = scalars.correction2 = 0.5f;
  scalars.gradient_scale = 1;
  op.scalars = &scalars;
  if (!with_copy) {
    bench.Measure("global norm 124M", false, 0, 4.0 * n, [&] { bench.backend().GlobalNorm(op.grad, &scalars); });
    bench.Measure("zero 124M", false, 0, 4.0 * n, [&] { bench.backend().Zero(op.grad.data, op.grad.bytes()); });
  }
  scalars.applied = 1;
  bench.Measure(name, false, 0, (with_copy ? 30.0 : 28.0) * n, [&] { bench.backend().Run(op); });
  bench.FreeAll();
}

// `type` is that of the weights.
void BenchDecode(Bench& bench, DType type) {
  const int64_t c = 768;
  const DType x = type == DType::kI8 ? DType::kF32 : type;
  const std::string name = std::string("decode ") + NameOf(type);
  if (!bench.Wanted(name)) return;
  for (const Product& p : {Product{"c_fc row", false, false, 1, 4 * c, c},
                           {"mlp out row", false, false, 1, c, 4 * c},
                           {"head row", false, true, 1, 50304, c}}) {
    // Several copies of the weights, so that they come from memory.
    const int64_t copies = p.transpose_b ? 1 : 16;
    Gemm op;
    op.transpose_b = p.transpose_b;
    op.m = p.m, op.n = p.n, op.k = p.k;
    op.a = bench.Random(x, {p.m, p.k});
    if (type == DType::kI8) {  // zeros take as long
      op.b = bench.Make(type, {copies, p.k * p.n});
      op.b.scale = bench.Make(DType::kF32, {p.n}).as<float>();
    } else {
      op.b = bench.Random(type, {copies, p.k * p.n});
    }
    op.c = bench.Make(x, {p.m, p.n});
    const Tensor all = op.b;
    const double bytes = static_cast<double>(all.bytes());
    bench.Measure(name + " " + p.name, false, 0, bytes, [&] {
      for (int64_t i = 0; i < copies; ++i) {
        op.b = all.rows(i, 1);
        bench.backend().Run(op);
      }
    });
    bench.FreeAll();
  }
}

int Main(int argc, char** argv) {
  UseAllCores();
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  Bench bench(threads, argc > 2 ? argv[2] : "", argc > 3 ? std::atof(argv[3]) : 0.5,
              argc > 4 && std::string(argv[4]) == "json");
  const DeviceInfo info = bench.backend().Info();
  std::vector<double> f32, bf16;
  for (int i = 0; i < 50; ++i) f32.push_back(bench.PeakNow(false)), bf16.push_back(bench.PeakNow(true));
  if (bench.json()) {
    std::printf("{\"machine\": \"%s\", \"detail\": \"%s\", \"f32\": %.9g, \"bf16\": %.9g, \"readBytes\": %.9g}\n",
                info.name.c_str(), info.detail.c_str(), Median(f32) * 1e9, Median(bf16) * 1e9, bench.ReadRate());
  } else {
    std::printf("%s, %s\n", info.name.c_str(), info.detail.c_str());
    std::printf("peaks: f32 %.0f, bf16 %.0f GFLOP/s (medians of 50), memory read %.1f GB/s (best of 10)\n", Median(f32),
                Median(bf16), bench.ReadRate() * 1e-9);
  }
  std::fflush(stdout);
  for (DType type : {DType::kF32, DType::kBF16}) {
    for (int64_t tokens : {3072, 256}) BenchGemms(bench, type, std::to_string(tokens), tokens, 768, 50304);
    BenchGemms(bench, type, "small", 768, 128, 128);
    BenchAttention(bench, type, 3, 1024);
    BenchAttention(bench, type, 4, 64);
    BenchRest(bench, type, 3072);
    BenchDecode(bench, type);
  }
  BenchDecode(bench, DType::kI8);
  BenchOptimizer(bench, false);
  BenchOptimizer(bench, true);
  return 0;
}

}  // namespace
}  // namespace kotodama::bench

int main(int argc, char** argv) {
  return kotodama::bench::Main(argc, argv);
}
