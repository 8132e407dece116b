// The driver interface: handles, error codes, capture, out of memory, fatbins.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <thread>

#include "harness.h"

using namespace test;

namespace {

const char* const kFill = R"(
    ld.param.u64 %rd1, [k_0];
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x;
    mad.lo.u32 %r3, %r1, %r2, %r0;
    mad.wide.u32 %rd2, %r3, 4, %rd1;
    ld.global.u32 %r4, [%rd2];
    mad.lo.u32 %r4, %r4, 2, 1;
    st.global.u32 [%rd2], %r4;)";

}  // namespace

TEST(driver, devices_and_names) {
  int n = 0, v = 0;
  CHECK_EQ(cuDeviceGetCount(&n), 0);
  CHECK_EQ(n, 2);
  CUdevice dev;
  CHECK_EQ(cuDeviceGet(&dev, 1), 0);
  CHECK_EQ(cuDeviceGet(&dev, 2), 101);
  CHECK_EQ(cuDeviceGetAttribute(&v, 75, 0), 0);
  CHECK_EQ(v, 8);
  CHECK_EQ(cuDeviceGetAttribute(&v, 4000, 0), 1);
  size_t bytes = 0;
  CHECK_EQ(cuDeviceTotalMem_v2(&bytes, 0), 0);
  CHECK_EQ(bytes, size_t{64} << 20);
  const char* name = nullptr;
  CHECK_EQ(cuGetErrorName(700, &name), 0);
  CHECK(std::string(name) == "CUDA_ERROR_ILLEGAL_ADDRESS");
  CHECK_EQ(cuGetErrorName(12345, &name), 1);
  cuCtxSetCurrent(nullptr);
  CHECK_EQ(cuCtxSynchronize(), 201);
  void* p = nullptr;
  int status = -1;
  CHECK_EQ(cuGetProcAddress_v2("cuMemAlloc", &p, 12000, 0, &status), 0);
  CHECK(p == reinterpret_cast<void*>(&cuMemAlloc_v2));
  CHECK_EQ(cuGetProcAddress_v2("cuNoSuchThing", &p, 12000, 0, &status), 500);
}

TEST(driver, memory_runs_out_and_comes_back) {
  Device d;
  size_t before, after, total;
  CHECK_EQ(cuMemGetInfo_v2(&before, &total), 0);
  CUdeviceptr p, q;
  CHECK_EQ(cuMemAlloc_v2(&p, 40 << 20), 0);
  CHECK_EQ(cuMemAlloc_v2(&q, 40 << 20), 2);
  CHECK_EQ(cuMemGetInfo_v2(&after, &total), 0);
  CHECK_EQ(before - after, size_t{40} << 20);
  CHECK_EQ(cuMemFree_v2(p), 0);
  CHECK_EQ(cuMemFree_v2(p), 1);
  CHECK_EQ(cuMemAlloc_v2(&q, 40 << 20), 0);
  CHECK_EQ(cuMemFree_v2(q), 0);
  CHECK_EQ(cuMemAlloc_v2(&q, 0), 1);
  kotodama_sim_fail_allocation(2);
  CHECK_EQ(cuMemAlloc_v2(&p, 100), 0);
  CHECK_EQ(cuMemAlloc_v2(&q, 100), 2);
  CHECK_EQ(cuMemAlloc_v2(&q, 100), 0);
  CHECK_EQ(cuMemcpyHtoD_v2(p, &before, 101), 1);
  // What was freed is unwritten when it is handed out again.
  cuMemsetD8_v2(p, 1, 100);
  CHECK_EQ(cuMemFree_v2(p), 0);
  CHECK_EQ(cuMemAlloc_v2(&p, 100), 0);
  CHECK_EQ(d.launch(d.function(d.load(kernel_text(1, "ld.global.u32 %r1, [%p0];"))), 1, 1, {p}), 719);
}

