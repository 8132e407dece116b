// Initialisation, devices, contexts, errors (CUDA Driver API, sections 6.2 to 6.8).
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "state.h"

using namespace gpusim;

namespace {

struct ErrorName {
  int code;
  const char* name;
  const char* text;
};
constexpr ErrorName kErrors[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {kDeinitialized, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {kDeviceUnavailable, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {kNoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {kInvalidPtx, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {kUnsupportedPtx, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {kContained, "CUDA_ERROR_CONTAINED", "invalid access of peer GPU memory over nvlink or a hardware error"},
    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {kNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {kLaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {kLaunchTimeout, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {kMisaligned, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {kNotPermitted, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {kNotSupported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {kSystemNotReady, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {kDriverMismatch, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {kCompatNotSupported, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
     "forward compatibility was attempted on non supported HW"},
    {kMpsClientTerminated, "CUDA_ERROR_MPS_CLIENT_TERMINATED", "MPS client has been terminated by the server"},
    {kCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {kCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {kCaptureUnmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {kCaptureUnjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {kCaptureIsolation, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {kCaptureImplicit, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {kCapturedEvent, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {kUnknown, "CUDA_ERROR_UNKNOWN", "unknown error"}};

void write_counters() {
  State& s = state();
  if (s.pid != getpid() || s.settings.counters_file.empty()) return;
  std::ofstream(s.settings.counters_file) << s.counters.json() << "\n";
}

Device* find_device(CUdevice d) {
  auto& v = state().devices;
  return d >= 0 && static_cast<size_t>(d) < v.size() ? v[static_cast<size_t>(d)].get() : nullptr;
}

void destroy(Context& c) {
  c.modules.clear();
  c.streams.clear();
  c.events.clear();
  c.sticky = 0;
  c.null_stream = Stream();
  c.device->memory = std::make_unique<DeviceMemory>(state().settings.memory);
}

}  // namespace

GPUSIM_API CUresult cuInit(unsigned flags) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  if (flags) return kInvalidValue;
  if (s.initialized) return s.pid == getpid() ? kSuccess : kNotInitialized;
  if (!read_settings(&s.settings)) return kInvalidValue;
  if (s.settings.fail_init) return static_cast<CUresult>(s.settings.fail_init);
  if (s.settings.devices == 0) return kNoDevice;
  try {
    for (int i = 0; i < s.settings.devices; ++i) {
      auto d = std::make_unique<Device>();
      d->index = i;
      d->memory = std::make_unique<DeviceMemory>(s.settings.memory);
      d->primary.device = d.get();
      s.devices.push_back(std::move(d));
    }
  } catch (const std::bad_alloc&) {
    s.devices.clear();
    return kOutOfMemory;
  }
  s.pid = getpid();
  s.initialized = true;
  std::atexit(write_counters);
  return kSuccess;
}

GPUSIM_API CUresult cuDriverGetVersion(int* version) {
  if (!version) return kInvalidValue;
  *version = state().settings.driver_version;
  return kSuccess;
}

GPUSIM_API CUresult cuDeviceGetCount(int* count) {
  return with_driver([&] {
    if (!count) return kInvalidValue;
    *count = static_cast<int>(state().devices.size());
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return with_driver([&] {
    if (!device) return kInvalidValue;
    if (!find_device(ordinal)) return kInvalidDevice;
    *device = ordinal;
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  return with_driver([&] {
    if (!name || length <= 0) return kInvalidValue;
    if (!find_device(device)) return kInvalidDevice;
    std::snprintf(name, static_cast<size_t>(length), "Kotodama GPU simulator");
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDeviceGetAttribute(int* value, int a, CUdevice device) {
  return with_driver([&] {
    if (!value) return kInvalidValue;
    if (!find_device(device)) return kInvalidDevice;
    const Capability& capability = state().settings.capability;
    switch (a) {  // those that the backend asks for
      case 16:
        *value = state().settings.multiprocessors;
        break;
      case 75:
        *value = capability.major;
        break;
      case 76:
        *value = capability.minor;
        break;
      case 97:
        *value = static_cast<int>(capability.shared_bytes());  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        break;
      default:
        return kInvalidValue;
    }
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return with_driver([&] {
    Device* d = find_device(device);
    if (!d) return kInvalidDevice;
    if (!bytes) return kInvalidValue;
    *bytes = d->memory->capacity();
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return with_driver([&] {
    Device* d = find_device(device);
    if (!d) return kInvalidDevice;
    if (!context) return kInvalidValue;
    trace("cuDevicePrimaryCtxRetain", nullptr);
    if (state().settings.fail_context) return static_cast<CUresult>(state().settings.fail_context);
    ++d->primary.retained;
    *context = reinterpret_cast<CUcontext>(&d->primary);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return with_driver([&] {
    Device* d = find_device(device);
    if (!d) return kInvalidDevice;
    if (!d->primary.retained) return kInvalidContext;
    if (--d->primary.retained == 0) destroy(d->primary);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return with_driver([&] {
    Device* d = find_device(device);
    if (!d) return kInvalidDevice;
    destroy(d->primary);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  return with_driver([&] {
    Device* d = find_device(device);
    if (!d) return kInvalidDevice;
    if (flags) *flags = 0;
    if (active) *active = d->primary.retained > 0;
    return kSuccess;
  });
}

GPUSIM_API CUresult cuCtxSetCurrent(CUcontext context) {
  return with_driver([&] {
    current_context() = reinterpret_cast<Context*>(context);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuCtxGetCurrent(CUcontext* context) {
  return with_driver([&] {
    if (!context) return kInvalidValue;
    *context = reinterpret_cast<CUcontext>(current_context());
    return kSuccess;
  });
}

GPUSIM_API CUresult cuCtxGetDevice(CUdevice* device) {
  return with_context([&](Context& c) {
    if (!device) return kInvalidValue;
    *device = c.device->index;
    return kSuccess;
  });
}

GPUSIM_API CUresult cuCtxSynchronize() {
  return with_context([&](Context& c) { return refuse_in_capture(c); });
}

GPUSIM_API CUresult cuGetErrorName(CUresult code, const char** name) {
  for (const auto& e : kErrors) {
    if (e.code == code && name) {
      *name = e.name;
      return kSuccess;
    }
  }
  if (name) *name = nullptr;
  return kInvalidValue;
}

GPUSIM_API CUresult cuGetErrorString(CUresult code, const char** text) {
  for (const auto& e : kErrors) {
    if (e.code == code && text) {
      *text = e.text;
      return kSuccess;
    }
  }
  if (text) *text = nullptr;
  return kInvalidValue;
}

GPUSIM_API CUresult cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
  if (!name || !function) return kInvalidValue;
  *function = find_driver_function(name);
  if (status) *status = *function ? 0 : 1;  // SUCCESS, SYMBOL_NOT_FOUND
  return *function ? kSuccess : kNotFound;
}

GPUSIM_API CUresult cuGetProcAddress(const char* name, void** function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}

// Beyond the driver's interface.

/// Text of the last failure: kernel, block, thread, PTX line, source line. Lives until the next failure of this
/// process.
GPUSIM_API const char* kotodama_sim_last_report() {
  return state().last_report.c_str();
}

/// Counters of all kernels so far, as JSON. The caller's copy is valid until its thread calls again.
GPUSIM_API const char* kotodama_sim_counters_json() {
  static thread_local std::string text;
  std::lock_guard<std::mutex> lock(state().mutex);
  text = state().counters.json();
  return text.c_str();
}

GPUSIM_API void kotodama_sim_reset_counters() {
  std::lock_guard<std::mutex> lock(state().mutex);
  state().counters.reset();
}

/// From now on a launch runs at most `count` blocks of each row of its grid along x, evenly spread, and counts them as
/// if they stood for the whole row; the others do nothing. 0: all blocks run.
GPUSIM_API void kotodama_sim_sample_blocks(uint32_t count) {
  std::lock_guard<std::mutex> lock(state().mutex);
  state().sample = count;
}

/// The n-th device allocation from now fails (1: the next); 0 none.
GPUSIM_API void kotodama_sim_fail_allocation(uint64_t n) {
  std::lock_guard<std::mutex> lock(state().mutex);
  state().settings.fail_allocation = n;
}
