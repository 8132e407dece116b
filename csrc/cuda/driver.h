#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "error.h"

// The part of the CUDA driver API that the backend uses, declared here by hand after the CUDA Driver API reference, so
// that building needs no toolkit and the library is opened at run time.

namespace kotodama::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

constexpr CUresult kSuccess = 0;                    // CUDA_SUCCESS
constexpr CUresult kErrorOutOfMemory = 2;           // CUDA_ERROR_OUT_OF_MEMORY
constexpr CUresult kErrorUnavailable = 46;          // CUDA_ERROR_DEVICE_UNAVAILABLE
constexpr CUresult kErrorNoDevice = 100;            // CUDA_ERROR_NO_DEVICE
constexpr CUresult kErrorInvalidImage = 200;        // CUDA_ERROR_INVALID_IMAGE
constexpr CUresult kErrorNoBinary = 209;            // CUDA_ERROR_NO_BINARY_FOR_GPU
constexpr CUresult kErrorInvalidPtx = 218;          // CUDA_ERROR_INVALID_PTX
constexpr CUresult kErrorUnsupportedPtx = 222;      // CUDA_ERROR_UNSUPPORTED_PTX_VERSION
constexpr CUresult kErrorSystemNotReady = 802;      // CUDA_ERROR_SYSTEM_NOT_READY
constexpr CUresult kErrorDriverMismatch = 803;      // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
constexpr CUresult kErrorCompatNotSupported = 804;  // CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
constexpr CUresult kErrorUnknown = 999;             // CUDA_ERROR_UNKNOWN

// CUdevice_attribute
constexpr int kAttributeMultiprocessors = 16;
constexpr int kAttributeComputeMajor = 75;
constexpr int kAttributeComputeMinor = 76;
constexpr int kAttributeMaxSharedOptin = 97;

constexpr int kFunctionStaticShared = 1;      // CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
constexpr int kFunctionMaxDynamicShared = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr unsigned kStreamNonBlocking = 1;    // CU_STREAM_NON_BLOCKING
constexpr unsigned kEventDisableTiming = 2;   // CU_EVENT_DISABLE_TIMING
constexpr int kCaptureThreadLocal = 1;        // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
constexpr int kCaptureRelaxed = 2;            // CU_STREAM_CAPTURE_MODE_RELAXED