TEST(driver, copies_keep_track_of_what_was_written) {
  Device d;
  CUdeviceptr a = d.allocate(256), b = d.allocate(256);
  cuMemsetD32_v2(a, 7, 32);  // the first half
  CHECK_EQ(cuMemcpyDtoD_v2(b, a, 256), 0);
  CHECK_EQ(d.download<uint32_t>(b, 1)[0], 7u);
  CUfunction f = d.function(d.load(kernel_text(1, "mad.wide.u32 %rd1, %r0, 4, %p0;\nld.global.u32 %r1, [%rd1];")));
  CHECK_EQ(d.launch(f, 1, 32, {b}), 0);
  CHECK_EQ(d.launch(f, 1, 32, {b + 4}), 719);
  CHECK_REPORT("byte 128 of");
}

TEST(driver, functions_and_launch_limits) {
  Device d;
  CUmodule m = d.load(kernel_text(1, ".shared .align 4 .b8 s[1024];\nmov.u32 %r1, s;\nst.shared.u32 [%r1], 1;"));
  CUfunction f = d.function(m), g;
  CHECK_EQ(cuModuleGetFunction(&g, m, "absent"), 500);
  int v = 0;
  CHECK_EQ(cuFuncGetAttribute(&v, 1, f), 0);
  CHECK_EQ(v, 1024);
  CHECK_EQ(d.launch(f, 0, 32, {0}), 1);
  CHECK_EQ(d.launch(f, 1, 1025, {0}), 1);
  CHECK_EQ(d.launch(f, 1, 32, {0}, 60 << 10), 1);
  const CUfunction small = d.function(d.load(module_text(".visible .entry k() .maxntid 16, 4, 1\n{\nret;\n}\n")));
  CHECK_EQ(d.launch(small, 1, 64, {}), 0);
  CHECK_EQ(d.launch(small, 1, 65, {}), 1);
  // Without the attribute, static and dynamic shared memory have 48 KiB together.
  CHECK_EQ(cuFuncGetAttribute(&v, 8, f), 0);
  CHECK_EQ(v, 47 << 10);
  CHECK_EQ(d.launch(f, 1, 32, {0}, 48 << 10), 1);
  CHECK_EQ(d.launch(f, 1, 32, {0}, 47 << 10), 0);
  CHECK_EQ(cuFuncSetAttribute(f, 8, 200 << 10), 1);
  CHECK_EQ(cuFuncSetAttribute(f, 8, 100 << 10), 0);
  CHECK_EQ(d.launch(f, 1, 32, {0}, 60 << 10), 0);
  // The kernel's own is rounded up to the alignment of any unsized variable of the module, its own or not.
  const CUfunction aligned =
      d.function(d.load(kernel_text(1, ".shared .align 4 .b8 s[100];\nmov.u32 %r1, s;\nst.shared.u32 [%r1], 1;",
                                    ".extern .shared .align 256 .b8 elsewhere[];\n")));
  CHECK_EQ(cuFuncGetAttribute(&v, 1, aligned), 0);
  CHECK_EQ(v, 256);
  const CUfunction none = d.function(d.load(kernel_text(1, "", ".extern .shared .align 256 .b8 elsewhere[];\n")));
  CHECK_EQ(cuFuncGetAttribute(&v, 1, none), 0);
  CHECK_EQ(v, 0);
  // Parameters in one packed buffer.
  uint64_t buffer = 0;
  size_t size = sizeof(buffer);
  void* extra[] = {reinterpret_cast<void*>(1), &buffer, reinterpret_cast<void*>(2), &size, nullptr};
  CHECK_EQ(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra), 0);
  CHECK_EQ(cuModuleUnload(m), 0);
  CHECK_EQ(cuModuleUnload(m), 400);
  CHECK_EQ(d.launch(f, 1, 32, {0}), 400);
}

