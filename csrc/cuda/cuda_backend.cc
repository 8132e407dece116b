#include "cuda/cuda_backend.h"

#include <cstdio>

#include "cuda/backend_impl.h"
#include "cuda/kernel_image.h"

namespace kotodama {
namespace cuda {
namespace {

// A model needs a few recordings (training, evaluation, a last smaller batch); many more mean that shapes never repeat.
constexpr size_t kMostRecordings = 64;

CUdeviceptr Address(const void* data) {
  return reinterpret_cast<CUdeviceptr>(data);
}

struct Capability {
  int major = 0, minor = 0;
  std::string text() const { return std::to_string(major) + "." + std::to_string(minor); }
};

Capability CapabilityOf(CUdevice device) {
  Capability capability;
  KOTODAMA_CUDA(device_attribute(&capability.major, kAttributeComputeMajor, device));
  KOTODAMA_CUDA(device_attribute(&capability.minor, kAttributeComputeMinor, device));
  return capability;
}

void RequireCapability(CUdevice device, int index) {
  const Capability capability = CapabilityOf(device);
  if (capability.major >= 8) return;
  throw Error(ErrorCode::kDevice, "cuda:" + std::to_string(index) + " has compute capability " + capability.text() +
                                      ", the kernels need 8.0 or newer (an Ampere GPU); use device 'cpu'");
}

DeviceInfo Describe(CUdevice device) {
  DeviceInfo info;
  info.type = "cuda";
  char name[256] = "";
  KOTODAMA_CUDA(device_name(name, sizeof(name), device));
  info.name = name;
  info.detail = "compute capability " + CapabilityOf(device).text();
  KOTODAMA_CUDA(device_total_memory(&info.total_bytes, device));
  return info;
}

// A device's primary context.
class PrimaryContext {
 public:
  explicit PrimaryContext(CUdevice device) : device_(device) { KOTODAMA_CUDA(context_retain(&context_, device)); }
  ~PrimaryContext() { GetDriver().driver.context_release(device_); }
  PrimaryContext(const PrimaryContext&) = delete;
  PrimaryContext& operator=(const PrimaryContext&) = delete;
  CUcontext context() const { return context_; }

