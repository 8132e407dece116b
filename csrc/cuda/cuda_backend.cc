#include "cuda/cuda_backend.h"

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

// Free memory can be asked for only with a context on the device.
size_t FreeBytes(CUdevice device) {
  CUcontext context = nullptr;
  KOTODAMA_CUDA(context_retain(&context, device));
  const Driver& driver = GetDriver().driver;
  size_t free_bytes = 0, total_bytes = 0;
  if (driver.context_set(context) == kSuccess) {
    if (driver.memory_info(&free_bytes, &total_bytes) != kSuccess) free_bytes = 0;
    driver.context_set(nullptr);
  }
  driver.context_release(device);
  return free_bytes;
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

}  // namespace

CudaBackend::~CudaBackend() {
  try {
    context_.Enter();
  } catch (const Error&) {
    return;  // a failed device and a forked process have nothing to give back
  }
  DropRecordings();
}

void CudaBackend::DropRecordings() noexcept {
  for (const auto& [key, recording] : recordings_) {
    if (recording.graph != nullptr) GetDriver().driver.graph_executable_destroy(recording.graph);
  }
  recordings_.clear();
}

DeviceInfo CudaBackend::Info() const {
  context_.Enter();
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
  return Guarded([&] { return context_.Allocate(bytes); });
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
  Guarded([&] { KOTODAMA_CUDA(stream_synchronize(context_.compute())); });
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
  Guarded([&] {
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
  try {
    context_.Enter();
    const Driver& driver = GetDriver().driver;
    driver.stream_synchronize(context_.compute());
    if (found->second.graph != nullptr) driver.graph_executable_destroy(found->second.graph);
  } catch (const Error&) {
    // A failed device and a forked process have nothing to give back.
  }
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

std::vector<CudaDevice> CudaDevices() {
  std::vector<CudaDevice> devices;
  if (!CudaProblem().empty()) return devices;
  try {
    const int count = cuda::DeviceCount();
    for (int index = 0; index < count; ++index) {
      cuda::CUdevice device = 0;
      KOTODAMA_CUDA(device_get(&device, index));
      CudaDevice found;
      found.info = cuda::Describe(device);
      try {
        found.info.free_bytes = cuda::FreeBytes(device);
        cuda::RequireCapability(device, index);
      } catch (const Error& error) {
        found.problem = error.what();
      }
      devices.push_back(found);
    }
  } catch (const std::exception&) {
    // A driver that cannot describe a device has none that could be used; opening it will say why.
  }
  return devices;
}

std::unique_ptr<Backend> MakeCudaBackend(int index) {
  const std::string problem = CudaProblem();
  if (!problem.empty()) throw Error(ErrorCode::kDevice, "CUDA cannot be used: " + problem);
  const int count = cuda::DeviceCount();
  if (index < 0 || index >= count) {
    throw Error(ErrorCode::kDevice, "there is no device cuda:" + std::to_string(index) +
                                        "; expected an index from 0 to " + std::to_string(count - 1));
  }
  cuda::CUdevice device = 0;
  KOTODAMA_CUDA(device_get(&device, index));
  cuda::RequireCapability(device, index);
  return std::make_unique<cuda::CudaBackend>(index);
}

}  // namespace kotodama
