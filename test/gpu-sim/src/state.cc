#include "state.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

namespace gpusim {

// Never destroyed: other libraries' exit handlers may still call the driver.
State& state() {
  static State* s = new State;
  return *s;
}

Context*& current_context() {
  static thread_local Context* c = nullptr;
  return c;
}

namespace {

bool number(const char* name, uint64_t* out) {
  const char* s = std::getenv(name);
  if (!s || !*s) return true;
  char* end = nullptr;
  uint64_t v = std::strtoull(s, &end, 10);
  switch (*end) {
    case 'K':
      v <<= 10;
      ++end;
      break;
    case 'M':
      v <<= 20;
      ++end;
      break;
    case 'G':
      v <<= 30;
      ++end;
      break;
  }
  if (end == s || *end) {
    publish_report(std::string(name) + "='" + s + "' is not a number (K, M and G may follow it)");
    return false;
  }
  *out = v;
  return true;
}

std::string text(const char* name) {
  const char* s = std::getenv(name);
  return s ? s : "";
}

// CUDA Programming Guide, "Technical Specifications per Compute Capability".
constexpr Capability kCapabilities[] = {{7, 5, 64},   {8, 0, 163},  {8, 6, 99},   {8, 7, 163}, {8, 9, 99}, {9, 0, 227},
                                        {10, 0, 227}, {10, 3, 227}, {11, 0, 227}, {12, 0, 99}, {12, 1, 99}};

bool capability(const std::string& wanted, Capability* out) {
  std::string known;
  for (const Capability& c : kCapabilities) {
    const std::string name = std::to_string(c.major) + "." + std::to_string(c.minor);
    if (name == (wanted.empty() ? "8.0" : wanted)) {
      *out = c;
      return true;
    }
    known += (known.empty() ? "" : ", ") + name;
  }
  publish_report("KOTODAMA_SIM_CAPABILITY='" + wanted + "' is none of " + known);
  return false;
}

}  // namespace

bool read_settings(Settings* out) {
  out->report_file = text("KOTODAMA_SIM_REPORT");
  out->counters_file = text("KOTODAMA_SIM_COUNTERS");
  out->trace_file = text("KOTODAMA_SIM_TRACE");
  uint64_t devices = 1, multiprocessors = static_cast<uint64_t>(out->multiprocessors);
  uint64_t threads = std::max(1u, std::thread::hardware_concurrency());
  uint64_t driver_version = static_cast<uint64_t>(out->driver_version);
  if (!number("KOTODAMA_SIM_DEVICES", &devices) || !number("KOTODAMA_SIM_MEMORY", &out->memory) ||
      !number("KOTODAMA_SIM_MULTIPROCESSORS", &multiprocessors) || !number("KOTODAMA_SIM_THREADS", &threads) ||
      !number("KOTODAMA_SIM_FAIL_INIT", &out->fail_init) || !number("KOTODAMA_SIM_FAIL_CONTEXT", &out->fail_context) ||
      !number("KOTODAMA_SIM_FAIL_ALLOC", &out->fail_allocation) ||
      !number("KOTODAMA_SIM_FAIL_HOST_ALLOC", &out->fail_host_allocation) ||
      !number("KOTODAMA_SIM_FAIL_GRAPH", &out->fail_graph) || !number("KOTODAMA_SIM_FAIL_LAUNCH", &out->fail_launch) ||
      !number("KOTODAMA_SIM_DRIVER_VERSION", &driver_version) ||
      !number("KOTODAMA_SIM_INSTRUCTION_LIMIT", &out->instruction_limit)) {
    return false;
  }
  out->devices = static_cast<int>(devices);
  out->multiprocessors = std::max(1, static_cast<int>(multiprocessors));
  out->driver_version = static_cast<int>(driver_version);
  out->threads = std::max(1, static_cast<int>(threads));
  if (!capability(text("KOTODAMA_SIM_CAPABILITY"), &out->capability)) return false;
  std::string checks = text("KOTODAMA_SIM_CHECKS");
  if (checks == "none") {
    out->checks = {false, false};
    out->reads_all_kernels = false;
  } else if (checks == "uninitialised") {
    out->checks = {true, false};
  } else if (checks == "races") {
    out->checks = {false, true};
  } else if (!checks.empty() && checks != "all") {
    publish_report("KOTODAMA_SIM_CHECKS='" + checks + "' is none of all, none, uninitialised, races");
    return false;
  }
  return true;
}

void publish_report(const std::string& report) {
  State& s = state();
  s.last_report = report;
  const char* file = std::getenv("KOTODAMA_SIM_REPORT");
  if (file && *file) {
    std::ofstream(file, std::ios::app) << report << "\n";
  } else {
    std::cerr << "gpu-sim: " << report << std::endl;
  }
}

void trace(const std::string& call, const Stream* stream, const Event* event, size_t bytes) {
  const std::string& file = state().settings.trace_file;
  if (file.empty()) return;
  std::ofstream out(file, std::ios::app);
  out << call;
  if (stream != nullptr) out << " stream" << stream->number;
  if (event != nullptr) out << " event" << event->number;
  if (bytes > 0) out << " " << bytes << " bytes";
  out << "\n";
}

CUresult enter_driver() {
  State& s = state();
  // As with the real driver, a forked child cannot use what its parent set up.
  if (!s.initialized || s.pid != getpid()) return kNotInitialized;
  return kSuccess;
}

CUresult enter(Context** out) {
  CUresult r = enter_driver();
  if (r) return r;
  Context* c = current_context();
  if (!c || !c->retained) return kInvalidContext;
  if (c->sticky) return c->sticky;
  *out = c;
  return kSuccess;
}

}  // namespace gpusim
