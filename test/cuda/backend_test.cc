#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cuda/cuda_backend.h"
#include "cuda/driver.h"
#include "error.h"

// The host side of the CUDA backend: memory, recordings, failures. Prints a line for each check (TAP). With the
// argument `problem` it prints CudaProblem() and the devices instead; with `open` it opens and uses device 0.

namespace kotodama::test {
namespace {

void Require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("not so: " + what);
}

// The message of the Error with this code that `run` must throw.
std::string Throws(ErrorCode code, const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    Require(error.code() == code,
            std::string("the code is ") + NameOf(code) + ", got " + NameOf(error.code()) + ": " + error.what());
    return error.what();
  }
  throw std::runtime_error(std::string("expected an error ") + NameOf(code));
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool IsSimulated(const Backend& backend) {
  return Contains(backend.Info().name, "simulator");
}

void RoundTrip() {
  const auto backend = MakeCudaBackend(0);
  for (size_t bytes : {size_t{1}, size_t{4099}, (size_t{5} << 20) + 3}) {
    std::vector<unsigned char> source(bytes), target(bytes, 1);
    for (size_t i = 0; i < bytes; ++i) source[i] = static_cast<unsigned char>(i * 31 + i / 257);
    void* data = backend->Allocate(bytes);
    Require(reinterpret_cast<uintptr_t>(data) % 256 == 0, "memory is aligned to 256 bytes");
    backend->Download(target.data(), data, bytes);
    Require(target == std::vector<unsigned char>(bytes, 0), "memory comes zeroed");
    std::vector<unsigned char> copy = source;
    backend->Upload(data, copy.data(), bytes);
    std::fill(copy.begin(), copy.end(), 0);  // Upload has taken what it needs
    backend->Download(target.data(), data, bytes);
    Require(target == source, "the same bytes come back");
    backend->Zero(data, bytes);
    backend->Download(target.data(), data, bytes);
    Require(target == std::vector<unsigned char>(bytes, 0), "Zero");
    backend->Free(data);
  }
  backend->Free(nullptr);
}

// Casts `input` to bf16 and back on the device.
struct Caster {
  Backend& backend;
  Tensor wide, narrow;