// A group of its own: it is run for other devices too.
TEST(capability, a_block_has_the_shared_memory_of_the_device) {
  const std::map<std::string, int> kib = {{"8.0", 163}, {"8.6", 99},   {"8.9", 99},
                                          {"9.0", 227}, {"10.0", 227}, {"12.0", 99}};
  const char* name = std::getenv("KOTODAMA_SIM_CAPABILITY");
  const int bytes = kib.at(name && *name ? name : "8.0") << 10;
  Device d;
  int v = 0;
  CHECK_EQ(cuDeviceGetAttribute(&v, 97, 0), 0);
  CHECK_EQ(v, bytes);
  CUfunction f =
      d.function(d.load(kernel_text(1, ".shared .align 4 .b8 s[1024];\nmov.u32 %r1, s;\nst.shared.u32 [%r1], 1;")));
  CHECK_EQ(cuFuncSetAttribute(f, 8, bytes - 1023), 1);  // with the 1024 bytes of its own
  CHECK_EQ(cuFuncSetAttribute(f, 8, bytes - 1024), 0);
  CHECK_EQ(d.launch(f, 1, 32, {0}, static_cast<unsigned>(bytes) - 1023), 1);
  CHECK_EQ(d.launch(f, 1, 32, {0}, static_cast<unsigned>(bytes) - 1024), 0);
}

TEST(driver, capture_records_and_launch_replays) {
  Device d;
  CUfunction f = d.function(d.load(kernel_text(1, kFill)));
  CUdeviceptr p = d.upload(std::vector<uint32_t>(256, 0));
  CUstream a, b;
  CUevent fork, join;
  CHECK_EQ(cuStreamCreate(&a, 1), 0);
  CHECK_EQ(cuStreamCreate(&b, 1), 0);
  CHECK_EQ(cuEventCreate(&fork, 2), 0);
  CHECK_EQ(cuEventCreate(&join, 2), 0);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
  int status = 0;
  CHECK_EQ(cuStreamIsCapturing(a, &status), 0);
  CHECK_EQ(status, 1);
  CHECK_EQ(d.launch(f, 4, 64, {p}, 0, a), 0);
  CHECK_EQ(cuEventRecord(fork, a), 0);
  CHECK_EQ(cuStreamWaitEvent(b, fork, 0), 0);
  CHECK_EQ(d.launch(f, 4, 64, {p}, 0, b), 0);
  CHECK_EQ(cuEventRecord(join, b), 0);
  CHECK_EQ(cuStreamWaitEvent(a, join, 0), 0);
  CUgraph graph;
  CUgraphExec exec;
  CHECK_EQ(cuStreamEndCapture(a, &graph), 0);
  CHECK_EQ(d.download<uint32_t>(p, 1)[0], 0u);  // nothing has run
  CHECK_EQ(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
  CHECK_EQ(cuGraphDestroy(graph), 0);
  CHECK_EQ(cuGraphLaunch(exec, a), 0);
  CHECK_EQ(d.download<uint32_t>(p, 256)[255], 3u);
  CHECK_EQ(cuGraphLaunch(exec, a), 0);
  CHECK_EQ(d.download<uint32_t>(p, 256)[255], 15u);
  CHECK_EQ(cuGraphExecDestroy(exec), 0);
}

TEST(driver, capture_refuses_what_it_must) {
  Device d;
  CUfunction f = d.function(d.load(kernel_text(1, kFill)));
  CUdeviceptr p = d.upload(std::vector<uint32_t>(64, 0));
  CUstream a, b;
  CUevent e;
  CUgraph graph;
  cuStreamCreate(&a, 1);
  cuStreamCreate(&b, 1);
  cuEventCreate(&e, 0);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 1);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
  CHECK_EQ(cuMemAlloc_v2(&p, 64), 900);  // not while a stream is being captured
  CHECK_EQ(d.launch(f, 1, 64, {p}, 0, a), 901);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 901);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
  CHECK_EQ(cuStreamSynchronize(a), 900);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 901);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
  CHECK_EQ(cuEventRecord(e, a), 0);
  CHECK_EQ(cuStreamWaitEvent(b, e, 0), 0);
  CHECK_EQ(d.launch(f, 1, 64, {p}, 0, b), 0);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 904);  // b was never joined
  // What was recorded outside of the capture is no part of its graph.
  CHECK_EQ(cuEventRecord(e, b), 0);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
  CHECK_EQ(cuStreamWaitEvent(a, e, 0), 905);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 0);
  // Thread-local captures forbid unsafe calls to their own thread alone, global ones to all.
  CUcontext context;
  CHECK_EQ(cuDevicePrimaryCtxRetain(&context, 0), 0);
  CUresult elsewhere = 0;
  const auto in_another_thread = [&](auto call) {
    std::thread([&] {
      cuCtxSetCurrent(context);
      elsewhere = call();
    }).join();
    return elsewhere;
  };
  CUdeviceptr spare;
  const auto allocate = [&] { return cuMemAlloc_v2(&spare, 64); };
  CHECK_EQ(cuStreamBeginCapture_v2(a, 1), 0);
  CHECK_EQ(in_another_thread(allocate), 0);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 0);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 1), 0);
  CHECK_EQ(allocate(), 900);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 901);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
  CHECK_EQ(in_another_thread(allocate), 900);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 901);
  // The mode of the thread that calls lets it do more.
  int mode = 3;
  CHECK_EQ(cuThreadExchangeStreamCaptureMode(&mode), 1);
  for (mode = 1; mode <= 2; ++mode) {
    const auto allocate_in_mode = [&] {
      int before = mode;
      CHECK_EQ(cuThreadExchangeStreamCaptureMode(&before), 0);
      CHECK_EQ(before, 0);
      return allocate();
    };
    CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
    CHECK_EQ(in_another_thread(allocate_in_mode), 0);
    CHECK_EQ(cuStreamEndCapture(a, &graph), 0);
  }
  mode = 1;
  cuThreadExchangeStreamCaptureMode(&mode);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 1), 0);
  CHECK_EQ(allocate(), 900);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 901);
  mode = 2;
  cuThreadExchangeStreamCaptureMode(&mode);
  CHECK_EQ(cuStreamBeginCapture_v2(a, 0), 0);
  CHECK_EQ(allocate(), 0);
  CHECK_EQ(cuStreamEndCapture(a, &graph), 0);
  mode = 0;
  cuThreadExchangeStreamCaptureMode(&mode);
  // Nor are modules loaded or unloaded.
  CUmodule module = d.load(kernel_text(1, kFill)), another;
  for (const auto& call :
       {std::function<CUresult()>([&] { return cuModuleUnload(module); }),
        std::function<CUresult()>([&] { return cuModuleLoadData(&another, kernel_text(1, kFill).c_str()); })}) {
    CHECK_EQ(cuStreamBeginCapture_v2(a, 1), 0);
    CHECK_EQ(call(), 900);
    CHECK_EQ(cuStreamEndCapture(a, &graph), 901);
  }
  CHECK_EQ(cuModuleUnload(module), 0);
  cuDevicePrimaryCtxRelease_v2(0);
  CHECK_EQ(d.launch(f, 1, 64, {p}, 0, b), 0);
}