// name in Driver, symbol in the library, parameters
#define KOTODAMA_CUDA_FUNCTIONS(F)                                                                                 \
  F(init, cuInit, (unsigned flags))                                                                                \
  F(driver_version, cuDriverGetVersion, (int* version))                                                            \
  F(error_name, cuGetErrorName, (CUresult error, const char** name))                                               \
  F(error_string, cuGetErrorString, (CUresult error, const char** text))                                           \
  F(device_count, cuDeviceGetCount, (int* count))                                                                  \
  F(device_get, cuDeviceGet, (CUdevice * device, int ordinal))                                                     \
  F(device_name, cuDeviceGetName, (char* name, int length, CUdevice device))                                       \
  F(device_attribute, cuDeviceGetAttribute, (int* value, int attribute, CUdevice device))                          \
  F(device_total_memory, cuDeviceTotalMem_v2, (size_t * bytes, CUdevice device))                                   \
  F(context_retain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                              \
  F(context_release, cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                              \
  F(context_get, cuCtxGetCurrent, (CUcontext * context))                                                           \
  F(context_set, cuCtxSetCurrent, (CUcontext context))                                                             \
  F(memory_info, cuMemGetInfo_v2, (size_t * free_bytes, size_t * total_bytes))                                     \
  F(memory_allocate, cuMemAlloc_v2, (CUdeviceptr * pointer, size_t bytes))                                         \
  F(memory_free, cuMemFree_v2, (CUdeviceptr pointer))                                                              \
  F(host_allocate, cuMemAllocHost_v2, (void** pointer, size_t bytes))                                              \
  F(host_free, cuMemFreeHost, (void* pointer))                                                                     \
  F(copy_to_device, cuMemcpyHtoDAsync_v2, (CUdeviceptr target, const void* source, size_t bytes, CUstream stream)) \
  F(copy_to_host, cuMemcpyDtoHAsync_v2, (void* target, CUdeviceptr source, size_t bytes, CUstream stream))         \
  F(copy_on_device, cuMemcpyDtoDAsync_v2, (CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream)) \
  F(fill_bytes, cuMemsetD8Async, (CUdeviceptr target, unsigned char value, size_t bytes, CUstream stream))         \
  F(stream_create, cuStreamCreate, (CUstream * stream, unsigned flags))                                            \
  F(stream_destroy, cuStreamDestroy_v2, (CUstream stream))                                                         \
  F(stream_synchronize, cuStreamSynchronize, (CUstream stream))                                                    \
  F(stream_wait_event, cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                        \
  F(stream_begin_capture, cuStreamBeginCapture_v2, (CUstream stream, int mode))                                    \
  F(stream_end_capture, cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                    \
  F(thread_exchange_capture_mode, cuThreadExchangeStreamCaptureMode, (int* mode))                                  \
  F(event_create, cuEventCreate, (CUevent * event, unsigned flags))                                                \
  F(event_destroy, cuEventDestroy_v2, (CUevent event))                                                             \
  F(event_record, cuEventRecord, (CUevent event, CUstream stream))                                                 \
  F(event_synchronize, cuEventSynchronize, (CUevent event))                                                        \
  F(event_elapsed, cuEventElapsedTime, (float* milliseconds, CUevent start, CUevent end))                          \
  F(module_load, cuModuleLoadData, (CUmodule * module, const void* image))                                         \
  F(module_unload, cuModuleUnload, (CUmodule module))                                                              \
  F(module_function, cuModuleGetFunction, (CUfunction * function, CUmodule module, const char* name))              \
  F(function_attribute, cuFuncGetAttribute, (int* value, int attribute, CUfunction function))                      \
  F(function_set_attribute, cuFuncSetAttribute, (CUfunction function, int attribute, int value))                   \
  F(launch, cuLaunchKernel,                                                                                        \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,   \
     unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters, void** extra))                   \
  F(graph_instantiate, cuGraphInstantiateWithFlags,                                                                \
    (CUgraphExec * executable, CUgraph graph, unsigned long long flags))                                           \
  F(graph_launch, cuGraphLaunch, (CUgraphExec executable, CUstream stream))                                        \
  F(graph_destroy, cuGraphDestroy, (CUgraph graph))                                                                \
  F(graph_executable_destroy, cuGraphExecDestroy, (CUgraphExec executable))

struct Driver {
#define KOTODAMA_CUDA_MEMBER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  KOTODAMA_CUDA_FUNCTIONS(KOTODAMA_CUDA_MEMBER)
#undef KOTODAMA_CUDA_MEMBER
  int version = 0;  // e.g. 13000 for CUDA 13.0
};

// 13000 as "13.0".
std::string VersionText(int version);

struct DriverState {
  Driver driver;
  std::string problem;  // empty, or why the driver cannot be used and what to do
};

// The driver of this process, opened and initialised at the first call: the library that KOTODAMA_CUDA_DRIVER names, or
// libcuda.so.1. It is never closed.
const DriverState& GetDriver();

// A driver call that failed: kMemory where the device ran out of memory, else kDevice.
class DriverError : public Error {
 public:
  DriverError(ErrorCode code, const std::string& message, bool is_fault) : Error(code, message), is_fault_(is_fault) {}
  // Whether the device can be used no more by this process; otherwise the driver refused this one call.
  bool is_fault() const { return is_fault_; }

 private:
  bool is_fault_;
};

// What to do when a kernel failed: the driver refuses everything else that this process asks for then.
constexpr const char* kAfterFault =
    "\n  hint: after a fault a program can use the device no more: start it again and continue from the last "
    "checkpoint "
    "(--resume)";

// What to do when the device has too little memory.
constexpr const char* kAfterOutOfMemory =
    "\n  hint: end other programs that use the GPU, or use a smaller batch or device 'cpu'";

// Throws a DriverError.
[[noreturn]] void ThrowDriverError(CUresult result, const char* call, const char* file, int line);

inline void Check(CUresult result, const char* call, const char* file, int line) {
  if (result != kSuccess) ThrowDriverError(result, call, file, line);
}

}  // namespace kotodama::cuda

// Calls a member of Driver and throws with the driver's name for the error if it fails.
#define KOTODAMA_CUDA(call) \
  ::kotodama::cuda::Check(::kotodama::cuda::GetDriver().driver.call, "cuda " #call, __FILE__, __LINE__)