  explicit Caster(Backend& backend) : backend(backend) {
    wide = Tensor(backend.Allocate(64 * 4), DType::kF32, {64});
    narrow = Tensor(backend.Allocate(64 * 2), DType::kBF16, {64});
  }
  void Enqueue() {
    backend.Cast(narrow, wide);
    backend.Zero(wide.data, wide.bytes());
    backend.Cast(wide, narrow);
  }
  void Upload(float value) {
    const std::vector<float> values(64, value);
    backend.Upload(wide.data, values.data(), wide.bytes());
  }
  void Expect(float value) {
    std::vector<float> values(64);
    backend.Download(values.data(), wide.data, wide.bytes());
    Require(values == std::vector<float>(64, value), "the result is " + std::to_string(value));
  }
};

void Recordings() {
  const auto backend = MakeCudaBackend(0);
  Caster first(*backend), second(*backend);
  int calls = 0;
  for (float value : {1.0f, 2.0f, 3.0f, 4.0f}) {
    first.Upload(value);
    second.Upload(-value);
    backend->Record(1, [&] {
      ++calls;
      first.Enqueue();
    });
    backend->Record(2, [&] { second.Enqueue(); });
    first.Expect(value);
    second.Expect(-value);
  }
  Require(calls == 2, "a recording is enqueued twice at most");
  // More keys than are kept.
  for (uint64_t key = 100; key < 300; ++key) {
    first.Upload(static_cast<float>(key - 99));
    backend->Record(key, [&] { first.Enqueue(); });
    first.Expect(static_cast<float>(key - 99));
  }
}

void FailedRecording() {
  const auto backend = MakeCudaBackend(0);
  Caster caster(*backend);
  backend->Record(1, [&] { caster.Enqueue(); });
  const std::string message = Throws(ErrorCode::kDevice, [&] {
    backend->Record(1, [&] {
      caster.Enqueue();
      backend->Synchronize();
    });
  });
  Require(Contains(message, "recording"), message);
  caster.Upload(5);
  backend->Record(1, [&] { caster.Enqueue(); });
  caster.Expect(5);
}

void ForgottenRecording() {
  const auto backend = MakeCudaBackend(0);
  Caster caster(*backend);
  int calls = 0;
  const auto record = [&](float value) {
    caster.Upload(value);
    backend->Record(1, [&] {
      ++calls;
      caster.Enqueue();
    });
    caster.Expect(value);
  };
  for (float value : {1.0f, 2.0f, 3.0f}) record(value);
  Require(calls == 2, "the third time it is replayed");
  backend->Forget(1);
  backend->Forget(1);
  backend->Forget(99);
  for (float value : {4.0f, 5.0f, 6.0f}) record(value);
  Require(calls == 4, "once it is forgotten it begins anew");
}

// What was announced, what was not, and what was announced wrongly.
void Prefetched() {
  const auto backend = MakeCudaBackend(0);
  const size_t bytes = 1 << 16;
  void* data = backend->Allocate(bytes);
  std::vector<unsigned char> a(bytes, 1), b(bytes, 2), found(bytes);
  const auto expect = [&](const std::vector<unsigned char>& source, size_t size) {
    backend->Upload(data, source.data(), size);
    std::fill(found.begin(), found.end(), 0);
    backend->Download(found.data(), data, size);
    Require(std::equal(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(size), source.begin()),
            "the bytes of the upload arrive");
  };
  backend->Prefetch(a.data(), bytes);
  expect(b, bytes);
  expect(a, bytes);
  expect(a, bytes);  // taken before: it is sent again
  backend->Prefetch(a.data(), bytes);
  a.back() = 3;  // Prefetch has taken what it needs
  expect(a, bytes);
  expect(a, bytes - 1);
  for (unsigned char i = 0; i < 40; ++i) {  // more than are kept
    b[0] = i;
    backend->Prefetch(b.data(), i % 3 == 0 ? 0 : bytes);
  }
  for (unsigned char i = 0; i < 40; ++i) {
    b[0] = i;
    expect(b, bytes);
  }
  const std::vector<unsigned char> large(size_t{3} << 20, 7);
  backend->Prefetch(large.data(), large.size());
  expect(a, bytes);
}

// Scratch memory that grows beyond what was taken at the start, where nothing is left. It comes before the first
// launch, so that nobody reads the tensors.
void ScratchRunsOut() {
  const auto backend = MakeCudaBackend(0);
  if (!IsSimulated(*backend)) return;  // others may use a real device, which this would take whole
  void* const data = backend->Allocate(64);
  const int64_t ids = 32 << 20, c = 4;
  EmbeddingBackward op;
  op.ids = Tensor(data, DType::kI32, {1, ids});
  op.dout = Tensor(data, DType::kF32, {1, ids, c});
  op.dwte = Tensor(data, DType::kF32, {4, c});
  op.dwpe = Tensor(data, DType::kF32, {ids, c});
  void* const rest = backend->Allocate(backend->Info().free_bytes - (size_t{32} << 20));
  const std::string message = Throws(ErrorCode::kMemory, [&] { backend->Run(op); });
  Require(Contains(message, "needs") && Contains(message, "free"), message);
  // As in a recording, where the first call runs as it is.
  Throws(ErrorCode::kMemory, [&] { backend->Record(1, [&] { backend->Run(op); }); });
  Caster caster(*backend);
  for (float value : {1.0f, 2.0f, 3.0f}) {
    caster.Upload(value);
    backend->Record(1, [&] { caster.Enqueue(); });
    caster.Expect(value);
  }
  backend->Free(rest);
}

// Takes scratch memory and stops before any kernel: no block has so much shared memory.
AttentionBackward ScratchAlone(void* data, int64_t queries) {
  AttentionBackward op;
  op.b = queries, op.t = op.h = 1, op.d = 1 << 20;
  op.qkv = op.dqkv = Tensor(data, DType::kF32, {op.b, op.t, 3 * op.d});
  op.out = op.dout = Tensor(data, DType::kF32, {op.b, op.t, op.d});
  op.lse = Tensor(data, DType::kF32, {op.b, op.h, op.t});
  return op;
}

void ScratchAsPlanned() {
  const auto backend = MakeCudaBackend(0);
  if (!IsSimulated(*backend)) return;  // as above
  void* const data = backend->Allocate(64);
  const AttentionBackward small = ScratchAlone(data, 1 << 20), large = ScratchAlone(data, 22 << 20);
  const size_t planned = backend->WorkingMemoryOf(large).shared;
  Require(backend->WorkingMemoryOf(small).shared == 0, "what the backend took at the start is not planned again");
  Require(planned >= large.lse.bytes(), "what is above that is planned");
  EmbeddingBackward embedding;
  embedding.ids = Tensor(data, DType::kI32, {1, 15 << 20});
  Require(backend->WorkingMemoryOf(embedding).shared >= size_t{90} << 20, "the embedding's, too");
  LayerNormBackward norm;
  norm.dout = norm.x = Tensor(data, DType::kF32, {1 << 20, 1024});
  norm.weight = Tensor(data, DType::kF32, {1024});
  Require(backend->WorkingMemoryOf(norm).shared >= size_t{128} << 20, "and LayerNorm's");
  backend->Allocate(backend->Info().free_bytes - planned);
  const std::string message = Throws(ErrorCode::kOptions, [&] { backend->Run(large); });
  Require(Contains(message, "shared memory"), "it finds its scratch memory: " + message);
}

void OutOfMemory() {
  const auto backend = MakeCudaBackend(0);
  const size_t wanted = backend->Info().total_bytes * 2;
  const std::string message = Throws(ErrorCode::kMemory, [&] { backend->Allocate(wanted); });
  Require(Contains(message, std::to_string(wanted)) && Contains(message, "free"), message);
  Caster caster(*backend);
  caster.Upload(1);
  caster.Enqueue();
  caster.Expect(1);
}

void MemoryComesBack() {
  size_t before = 0;
  for (int i = 0; i < 3; ++i) {
    const auto backend = MakeCudaBackend(0);
    const size_t free_bytes = backend->Info().free_bytes;
    if (i == 0) before = free_bytes;
    // Others may take a little of a real device meanwhile.
    const size_t others = IsSimulated(*backend) ? 0 : size_t{64} << 20;
    Require(free_bytes + others >= before, "a new backend finds the memory of the last one free");
    backend->Allocate(100 << 20);
  }
}

// Another user of CUDA in this process, with a device's context on its thread.
class Neighbour {
 public:
  explicit Neighbour(int index) {
    KOTODAMA_CUDA(device_get(&device_, index));
    KOTODAMA_CUDA(context_retain(&context_, device_));
    KOTODAMA_CUDA(context_get(&before_));
    KOTODAMA_CUDA(context_set(context_));
    KOTODAMA_CUDA(stream_create(&stream_, cuda::kStreamNonBlocking));
  }
  ~Neighbour() {
    const cuda::Driver& driver = cuda::GetDriver().driver;
    driver.stream_destroy(stream_);
    driver.context_set(before_);
    driver.context_release(device_);
  }
  Neighbour(const Neighbour&) = delete;
  Neighbour& operator=(const Neighbour&) = delete;

