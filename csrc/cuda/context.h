#pragma once

#include <string>
#include <unordered_map>

#include "cuda/driver.h"

namespace kotodama::cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// While it lives, the context is current on this thread, and captures of other threads, which other libraries of the
// process may have under way, forbid no call here. Then all is as it was before.
class CurrentContext {
 public:
  // `capture_mode`: kCaptureRelaxed where captures of this thread are not to forbid a call either. Throws a
  // DriverError.
  explicit CurrentContext(CUcontext context, int capture_mode = kCaptureThreadLocal);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  CUcontext context_, before_ = nullptr;
  int capture_mode_;  // once exchanged: that of before
};

// Loads the kernels into the context that is current on this thread. Throws Error(kDevice) where the driver takes
// neither their machine code nor their PTX.
CUmodule LoadKernels();

// One backend's share of a device: the device's primary context, two streams, the kernels and the memory taken. Not
// for two threads at once; several contexts may be used by several threads.
class Context {
 public:
  explicit Context(int index);
  // Waits for the device and gives everything back. Never throws: a device that had a fault has nothing to give back.
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Makes the context current on this thread as long as the result lives. Throws Error(kDevice) after a failure and in
  // a forked process.
  CurrentContext Enter();
  // Remembers a failure after which the state of what is in the device's memory is unknown.
  void Fail(const DriverError& error);
  // Calls `release`, which gives something back, with the context current; after a failure too, since only after a
  // fault the driver takes nothing back. Does nothing in a forked process, which has nothing to give back.
  template <typename F>
  void GiveBack(F&& release) noexcept;

  void* Allocate(size_t bytes);
  // What the driver refuses to take is given back with the context.
  void Free(void* data) noexcept;
  // Pinned memory of the host, which the device copies from and to by itself; whoever takes it frees it.
  void* AllocateHost(size_t bytes);
  // Scratch memory for one operation, good until the next call. It may grow, and what it was stays valid for recorded
  // graphs, so operations that ran once do not allocate again.
  void* Workspace(size_t bytes);
  // Bytes that Workspace(bytes) may take beside what is taken at the start.
  static size_t WorkspaceBeyondStart(size_t bytes);

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

  bool IsForked() const;
  // Null where the device has too little memory.
  void* TryAllocate(size_t bytes);
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
  bool had_fault_ = false;
};

template <typename F>
void Context::GiveBack(F&& release) noexcept {
  if (IsForked()) return;
  try {
    const CurrentContext current(context_, kCaptureRelaxed);
    release();
  } catch (const DriverError&) {
    // The context cannot be made current any more: the driver has taken all of it.
  }
}

}  // namespace kotodama::cuda
