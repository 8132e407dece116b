#pragma once

#include <string>
#include <unordered_map>

#include "cuda/driver.h"

namespace kotodama::cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// Loads the kernels into the context that is current on this thread. Throws Error(kDevice) where the driver takes
// neither their machine code nor their PTX.
CUmodule LoadKernels();

// One backend's share of a device: the device's primary context, two streams, the kernels and the memory taken. Not
// for two threads at once; several contexts may be used by several threads.
class Context {
 public:
  explicit Context(int index);
  // Waits for the device and gives everything back. Never throws: a device that failed has nothing to give back.
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Makes the context current on this thread. Throws Error(kDevice) after a failure and in a forked process.
  void Enter();
  // Remembers a failure after which the device's state is unknown.
  void Fail(const std::string& reason);

  void* Allocate(size_t bytes);
  void Free(void* data) noexcept;
  // Pinned memory of the host, which the device copies from and to by itself; whoever takes it frees it.
  void* AllocateHost(size_t bytes);
  // Scratch memory for one operation, good until the next call. It may grow, and what it was stays valid for recorded
  // graphs, so operations that ran once do not allocate again.
  void* Workspace(size_t bytes);

  template <typename Params>
  void Launch(const char* kernel, Dim3 grid, Dim3 block, size_t shared_bytes, const Params& params) {
    LaunchRaw(kernel, grid, block, shared_bytes, &params);
  }

  int index() const { return index_; }
  CUdevice device() const { return device_; }
  CUstream compute() const { return compute_; }
  CUstream copy() const { return copy_; }
  int multiprocessors() const { return multiprocessors_; }
  // Shared memory of a multiprocessor: what a block may have, and the kibibyte that each block takes beside its own
  // (CUDA C++ programming guide, compute capabilities 8.0 to 12.0).
  size_t shared_bytes() const { return max_shared_bytes_ + kSharedOfBlock; }
  static constexpr size_t kSharedOfBlock = 1024;
  // The most dynamic shared memory that a block of this kernel can have: the device's, less what the kernel declares.
  size_t MaxDynamicShared(const char* kernel) { return KernelNamed(kernel).max_shared; }

 private:
  struct Kernel {
    CUfunction function = nullptr;
    size_t max_shared = 0;    // dynamic shared memory that a block can have
    size_t shared_limit = 0;  // what the driver was told of it; its own limit depends on the kernel
  };

  Kernel& KernelNamed(const char* name);
  void LaunchRaw(const char* kernel, Dim3 grid, Dim3 block, size_t shared_bytes, const void* params);
  void Release() noexcept;

  int index_;
  long process_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream compute_ = nullptr, copy_ = nullptr;
  CUmodule module_ = nullptr;
  int multiprocessors_ = 1;
  size_t max_shared_bytes_ = 0;
  std::unordered_map<std::string, Kernel> kernels_;
  std::unordered_map<void*, size_t> allocations_;
  void* workspace_ = nullptr;
  size_t workspace_bytes_ = 0;
  std::string failure_;
};

}  // namespace kotodama::cuda