 private:
  CUdevice device_;
  CUcontext context_ = nullptr;
};

// Whether the driver is at least as new as what compiled the kernels: then it takes them for sure.
bool IsAsNewAsKernels(int driver_version) {
  int major = 0, minor = 0;
  return std::sscanf(KernelBuild().c_str(), "nvcc %d.%d", &major, &minor) == 2 &&
         driver_version >= 1000 * major + 10 * minor;
}

// Throws where the device cannot be used, and otherwise leaves it as it was.
void Examine(CUdevice device, int index, size_t* free_bytes) {
  RequireCapability(device, index);
  const PrimaryContext primary(device);
  const CurrentContext current(primary.context());
  size_t total_bytes = 0;
  KOTODAMA_CUDA(memory_info(free_bytes, &total_bytes));
  // Only loading tells whether an older driver takes them. It may take seconds, so that it is not done in vain.
  const Driver& driver = GetDriver().driver;
  if (!IsAsNewAsKernels(driver.version)) driver.module_unload(LoadKernels());
}

// An event that knows when it happened.
struct Event {
  CUevent event = nullptr;
  Event() { KOTODAMA_CUDA(event_create(&event, 0)); }
  ~Event() { GetDriver().driver.event_destroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

int DeviceCount() {
  int count = 0;
  KOTODAMA_CUDA(device_count(&count));
  return count;
}

CUdevice DeviceAt(int index) {
  const std::string problem = CudaProblem();
  if (!problem.empty()) throw Error(ErrorCode::kDevice, "CUDA cannot be used: " + problem);
  const int count = DeviceCount();
  if (index < 0 || index >= count) {
    throw Error(ErrorCode::kDevice, "there is no device cuda:" + std::to_string(index) +
                                        "; expected an index from 0 to " + std::to_string(count - 1));
  }
  CUdevice device = 0;
  KOTODAMA_CUDA(device_get(&device, index));
  return device;
}

}  // namespace

void CudaBackend::DropRecordings() noexcept {
  context_.GiveBack([&] {
    for (const auto& [key, recording] : recordings_) {
      if (recording.graph != nullptr) GetDriver().driver.graph_executable_destroy(recording.graph);
    }
  });
  recordings_.clear();
}

DeviceInfo CudaBackend::Info() const {
  const CurrentContext current = context_.Enter();
  DeviceInfo info = Describe(context_.device());
  size_t total_bytes = 0;
  KOTODAMA_CUDA(memory_info(&info.free_bytes, &total_bytes));
  return info;
}

void CudaBackend::RequireOutsideRecording(const char* what) const {
  if (recording_) throw Error(ErrorCode::kDevice, std::string(what) + " cannot be part of a recording");
}

void* CudaBackend::Allocate(size_t bytes) {
  RequireOutsideRecording("Allocate");
  return Attempt([&] { return context_.Allocate(bytes); });
}

void CudaBackend::Upload(void* target, const void* source, size_t bytes) {
  RequireOutsideRecording("Upload");
  Guarded([&] { staging_.Upload(target, source, bytes); });
}

void CudaBackend::Prefetch(const void* source, size_t bytes) {
  RequireOutsideRecording("Prefetch");
  Guarded([&] { staging_.Prefetch(source, bytes); });
}

void CudaBackend::Download(void* target, const void* source, size_t bytes) {
  RequireOutsideRecording("Download");
  Guarded([&] { staging_.Download(target, source, bytes); });
}

void CudaBackend::Zero(void* data, size_t bytes) {
  if (bytes == 0) return;
  Guarded([&] { KOTODAMA_CUDA(fill_bytes(Address(data), 0, bytes, context_.compute())); });
}

void CudaBackend::Synchronize() {
  RequireOutsideRecording("Synchronize");
  Attempt([&] { KOTODAMA_CUDA(stream_synchronize(context_.compute())); });
}

void CudaBackend::Record(uint64_t key, const std::function<void()>& enqueue) {
  RequireOutsideRecording("Record");
  const auto found = recordings_.find(key);
  if (found == recordings_.end()) {
    enqueue();
    if (recordings_.size() >= kMostRecordings) {
      Synchronize();
      DropRecordings();
    }
    recordings_[key] = {};
    return;
  }
  Recording& recording = found->second;
  Attempt([&] {
    try {
      if (recording.graph == nullptr && recording.has_memory) recording.graph = Capture(enqueue);
      if (recording.graph != nullptr) {
        KOTODAMA_CUDA(graph_launch(recording.graph, context_.compute()));
        return;
      }
    } catch (const DriverError& error) {
      if (error.code() != ErrorCode::kMemory) throw;
      if (recording.graph != nullptr) GetDriver().driver.graph_executable_destroy(recording.graph);
      recording = {nullptr, false};
    }
    enqueue();
  });
}

CUgraphExec CudaBackend::Capture(const std::function<void()>& enqueue) {
  const Driver& driver = GetDriver().driver;
  CUgraph graph = nullptr;
  KOTODAMA_CUDA(stream_begin_capture(context_.compute(), kCaptureThreadLocal));
  recording_ = true;
  try {
    enqueue();
  } catch (...) {
    recording_ = false;
    if (driver.stream_end_capture(context_.compute(), &graph) == kSuccess && graph != nullptr) {
      driver.graph_destroy(graph);
    }
    throw;
  }
  recording_ = false;
  KOTODAMA_CUDA(stream_end_capture(context_.compute(), &graph));
  CUgraphExec executable = nullptr;
  const CUresult result = driver.graph_instantiate(&executable, graph, 0);
  driver.graph_destroy(graph);
  Check(result, "cuda graph_instantiate", __FILE__, __LINE__);
  return executable;
}

void CudaBackend::Forget(uint64_t key) noexcept {
  const auto found = recordings_.find(key);
  if (found == recordings_.end()) return;
  context_.GiveBack([&] {
    const Driver& driver = GetDriver().driver;
    driver.stream_synchronize(context_.compute());
    if (found->second.graph != nullptr) driver.graph_executable_destroy(found->second.graph);
  });
  recordings_.erase(found);
}

double CudaBackend::Time(const std::function<void()>& enqueue) {
  RequireOutsideRecording("Time");
  return Guarded([&] {
    Event start, end;
    KOTODAMA_CUDA(event_record(start.event, context_.compute()));
    enqueue();
    KOTODAMA_CUDA(event_record(end.event, context_.compute()));
    KOTODAMA_CUDA(event_synchronize(end.event));
    float milliseconds = 0;
    KOTODAMA_CUDA(event_elapsed(&milliseconds, start.event, end.event));
    return static_cast<double>(milliseconds);
  });
}

}  // namespace cuda

std::string CudaProblem() {
  try {
    if (cuda::KernelImage() == nullptr) {
      return "this build has no CUDA kernels, because nvcc was not found when it was installed; install the CUDA "
             "toolkit "
             "(11.8 or later), put nvcc on the PATH or set CUDA_PATH, and build again (npm rebuild kotodama)";
    }
    const cuda::DriverState& state = cuda::GetDriver();
    if (!state.problem.empty()) return state.problem;
    if (cuda::DeviceCount() == 0) return "the CUDA driver finds no device";
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string CudaKernels() {
  return cuda::KernelBuild();
}

std::string CudaDriver() {
  const int version = cuda::GetDriver().driver.version;
  return version == 0 ? "" : cuda::VersionText(version);
}

std::string CudaDriverProblem() {
  return cuda::GetDriver().problem;
}

int CudaDeviceCount() {
  try {
    return CudaProblem().empty() ? cuda::DeviceCount() : 0;
  } catch (const std::exception&) {
    return 0;
  }
}

CudaDevice ExamineCudaDevice(int index) {
  CudaDevice found;
  try {
    const cuda::CUdevice device = cuda::DeviceAt(index);
    found.info = cuda::Describe(device);
    cuda::Examine(device, index, &found.info.free_bytes);
  } catch (const Error& error) {
    found.problem = error.what();
  }
  return found;
}

std::unique_ptr<Backend> MakeCudaBackend(int index) {
  const cuda::CUdevice device = cuda::DeviceAt(index);
  cuda::RequireCapability(device, index);
  return std::make_unique<cuda::CudaBackend>(index);
}

}  // namespace kotodama
