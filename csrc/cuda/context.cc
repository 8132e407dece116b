#include "cuda/context.h"

#include <unistd.h>

#include <algorithm>
#include <vector>

#include "cuda/kernel_image.h"
#include "error.h"

namespace kotodama::cuda {
namespace {

constexpr size_t kDefaultShared = 48 * 1024;
// Taken at the start, so that what is free afterwards can be planned with: partial sums of a GEMM's splits take 64 MiB
// at most. What grows with the batch may need more, which WorkingMemoryOf tells.
constexpr size_t kWorkspaceBytes = size_t{80} << 20;

CUdeviceptr Address(const void* data) {
  return reinterpret_cast<CUdeviceptr>(data);
}

// An allocation's true size; no driver call takes 0.
size_t Wanted(size_t bytes) {
  return std::max<size_t>(bytes, 256);
}

int Attribute(int attribute, CUdevice device) {
  int value = 0;
  KOTODAMA_CUDA(device_attribute(&value, attribute, device));
  return value;
}

}  // namespace

CurrentContext::CurrentContext(CUcontext context, int capture_mode) : context_(context), capture_mode_(capture_mode) {
  KOTODAMA_CUDA(context_get(&before_));
  if (before_ != context_) KOTODAMA_CUDA(context_set(context_));
  GetDriver().driver.thread_exchange_capture_mode(&capture_mode_);
}

CurrentContext::~CurrentContext() {
  const Driver& driver = GetDriver().driver;
  driver.thread_exchange_capture_mode(&capture_mode_);
  if (before_ != context_) driver.context_set(before_);
}

CUmodule LoadKernels() {
  CUmodule module = nullptr;
  const CUresult result = GetDriver().driver.module_load(&module, KernelImage());
  if (result == kErrorNoBinary || result == kErrorUnsupportedPtx || result == kErrorInvalidPtx ||
      result == kErrorInvalidImage) {
    throw Error(ErrorCode::kDevice, "the driver (CUDA " + VersionText(GetDriver().driver.version) +
                                        ") takes neither the machine code nor the PTX of the kernels; install a newer "
                                        "NVIDIA driver, or build with the toolkit of that version");
  }
  Check(result, "cuda module_load", __FILE__, __LINE__);
  return module;
}

Context::Context(int index) : index_(index), process_(getpid()) {
  KOTODAMA_CUDA(device_get(&device_, index));
  multiprocessors_ = std::max(1, Attribute(kAttributeMultiprocessors, device_));
  max_shared_bytes_ = std::max<size_t>(kDefaultShared, Attribute(kAttributeMaxSharedOptin, device_));
  KOTODAMA_CUDA(context_retain(&context_, device_));
  try {
    const CurrentContext current(context_);
    KOTODAMA_CUDA(stream_create(&compute_, kStreamNonBlocking));
    KOTODAMA_CUDA(stream_create(&copy_, kStreamNonBlocking));
    module_ = LoadKernels();
    Workspace(kWorkspaceBytes);
  } catch (...) {
    Release();
    throw;
  }
}

Context::~Context() {
  // A child of fork() has no CUDA state of its own to give back.
  if (!IsForked()) Release();
}

bool Context::IsForked() const {
  return getpid() != process_;
}

void Context::Release() noexcept {
  const Driver& driver = GetDriver().driver;
  GiveBack([&] {
    if (compute_ != nullptr) driver.stream_synchronize(compute_);
    if (copy_ != nullptr) driver.stream_synchronize(copy_);
    for (const auto& [data, bytes] : allocations_) driver.memory_free(Address(data));
    if (module_ != nullptr) driver.module_unload(module_);
    if (compute_ != nullptr) driver.stream_destroy(compute_);
    if (copy_ != nullptr) driver.stream_destroy(copy_);
  });
  driver.context_release(device_);
}

CurrentContext Context::Enter() {
  if (IsForked()) {
    throw Error(ErrorCode::kDevice,
                "CUDA cannot be used in a process forked from the one that opened the device; start a new process");
  }
  if (had_fault_) {
    throw Error(ErrorCode::kDevice,
                "the device failed before and cannot be used any more (" + failure_ + ")" + kAfterFault);
  }
  if (!failure_.empty()) {
    throw Error(ErrorCode::kDevice,
                "an operation failed half-way before, and the values it left on the device cannot be relied on (" +
                    failure_ + ")\n  hint: dispose of the model and load its last checkpoint, in this program or anew");
  }
  try {
    return CurrentContext(context_);
  } catch (const DriverError& error) {
    if (error.is_fault()) Fail(error);
    throw;
  }
}

void Context::Fail(const DriverError& error) {
  if (!failure_.empty()) return;
  const std::string reason = error.what();
  failure_ = reason.substr(0, reason.find("\n  hint: "));
  had_fault_ = error.is_fault();
}

void* Context::Allocate(size_t bytes) {
  void* const data = TryAllocate(bytes);
  if (data != nullptr) return data;
  size_t free_bytes = 0, total_bytes = 0;
  KOTODAMA_CUDA(memory_info(&free_bytes, &total_bytes));
  throw Error(ErrorCode::kMemory, "cuda:" + std::to_string(index_) + " is out of memory: needs " +
                                      std::to_string(Wanted(bytes)) + " bytes, " + std::to_string(free_bytes) + " of " +
                                      std::to_string(total_bytes) + " are free" + kAfterOutOfMemory);
}

void* Context::TryAllocate(size_t bytes) {
  CUdeviceptr pointer = 0;
  const size_t wanted = Wanted(bytes);
  const CUresult result = GetDriver().driver.memory_allocate(&pointer, wanted);
  if (result == kErrorOutOfMemory) return nullptr;
  Check(result, "cuda memory_allocate", __FILE__, __LINE__);
  void* data = reinterpret_cast<void*>(pointer);
  allocations_[data] = wanted;
  const CUresult filled = GetDriver().driver.fill_bytes(pointer, 0, wanted, compute_);
  if (filled != kSuccess) Free(data);
  Check(filled, "cuda fill_bytes", __FILE__, __LINE__);
  return data;
}

void Context::Free(void* data) noexcept {
  const auto found = allocations_.find(data);
  if (found == allocations_.end()) return;
  GiveBack([&] {
    const Driver& driver = GetDriver().driver;
    // Kernels may still use it; that cuMemFree waits for them is no more than usual.
    driver.stream_synchronize(compute_);
    if (driver.memory_free(Address(data)) == kSuccess) allocations_.erase(found);
  });
}

void* Context::AllocateHost(size_t bytes) {
  void* data = nullptr;
  const CUresult result = GetDriver().driver.host_allocate(&data, bytes);
  if (result == kErrorOutOfMemory) {
    throw Error(ErrorCode::kMemory, "this computer, not the GPU, is out of memory: " + std::to_string(bytes) +
                                        " bytes for copies to cuda:" + std::to_string(index_) +
                                        " cannot be pinned (page-locked)\n  hint: end other programs, or raise the "
                                        "memory limit of the container");
  }
  Check(result, "cuda host_allocate", __FILE__, __LINE__);
  return data;
}

void* Context::Workspace(size_t bytes) {
  if (bytes <= workspace_bytes_) return workspace_;
  // Twice as much, so that it seldom grows again, where there is room.
  const size_t doubled = 2 * workspace_bytes_;
  void* const roomy = bytes < doubled ? TryAllocate(doubled) : nullptr;
  workspace_ = roomy != nullptr ? roomy : Allocate(bytes);
  workspace_bytes_ = roomy != nullptr ? doubled : bytes;
  return workspace_;
}

size_t Context::WorkspaceBeyondStart(size_t bytes) {
  // What was taken before is kept, for recorded graphs.
  return bytes <= kWorkspaceBytes ? 0 : bytes;
}

Context::Kernel& Context::KernelNamed(const char* name) {
  const auto found = kernels_.find(name);
  if (found != kernels_.end()) return found->second;
  Kernel kernel;
  KOTODAMA_CUDA(module_function(&kernel.function, module_, name));
  // Asked for, not counted: the compiler rounds it up to the largest alignment of dynamic memory in the whole module.
  int own = 0;
  KOTODAMA_CUDA(function_attribute(&own, kFunctionStaticShared, kernel.function));
  kernel.max_shared = max_shared_bytes_ - std::min(max_shared_bytes_, static_cast<size_t>(own));
  return kernels_.emplace(name, kernel).first->second;
}

void Context::LaunchRaw(const char* name, Dim3 grid, Dim3 block, size_t shared_bytes, const void* params) {
  Kernel& kernel = KernelNamed(name);
  if (shared_bytes > kernel.shared_limit) {
    if (shared_bytes > kernel.max_shared) {
      throw Error(ErrorCode::kOptions, std::string(name) + " needs " + std::to_string(shared_bytes) +
                                           " bytes of dynamic shared memory, a block of it can have " +
                                           std::to_string(kernel.max_shared) +
                                           " on this device; use a smaller model width");
    }
    KOTODAMA_CUDA(function_set_attribute(kernel.function, kFunctionMaxDynamicShared, static_cast<int>(shared_bytes)));
    kernel.shared_limit = shared_bytes;
  }
  void* arguments[] = {const_cast<void*>(params)};
  const CUresult result = GetDriver().driver.launch(kernel.function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                                    static_cast<unsigned>(shared_bytes), compute_, arguments, nullptr);
  if (result != kSuccess) ThrowDriverError(result, name, __FILE__, __LINE__);
}

}  // namespace kotodama::cuda
