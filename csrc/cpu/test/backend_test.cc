#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "cpu/thread_pool.h"
#include "error.h"
#include "no_threads.h"

namespace kotodama::test {
namespace {

TEST(MemoryIsZeroedAlignedAndReusable) {
  Device device(2);
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{5000}, size_t{3} << 20, size_t{20} << 20}) {
    char* data = static_cast<char*>(device->Allocate(bytes));
    CHECK(reinterpret_cast<uintptr_t>(data) % 256 == 0, bytes);
    for (size_t i = 0; i < bytes; i += 97) CHECK(data[i] == 0, bytes, i);
    std::memset(data, 1, bytes);
    device->Free(data);
  }
  device->Free(nullptr);
}

// What is kept of a weight that is read again is not worked in a second time.
TEST(WorkingMemoryOfProducts) {
  Device device(2);
  for (DType type : {DType::kF32, DType::kBF16}) {
    Gemm op;
    op.m = 400, op.n = 640, op.k = 320;
    op.transpose_b = true;
    op.a = device.Make(type, {op.m, op.k});
    op.b = device.Make(type, {op.n, op.k});
    op.c = device.Make(type, {op.m, op.n});
    op.weight_version = 1;
    const WorkingMemory once = device->WorkingMemoryOf(op);
    op.reused = true;
    const WorkingMemory again = device->WorkingMemoryOf(op);
    CHECK(once.kept == 0 && once.shared > 0 && once.shared == again.shared + again.kept, once.shared, again.shared);
    const bool packs_whole = device->Info().detail.rfind("amx", 0) == 0 && type == DType::kBF16;
    CHECK((again.kept >= static_cast<size_t>(2 * op.n * op.k)) == packs_whole, again.kept);
    op.m = 96;
    op.reused = false;
    const WorkingMemory few_rows = device->WorkingMemoryOf(op);
    CHECK(few_rows.kept == 0 && few_rows.shared > 0, few_rows.shared);
    if (packs_whole) CHECK(few_rows.shared < static_cast<size_t>(2 * op.n * op.k), few_rows.shared);
    // Sums in float32, and a as float32; along K in five pieces where rows of b lie across it.
    op.m = 8;
    CHECK(device->WorkingMemoryOf(op).shared == 4 * 8 * (640 + 320), device->WorkingMemoryOf(op).shared);
    op.transpose_b = false;
    CHECK(device->WorkingMemoryOf(op).shared == 4 * 8 * (5 * 640 + 320), device->WorkingMemoryOf(op).shared);
  }
}

// Threads work apart from each other, as many of them as there are heads; what is summed over rows has room for them.
TEST(WorkingMemoryOfOtherOperations) {
  Device one(1), three(3), many(64);
  AttentionForward forward;
  forward.b = 1, forward.t = 8192, forward.h = 2, forward.d = 64;
  AttentionBackward backward;
  backward.b = 1, backward.t = 8192, backward.h = 2, backward.d = 64;
  CrossEntropy loss;
  LayerNormBackward norm;
  norm.x = Tensor(nullptr, DType::kF32, {3200, 64});
  for (DType type : {DType::kF32, DType::kBF16}) {
    forward.qkv.dtype = backward.qkv.dtype = type;
    loss.logits = Tensor(nullptr, type, {100, 640});
    const size_t of_forward = one->WorkingMemoryOf(forward).shared, of_backward = one->WorkingMemoryOf(backward).shared;
    CHECK(of_forward > 0 && three->WorkingMemoryOf(forward).shared == 3 * of_forward, of_forward);
    CHECK(of_backward > 8192 * 64 && three->WorkingMemoryOf(backward).shared == 2 * of_backward, of_backward);
    backward.b = 2;
    CHECK(three->WorkingMemoryOf(backward).shared == 3 * of_backward, of_backward);
    CHECK(many->WorkingMemoryOf(backward).shared == 4 * of_backward, of_backward);
    backward.b = 1;
    // A head is cut into pieces of some hundreds of queries.
    CHECK(many->WorkingMemoryOf(forward).shared <= 2 * (8192 / 256) * of_forward, of_forward);
    const size_t powers = type == DType::kBF16 ? 3 * 640 * sizeof(float) : 0;
    CHECK(three->WorkingMemoryOf(loss).shared == powers, three->WorkingMemoryOf(loss).shared);
  }
  CHECK(three->WorkingMemoryOf(norm).shared == 100 * 2 * 64 * sizeof(float), three->WorkingMemoryOf(norm).shared);
}

TEST(TooMuchMemoryIsAnError) {
  Device device(1);
  for (size_t bytes : {size_t{1} << 46, ~size_t{0}}) {
    try {
      device->Allocate(bytes);
      CHECK(false, "no error for", bytes);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kMemory, error.what());
      const std::string message = error.what();
      CHECK(message.find(std::to_string(bytes)) != std::string::npos, message);
      CHECK(message.find(" are free\n  hint: ") != std::string::npos, message);
    }
  }
}