  // Captures in the mode that forbids most, meanwhile runs `meanwhile`, and requires that nothing spoilt the capture.
  void Capture(const std::function<void()>& meanwhile) {
    constexpr int kGlobal = 0;  // CU_STREAM_CAPTURE_MODE_GLOBAL
    cuda::CUgraph graph = nullptr;
    KOTODAMA_CUDA(stream_begin_capture(stream_, kGlobal));
    std::string problem;
    try {
      meanwhile();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    const cuda::CUresult ended = cuda::GetDriver().driver.stream_end_capture(stream_, &graph);
    if (graph != nullptr) KOTODAMA_CUDA(graph_destroy(graph));
    Require(problem.empty(), problem);
    Require(ended == cuda::kSuccess, "the neighbour's capture ends well");
  }
  void RequireCurrent(const std::string& after) const {
    cuda::CUcontext now = nullptr;
    KOTODAMA_CUDA(context_get(&now));
    Require(now == context_, "its context is current on its thread after " + after);
    int mode = cuda::kCaptureRelaxed;
    KOTODAMA_CUDA(thread_exchange_capture_mode(&mode));
    const int found = mode;
    KOTODAMA_CUDA(thread_exchange_capture_mode(&mode));
    Require(found == 0, "the thread's capture mode is the driver's own after " + after);
  }
  static size_t FreeBytes() {
    size_t free_bytes = 0, total_bytes = 0;
    KOTODAMA_CUDA(memory_info(&free_bytes, &total_bytes));
    return free_bytes;
  }

 private:
  cuda::CUdevice device_ = 0;
  cuda::CUcontext context_ = nullptr, before_ = nullptr;
  cuda::CUstream stream_ = nullptr;
};

// What `run` throws on another thread, or nothing.
std::string OnAnotherThread(const std::function<void()>& run) {
  std::string problem;
  std::thread([&] {
    try {
      run();
    } catch (const std::exception& error) {
      problem = error.what();
    }
  }).join();
  return problem;
}

void CaptureOfANeighbour() {
  Neighbour neighbour(0);
  const size_t before = Neighbour::FreeBytes();
  std::unique_ptr<Backend> backend;
  size_t others = 0;
  const auto use = [&] {
    if (!backend) backend = MakeCudaBackend(0);
    others = IsSimulated(*backend) ? 0 : size_t{64} << 20;
    Caster caster(*backend);
    for (float value : {1.0f, 2.0f, 3.0f}) {
      caster.Upload(value);
      backend->Record(1, [&] { caster.Enqueue(); });
      caster.Expect(value);
    }
    backend->Forget(1);
    backend->Free(backend->Allocate(100 << 20));
    backend->Allocate(100 << 20);
  };
  neighbour.Capture([&] {
    const std::string problem = OnAnotherThread(use);
    Require(problem.empty(), problem);
    std::thread([&] { backend.reset(); }).join();
  });
  Require(Neighbour::FreeBytes() + others >= before, "what was disposed of meanwhile is free again");
  // The neighbour's own thread: what it captures is no reason to keep memory.
  use();
  neighbour.Capture([&] { backend.reset(); });
  Require(Neighbour::FreeBytes() + others >= before, "what was disposed of on its thread is free again");
}

// A call that the driver refuses is no fault: an allocation takes nothing, and what was under way is lost alone.
void Refusals() {
  Neighbour neighbour(0);
  auto backend = MakeCudaBackend(0);
  Caster caster(*backend);
  const size_t before = Neighbour::FreeBytes();
  const auto refused = [&](const std::function<void()>& run) {
    std::string message;
    try {
      neighbour.Capture([&] { message = Throws(ErrorCode::kDevice, run); });
    } catch (const std::exception&) {
      // Such a call spoils the capture of its own thread.
    }
    return message;
  };
  const std::string message = refused([&] { backend->Allocate(1 << 20); });
  Require(Contains(message, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED") && !Contains(message, "after a fault"), message);
  Require(!IsSimulated(*backend) || Neighbour::FreeBytes() == before, "a refused allocation takes nothing");
  caster.Upload(4);
  caster.Enqueue();
  caster.Expect(4);
  if (!IsSimulated(*backend)) return;

  // Scratch memory in the middle of an operation.
  refused([&] { backend->Run(ScratchAlone(caster.wide.data, 22 << 20)); });
  const std::string later = Throws(ErrorCode::kDevice, [&] { caster.Upload(5); });
  Require(Contains(later, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED") && Contains(later, "load its last checkpoint") &&
              !Contains(later, "after a fault"),
          later);
  const size_t held = Neighbour::FreeBytes();
  backend.reset();
  Require(Neighbour::FreeBytes() > held, "it gives its memory back");
  Caster another(*(backend = MakeCudaBackend(0)));
  another.Upload(6);
  another.Expect(6);
}

// On another device, where there is one: its context is not the engine's.
void ContextOfANeighbour() {
  const Neighbour neighbour(CudaDeviceCount() - 1);
  ExamineCudaDevice(0);
  neighbour.RequireCurrent("a device is examined");
  auto backend = MakeCudaBackend(0);
  neighbour.RequireCurrent("a backend is made");
  Caster caster(*backend);
  caster.Upload(1);
  backend->Record(1, [&] { caster.Enqueue(); });
  caster.Expect(1);
  backend->Free(caster.wide.data);
  neighbour.RequireCurrent("it is used");
  backend.reset();
  neighbour.RequireCurrent("it is gone");
}

void NoSuchDevice() {
  for (int index : {-1, 4096}) {
    const std::string message = Throws(ErrorCode::kDevice, [&] { MakeCudaBackend(index); });
    Require(Contains(message, "cuda:" + std::to_string(index)), message);
    Require(ExamineCudaDevice(index).problem == message, "who examines it learns the same");
  }
}

void TwoBackends() {
  const auto a = MakeCudaBackend(0), b = MakeCudaBackend(0);
  Caster first(*a), second(*b);
  first.Upload(1);
  second.Upload(2);
  first.Enqueue();
  second.Enqueue();
  first.Expect(1);
  second.Expect(2);
}

void Threads() {
  std::vector<std::string> problems(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < problems.size(); ++i) {
    threads.emplace_back([&problems, i] {
      try {
        const auto backend = MakeCudaBackend(0);
        Caster caster(*backend);
        for (int round = 0; round < 20; ++round) {
          const auto value = static_cast<float>(i * 50 + static_cast<size_t>(round));
          caster.Upload(value);
          backend->Record(7, [&] { caster.Enqueue(); });
          caster.Expect(value);
        }
      } catch (const std::exception& error) {
        problems[i] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& problem : problems) Require(problem.empty(), problem);
  // Made on one thread, used and destroyed on others.
  auto backend = MakeCudaBackend(0);
  std::thread([&] {
    Caster caster(*backend);
    caster.Upload(3);
    caster.Enqueue();
    caster.Expect(3);
  }).join();
  std::thread([&] { backend.reset(); }).join();
}

// A child of fork() gets an error, not the parent's device.
void Fork() {
  auto backend = MakeCudaBackend(0);
  void* data = backend->Allocate(16);
  const pid_t child = fork();
  if (child == 0) {
    int status = 1;
    try {
      backend->Zero(data, 16);
    } catch (const Error& error) {
      status = error.code() == ErrorCode::kDevice && Contains(error.what(), "fork") ? 0 : 2;
    }
    backend->Free(data);
    backend.reset();
    _exit(status);
  }
  int status = -1;
  waitpid(child, &status, 0);
  Require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child gets a clear error");
  backend->Zero(data, 16);
  backend->Synchronize();
}

// A kernel that reads outside of memory. Last, because a real device's context does not recover within the process.
void Fault() {
  auto backend = MakeCudaBackend(0);
  EmbeddingForward op;
  op.ids = Tensor(backend->Allocate(4), DType::kI32, {1, 1});
  op.wte = Tensor(backend->Allocate(64 * 4), DType::kF32, {1, 64});
  op.wpe = Tensor(backend->Allocate(64 * 4), DType::kF32, {1, 64});
  op.out = Tensor(backend->Allocate(64 * 4), DType::kF32, {1, 1, 64});
  const int32_t id = 1 << 30;
  backend->Upload(op.ids.data, &id, sizeof id);
  const std::string message = Throws(ErrorCode::kDevice, [&] {
    backend->Run(op);
    backend->Synchronize();
  });
  Require(Contains(message, "CUDA_ERROR_"), message);
  for (int i = 0; i < 2; ++i) {
    const std::string later = Throws(ErrorCode::kDevice, [&] { backend->Zero(op.out.data, 4); });
    Require(Contains(later, "failed before") && Contains(later, "CUDA_ERROR_"), later);
  }
  backend->Free(op.out.data);
  backend.reset();
}

int RunAll() {
  const std::vector<std::pair<const char*, void (*)()>> checks = {
      {"bytes go there and back", RoundTrip},
      {"recordings read fresh values", Recordings},
      {"a recording that fails leaves the backend usable", FailedRecording},
      {"a recording that is forgotten begins anew", ForgottenRecording},
      {"what is announced, rightly or wrongly, changes no byte", Prefetched},
      {"scratch memory that cannot grow is an error, and the backend usable", ScratchRunsOut},
      {"scratch memory takes no more than is planned where there is no more", ScratchAsPlanned},
      {"out of memory names needed and free bytes", OutOfMemory},
      {"a backend gives its memory back", MemoryComesBack},
      {"a neighbour's capture is neither spoilt nor in the way", CaptureOfANeighbour},
      {"a call that is refused is no fault", Refusals},
      {"a neighbour's context stays current", ContextOfANeighbour},
      {"no such device", NoSuchDevice},
      {"two backends on one device", TwoBackends},
      {"several threads", Threads},
      {"fork", Fork},
      {"a kernel's fault ends the backend and not the process", Fault}};
  std::printf("TAP version 14\n");
  int count = 0, failed = 0;
  for (const auto& [name, run] : checks) {
    std::string problem;
    try {
      run();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    std::printf("%s %d - %s\n", problem.empty() ? "ok" : "not ok", ++count, name);
    if (!problem.empty()) std::printf("#   %s\n", problem.c_str());
    std::fflush(stdout);
    failed += !problem.empty();
  }
  std::printf("1..%d\n", count);
  return failed == 0 ? 0 : 1;
}

int PrintProblem() {
  std::printf("%s\n", CudaProblem().c_str());
  for (int index = 0; index < CudaDeviceCount(); ++index) {
    const auto [info, problem] = ExamineCudaDevice(index);
    std::printf("%s: %s, %s, %zu bytes, %zu free%s\n", info.type.c_str(), info.name.c_str(), info.detail.c_str(),
                info.total_bytes, info.free_bytes, problem.c_str());
  }
  return 0;
}

// Leaves the backend to the end of the process.
int Open() {
  try {
    Backend* backend = MakeCudaBackend(0).release();
    Caster caster(*backend);
    caster.Upload(1);
    caster.Enqueue();
    caster.Expect(1);
    std::printf("used\n");
  } catch (const Error& error) {
    std::printf("%s: %s\n", NameOf(error.code()), error.what());
  }
  return 0;
}

}  // namespace
}  // namespace kotodama::test

int main(int argc, char** argv) {
  // The simulator's is the host's, and one check takes all of it.
  setenv("KOTODAMA_SIM_MEMORY", "600M", 0);
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "problem") return kotodama::test::PrintProblem();
  if (mode == "open") return kotodama::test::Open();
  setenv("KOTODAMA_SIM_DEVICES", "2", 0);
  return kotodama::test::RunAll();
}
