// Device and pinned memory, copies, fills (CUDA Driver API, section 6.13).
#include <cstdlib>
#include <cstring>

#include "state.h"

using namespace gpusim;

namespace {

CUresult copy_to_device(Context& c, CUdeviceptr to, const void* from, size_t bytes) {
  if (bytes == 0) return kSuccess;
  if (!from || !c.device->memory->find(to, bytes)) return kInvalidValue;
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  c.device->memory->mark_written(to, bytes);
  return kSuccess;
}

CUresult copy_to_host(Context& c, void* to, CUdeviceptr from, size_t bytes) {
  if (bytes == 0) return kSuccess;
  if (!to || !c.device->memory->find(from, bytes)) return kInvalidValue;
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return kSuccess;
}

// What was never written in the source is unwritten in the destination too.
CUresult copy_on_device(Context& c, CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  if (bytes == 0) return kSuccess;
  DeviceMemory& m = *c.device->memory;
  Allocation* source = m.find(from, bytes);
  Allocation* target = m.find(to, bytes);
  if (!source || !target) return kInvalidValue;
  std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  if (source->all_written) {
    m.mark_written(to, bytes);
  } else {
    target->all_written = false;
    std::memmove(m.shadow(to), m.shadow(from), bytes);
  }
  return kSuccess;
}

template <class T>
CUresult fill(Context& c, CUdeviceptr to, T value, size_t count) {
  const size_t bytes = count * sizeof(T);
  if (bytes == 0) return kSuccess;
  if (to % sizeof(T) || !c.device->memory->find(to, bytes)) return kInvalidValue;
  T* p = reinterpret_cast<T*>(to);
  for (size_t i = 0; i < count; ++i) p[i] = value;
  c.device->memory->mark_written(to, bytes);
  return kSuccess;
}

// Asynchronous forms are done in the stream's order.
template <class F>
CUresult later(const char* call, CUstream stream, size_t bytes, F f) {
  return with_context([&](Context& c) {
    trace(call, find_stream(c, stream), nullptr, bytes);
    return submit(c, stream, [f, &c] { return f(c); });
  });
}

}  // namespace

GPUSIM_API CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  return with_context([&](Context& c) {
    if (!free_bytes || !total) return kInvalidValue;
    *free_bytes = c.device->memory->free_bytes();
    *total = c.device->memory->capacity();
    return kSuccess;
  });
}

GPUSIM_API CUresult cuMemAlloc_v2(CUdeviceptr* p, size_t bytes) {
  return outside_capture([&](Context& c) -> CUresult {
    if (!p || bytes == 0) return kInvalidValue;
    uint64_t& countdown = state().settings.fail_allocation;
    if (countdown && --countdown == 0) return kOutOfMemory;
    uint64_t address = c.device->memory->allocate(bytes);
    if (!address) return kOutOfMemory;
    *p = address;
    return kSuccess;
  });
}

GPUSIM_API CUresult cuMemFree_v2(CUdeviceptr p) {
  return outside_capture([&](Context& c) -> CUresult {
    if (p == 0) return kSuccess;
    trace("cuMemFree", nullptr);
    return c.device->memory->release(p) ? kSuccess : kInvalidValue;
  });
}

GPUSIM_API CUresult cuMemHostAlloc(void** p, size_t bytes, unsigned) {
  return with_context([&](Context&) -> CUresult {
    if (!p || bytes == 0) return kInvalidValue;
    uint64_t& countdown = state().settings.fail_host_allocation;
    if (countdown && --countdown == 0) return kOutOfMemory;
    *p = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*p) return kOutOfMemory;
    state().host_memory.insert(*p);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuMemAllocHost_v2(void** p, size_t bytes) {
  return cuMemHostAlloc(p, bytes, 0);
}

GPUSIM_API CUresult cuMemFreeHost(void* p) {
  return with_driver([&]() -> CUresult {
    if (!state().host_memory.erase(p)) return kInvalidValue;
    std::free(p);
    return kSuccess;
  });
}

// The synchronous forms run on the null stream.
GPUSIM_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return outside_capture([&](Context& c) { return copy_to_device(c, to, from, bytes); });
}
GPUSIM_API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return outside_capture([&](Context& c) { return copy_to_host(c, to, from, bytes); });
}
GPUSIM_API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return outside_capture([&](Context& c) { return copy_on_device(c, to, from, bytes); });
}
GPUSIM_API CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char v, size_t n) {
  return outside_capture([&](Context& c) { return fill(c, to, v, n); });
}
GPUSIM_API CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short v, size_t n) {
  return outside_capture([&](Context& c) { return fill(c, to, v, n); });
}
GPUSIM_API CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned v, size_t n) {
  return outside_capture([&](Context& c) { return fill(c, to, v, n); });
}

GPUSIM_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream s) {
  return later("cuMemcpyHtoDAsync", s, bytes, [=](Context& c) { return copy_to_device(c, to, from, bytes); });
}
GPUSIM_API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream s) {
  return later("cuMemcpyDtoHAsync", s, bytes, [=](Context& c) { return copy_to_host(c, to, from, bytes); });
}
GPUSIM_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) {
  return later("cuMemcpyDtoDAsync", s, bytes, [=](Context& c) { return copy_on_device(c, to, from, bytes); });
}
GPUSIM_API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char v, size_t n, CUstream s) {
  return with_context([&](Context& c) { return submit(c, s, [=, &c] { return fill(c, to, v, n); }); });
}
GPUSIM_API CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short v, size_t n, CUstream s) {
  return with_context([&](Context& c) { return submit(c, s, [=, &c] { return fill(c, to, v, n); }); });
}
GPUSIM_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned v, size_t n, CUstream s) {
  return with_context([&](Context& c) { return submit(c, s, [=, &c] { return fill(c, to, v, n); }); });
}