TEST(BadOptionsAreErrors) {
  bool refused = false;
  try {
    MakeCpuBackend(-1);
  } catch (const Error& error) {
    refused = error.code() == ErrorCode::kOptions;
  }
  CHECK(refused);
  const char* before = std::getenv("KOTODAMA_CPU_ISA");
  const std::string saved = before == nullptr ? "" : before;
  setenv("KOTODAMA_CPU_ISA", "sse9", 1);
  refused = false;
  try {
    MakeCpuBackend(1);
  } catch (const Error& error) {
    refused = error.code() == ErrorCode::kOptions && std::string(error.what()).find("sse9") != std::string::npos;
  }
  setenv("KOTODAMA_CPU_ISA", saved.c_str(), 1);
  CHECK(refused);
}

TEST(PeakIsMeasuredButForPortableCode) {
  Device device(2);
  const std::string detail = device->Info().detail;
  const bool portable = detail.rfind("portable", 0) == 0;
  const double least = detail.rfind("neon", 0) == 0 ? 1e7 : 1e9;  // it may be emulated
  for (DType type : {DType::kF32, DType::kBF16}) {
    const double peak = device->PeakFlops(type);
    CHECK(portable ? peak == 0 : peak > least && peak < 1e15, peak);
  }
}

TEST(PoolRunsEveryItemOnce) {
  for (int threads : {1, 2, 5}) {
    cpu::ThreadPool pool(threads);
    for (int64_t count : {0, 1, 2, 7, 1000}) {
      for (int repeat = 0; repeat < 50; ++repeat) {
        std::vector<std::atomic<int>> seen(count);
        pool.Run(count, [&](int64_t item, int worker) {
          CHECK(worker >= 0 && worker < threads, worker);
          ++seen[item];
        });
        for (int64_t i = 0; i < count; ++i) CHECK(seen[i] == 1, threads, count, i);
      }
    }
  }
}

TEST(PoolCarriesExceptions) {
  cpu::ThreadPool pool(3);
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::string caught;
    try {
      pool.Run(100, [&](int64_t item, int) {
        if (item == 40) throw std::runtime_error("forty");
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    CHECK(caught == "forty", caught);
    std::atomic<int> done{0};
    pool.Run(10, [&](int64_t, int) { ++done; });
    CHECK(done == 10, done.load());
  }
}

// Each thread of a job calls `idle` once at most, after its items; none where one does everything.
TEST(PoolCallsIdle) {
  for (int threads : {1, 4}) {
    cpu::ThreadPool pool(threads);
    for (int64_t count : {0, 1, 3, 200}) {
      for (int repeat = 0; repeat < 50; ++repeat) {
        std::atomic<int64_t> done{0};
        std::vector<std::atomic<int>> calls(threads);
        pool.Run(
            count, [&](int64_t, int) { ++done; }, [&](int worker) { ++calls[worker]; });
        CHECK(done == count, done.load());
        for (const auto& of_worker : calls) CHECK(of_worker <= 1, threads, count, of_worker.load());
        CHECK(calls[0] == (threads > 1 && count > 1 ? 1 : 0), threads, count, calls[0].load());
      }
    }
  }
}

TEST(PoolWakesAfterSleep) {
  cpu::ThreadPool pool(2);
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::atomic<int> done{0};
    pool.Run(64, [&](int64_t, int) { ++done; });
    CHECK(done == 64);
    usleep(3000);
  }
}

TEST(PoolWorksWithoutThreads) {
  cpu::ThreadPool pool(4);
  std::atomic<int> done{0}, idle{0};
  {
    const NoThreads none;
    for (int repeat = 0; repeat < 3; ++repeat) {
      pool.Run(
          100, [&](int64_t, int) { ++done; }, [&](int) { ++idle; });
    }
    Device device(4);
    void* data = device->Allocate(size_t{8} << 20);
    device->Zero(data, size_t{8} << 20);
    device->Free(data);
  }
  pool.Run(100, [&](int64_t, int) { ++done; });
  CHECK(done == 400 && idle >= 3, done.load(), idle.load());
}

TEST(ForkedChildWorksAndEnds) {
  auto device = std::make_unique<Device>(2);
  const Tensor tensor = device->Make(DType::kF32, {1 << 20});
  (*device)->Zero(tensor.data, tensor.bytes());
  usleep(20000);  // the other thread sleeps by now
  const pid_t child = fork();
  if (child == 0) {
    (*device)->Zero(tensor.data, tensor.bytes());
    device.reset();
    _exit(42);
  }
  int status = 0;
  for (int i = 0; i < 500 && waitpid(child, &status, WNOHANG) == 0; ++i) usleep(10000);
  kill(child, SIGKILL);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42, status);
  (*device)->Zero(tensor.data, tensor.bytes());
}

TEST(SeveralBackendsAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      Device device(2);
      const Tensor tensor = device.Put(std::vector<float>(100000, static_cast<float>(i + 1)), DType::kF32, {100000});
      for (int repeat = 0; repeat < 50; ++repeat) {
        OptimizerScalars scalars;
        scalars.gradient_scale = 1;
        device->GlobalNorm(tensor, &scalars);
        if (std::abs(scalars.grad_norm - (i + 1) * std::sqrt(100000.0)) > 0.01) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0, wrong.load());
}

TEST(InfoTellsTheDevice) {
  const DeviceInfo info = MakeCpuBackend(2)->Info();
  CHECK(info.type == "cpu" && !info.name.empty() && info.detail.find("2 threads") != std::string::npos, info.detail);
  CHECK(info.total_bytes > 0 && info.free_bytes > 0 && info.free_bytes <= info.total_bytes);
}

}  // namespace
}  // namespace kotodama::test