TEST(driver, faults_stay_until_the_context_goes) {
  {
    Device d;
    CUstream s;
    cuStreamCreate(&s, 1);
    // The launch itself goes well: whatever comes next says what happened.
    CHECK_EQ(d.launch(d.function(d.load(kernel_text(1, "ld.global.u32 %r1, [%p0];"))), 1, 1, {64}, 0, s), 0);
    CHECK_REPORT("which is in no allocation");
    CUdeviceptr p;
    CHECK_EQ(cuMemAlloc_v2(&p, 4), 700);
    CHECK_EQ(cuCtxSynchronize(), 700);
  }
  {
    Device d;
    CUstream s;
    CUgraph graph;
    CUgraphExec exec;
    cuStreamCreate(&s, 1);
    CUfunction reads = d.function(d.load(kernel_text(1, "ld.global.u32 %r1, [%p0];")));
    cuStreamBeginCapture_v2(s, 0);
    CHECK_EQ(d.launch(reads, 1, 1, {64}, 0, s), 0);
    CHECK_EQ(cuStreamEndCapture(s, &graph), 0);
    CHECK_EQ(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
    CHECK_EQ(cuGraphLaunch(exec, s), 0);
    CHECK_EQ(cuStreamSynchronize(s), 700);
  }
  Device d;
  CHECK_EQ(cuCtxSynchronize(), 0);
  // The other device has its own memory.
  CUdeviceptr p = d.upload(std::vector<uint32_t>(64, 0));
  CUcontext other;
  cuDevicePrimaryCtxRetain(&other, 1);
  cuCtxSetCurrent(other);
  CUmodule m;
  CHECK_EQ(cuModuleLoadData(&m, kernel_text(1, kFill).c_str()), 0);
  CHECK_EQ(d.launch(d.function(m), 1, 64, {p}), 700);
  cuDevicePrimaryCtxRelease_v2(1);
}

TEST(driver, a_forked_child_is_told_to_initialise) {
  pid_t child = fork();
  if (child == 0) {
    int n;
    _exit(cuDeviceGetCount(&n) == 3 ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  CHECK_EQ(WEXITSTATUS(status), 0);
}

namespace {

template <class T>
void append(std::string* s, T v) {
  s->append(reinterpret_cast<const char*>(&v), sizeof(v));
}

std::string entry(uint16_t kind, uint32_t architecture, const std::string& payload, uint64_t flags = 0x11) {
  std::string s;
  append<uint16_t>(&s, kind);
  append<uint16_t>(&s, 0x101);
  append<uint32_t>(&s, 64);
  std::string body = payload;
  body.resize((payload.size() + 1 + 7) / 8 * 8);
  append<uint64_t>(&s, body.size());
  append<uint32_t>(&s, 0);
  append<uint32_t>(&s, 0);
  append<uint16_t>(&s, 0);
  append<uint16_t>(&s, 9);
  append<uint32_t>(&s, architecture);
  append<uint32_t>(&s, 0);
  append<uint32_t>(&s, 0);
  append<uint64_t>(&s, flags);
  s.resize(64);
  return s + body;
}

std::string fatbin(const std::string& entries) {
  std::string s;
  append<uint32_t>(&s, 0xba55ed50);
  append<uint16_t>(&s, 1);
  append<uint16_t>(&s, 16);
  append<uint64_t>(&s, entries.size());
  return s + entries;
}

}  // namespace

TEST(driver, fatbins) {
  Device d;
  auto kernel = [](const char* name) {
    return module_text(std::string(".visible .entry ") + name + "()\n{\nret;\n}\n");
  };
  CUmodule m;
  CUfunction f;
  // The newest PTX that the device (8.0) can take, machine code passed over.
  std::string image =
      fatbin(entry(2, 80,
                   "\x7f"
                   "ELF") +
             entry(1, 75, kernel("old")) + entry(1, 80, kernel("right")) + entry(1, 90, kernel("newer")));
  CHECK_EQ(cuModuleLoadData(&m, image.data()), 0);
  CHECK_EQ(cuModuleGetFunction(&f, m, "right"), 0);
  CHECK_EQ(cuModuleGetFunction(&f, m, "old"), 500);
  image = fatbin(entry(1, 90, kernel("newer")));
  CHECK_EQ(cuModuleLoadData(&m, image.data()), 209);
  image = fatbin(entry(2, 80,
                       "\x7f"
                       "ELF"));
  CHECK_EQ(cuModuleLoadData(&m, image.data()), 209);
  image = fatbin(entry(1, 80, "compressed", 0x2011));
  CHECK_EQ(cuModuleLoadData(&m, image.data()), 218);
  CHECK_REPORT("--no-compress");
  char log[100] = {};
  int options[] = {5, 6};
  void* values[] = {log, reinterpret_cast<void*>(sizeof(log))};
  CHECK_EQ(cuModuleLoadDataEx(&m, module_text(".entry k() { gulp; }").c_str(), 2, options, values), 218);
  CHECK(std::string(log).find("gulp") != std::string::npos);
}
