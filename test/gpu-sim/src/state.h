// Everything the driver knows: devices, contexts, streams, events, graphs, settings.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "api.h"
#include "counters.h"
#include "module.h"

namespace gpusim {

/// What differs between GPUs as far as the simulator goes.
struct Capability {
  int major, minor;
  uint32_t shared_kib;  // of shared memory, the most that a block may ask for
  uint32_t shared_bytes() const { return shared_kib << 10; }
};

/// From the environment, read at cuInit (README.md lists the names).
struct Settings {
  int devices = 1, multiprocessors = 108;
  uint64_t memory = 40ull << 30;
  Capability capability{};
  int threads = 1;
  int driver_version = 13000;         // as cuDriverGetVersion gives it
  uint64_t fail_init = 0;             // the error of cuInit; 0: none
  uint64_t fail_context = 0;          // the error of whoever asks for a device's context; 0: none
  uint64_t fail_allocation = 0;       // the n-th allocation from now fails; 0: none
  uint64_t fail_host_allocation = 0;  // as does that of pinned memory
  uint64_t fail_graph = 0;            // the n-th graph from now finds no memory; 0: none
  uint64_t fail_launch = 0;           // the n-th kernel launch from now faults; 0: none
  uint64_t instruction_limit = 1ull << 33;
  Checks checks;
  bool reads_all_kernels = true;  // when a module is loaded; else each when it is first asked for
  std::string report_file, counters_file, trace_file;
};

struct Capture;

struct Stream {
  std::shared_ptr<Capture> capture;  // being captured
  unsigned flags = 0;
  int number = 0;  // counted through all streams; the null stream has 0
};

constexpr int kCaptureModeGlobal = 0, kCaptureModeRelaxed = 2;  // 1: thread-local

/// Work recorded in submission order, which is one of the orders that the graph's edges allow.
struct Capture {
  Stream* origin = nullptr;
  int mode = kCaptureModeGlobal;
  std::thread::id thread;  // that began it
  bool invalid = false;
  std::vector<std::function<CUresult()>> work;
  std::map<Stream*, size_t> last;                      // work items each stream has waited for or done
  std::map<Stream*, std::map<Stream*, size_t>> knows;  // per stream: up to where it is ordered behind another
};

struct Event {
  int number = 0;  // counted through all events
  bool recorded = false;
  std::chrono::steady_clock::time_point when;
  std::shared_ptr<Capture> capture;  // recorded while capturing
  std::map<Stream*, size_t> knows;
};

struct Graph {
  std::vector<std::function<CUresult()>> work;
};

struct LoadedModule;

struct LoadedFunction {
  Kernel* kernel;
  LoadedModule* module;
};

struct LoadedModule {
  std::unique_ptr<Module> module;
  std::map<std::string, std::unique_ptr<LoadedFunction>> functions;
};

struct Device;

struct Context {
  Device* device = nullptr;
  int retained = 0;
  int sticky = 0;  // the first kernel fault; every later call returns it
  std::map<void*, std::unique_ptr<LoadedModule>> modules;
  std::map<void*, std::unique_ptr<Stream>> streams;
  std::map<void*, std::unique_ptr<Event>> events;
  Stream null_stream;
};

struct Device {
  int index = 0;
  std::unique_ptr<DeviceMemory> memory;
  Context primary;
};

struct State {
  std::mutex mutex;
  bool initialized = false;
  int pid = 0;
  Settings settings;
  std::vector<std::unique_ptr<Device>> devices;
  std::map<void*, std::unique_ptr<Graph>> graphs, executables;
  std::set<void*> host_memory;
  Counters counters;
  uint32_t sample = 0;  // kotodama_sim_sample_blocks
  std::string last_report;
  int streams_made = 0, events_made = 0;
};

State& state();

/// Reads the environment. False if a value makes no sense (the report says which).
bool read_settings(Settings* out);

/// Keeps a report and writes it to KOTODAMA_SIM_REPORT or stderr.
void publish_report(const std::string& text);

/// Adds a line to KOTODAMA_SIM_TRACE: a call, and the stream, event and bytes that it was given.
void trace(const std::string& call, const Stream* stream, const Event* event = nullptr, size_t bytes = 0);

/// The calling thread's current context.
Context*& current_context();

CUresult enter(Context** out);

/// Runs one API call under the lock, after the checks that every call makes. `f` gets the current context.
template <class F>
CUresult with_context(F f) {
  std::lock_guard<std::mutex> lock(state().mutex);
  Context* c = nullptr;
  CUresult r = enter(&c);
  if (r) return r;
  try {
    return f(*c);
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  } catch (const std::exception& e) {
    publish_report(e.what());
    return kUnknown;
  }
}

/// As above for calls that need cuInit but no context.
CUresult enter_driver();
template <class F>
CUresult with_driver(F f) {
  std::lock_guard<std::mutex> lock(state().mutex);
  CUresult r = enter_driver();
  if (r) return r;
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  }
}

/// The stream behind a handle: null, legacy (1) and per-thread (2) handles mean the null stream. Null if unknown.
Stream* find_stream(Context& c, CUstream h);
/// Runs work now, or records it if the stream is being captured. A fault of a kernel is left to the next call.
CUresult submit(Context& c, CUstream stream, std::function<CUresult()> work);
/// For calls that a capture forbids (allocation, synchronous copies, modules): one in global mode to all threads, a
/// thread-local one to the thread that began it, a relaxed one to none.
CUresult refuse_in_capture(Context& c);

/// As with_context, for such calls.
template <class F>
CUresult outside_capture(F f) {
  return with_context([&](Context& c) -> CUresult {
    const CUresult r = refuse_in_capture(c);
    return r ? r : f(c);
  });
}

/// Looks a driver function up by its name without version suffix; null if the simulator has none.
void* find_driver_function(const std::string& name);

}  // namespace gpusim
