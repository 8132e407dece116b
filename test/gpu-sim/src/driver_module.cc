// Modules, functions, launches (CUDA Driver API, sections 6.12, 6.22).
#include <algorithm>
#include <cstring>

#include "error.h"
#include "fatbin.h"
#include "run.h"
#include "state.h"

using namespace gpusim;

namespace {

LoadedModule* find_module(Context& c, CUmodule h) {
  auto it = c.modules.find(h);
  return it == c.modules.end() ? nullptr : it->second.get();
}

LoadedFunction* find_function(Context& c, CUfunction h) {
  for (auto& m : c.modules) {
    for (auto& f : m.second->functions) {
      if (reinterpret_cast<CUfunction>(f.second.get()) == h) return f.second.get();
    }
  }
  return nullptr;
}

// The newest PTX that a driver takes, as 10 * major + minor (PTX ISA, "Release Notes", table of releases).
int newest_ptx(int driver_version) {
  const int major = driver_version / 1000, minor = driver_version % 1000 / 10;
  // No PTX came with CUDA 12.6.
  return 10 * (major - 4) + (major == 12 && minor > 5 ? minor - 1 : minor);
}

// Options of cuModuleLoadDataEx that carry messages back.
constexpr int kErrorLogBuffer = 5, kErrorLogSize = 6;

CUresult load(Context& c, CUmodule* out, const void* image, unsigned count, int* options, void** values) {
  if (!out || !image) return kInvalidValue;
  const Settings& s = state().settings;
  try {
    auto images = ptx_images(image);
    const int device = s.capability.major * 10 + s.capability.minor;
    const PtxImage* best = nullptr;
    for (const auto& i : images) {
      if (i.target <= device && (!best || i.target > best->target)) best = &i;
    }
    if (!best) {
      publish_report(images.empty() ? "the fatbin holds no PTX" : "the fatbin's PTX is for newer devices only");
      return kNoBinaryForGpu;
    }
    auto loaded = std::make_unique<LoadedModule>();
    loaded->module = load_module(best->text, c.device->memory.get(), s.reads_all_kernels);
    const int version = loaded->module->ast.version_major * 10 + loaded->module->ast.version_minor;
    if (version > newest_ptx(s.driver_version)) {
      publish_report("the PTX has version " + std::to_string(version / 10) + "." + std::to_string(version % 10) +
                     ", which is too new for this driver");
      return kUnsupportedPtx;
    }
    if (loaded->module->ast.target > device) {
      publish_report("the PTX is for sm_" + std::to_string(loaded->module->ast.target) + ", the device is sm_" +
                     std::to_string(device));
      return kNoBinaryForGpu;
    }
    void* handle = loaded.get();
    c.modules[handle] = std::move(loaded);
    *out = static_cast<CUmodule>(handle);
    return kSuccess;
  } catch (const LoadError& e) {
    publish_report(e.what());
    char* log = nullptr;
    size_t size = 0;
    for (unsigned i = 0; i < count; ++i) {
      if (options[i] == kErrorLogBuffer) log = static_cast<char*>(values[i]);
      if (options[i] == kErrorLogSize) size = reinterpret_cast<size_t>(values[i]) & 0xffffffffu;
    }
    if (log && size) {
      std::strncpy(log, e.what(), size - 1);
      log[size - 1] = 0;
    }
    return kInvalidPtx;
  }
}

CUresult execute(Context& c, const std::shared_ptr<Launch>& launch) {
  if (c.sticky) return c.sticky;
  State& s = state();
  launch->checks = s.settings.checks;
  launch->sample = s.sample;
  uint64_t& countdown = s.settings.fail_launch;
  if (countdown && --countdown == 0) {
    c.sticky = kIllegalAddress;
    publish_report("kernel " + launch->kernel->name + ": fails as KOTODAMA_SIM_FAIL_LAUNCH says");
    return c.sticky;
  }
  Outcome o = run_launch(*launch, s.settings.threads);
  s.counters.add(*launch, o);
  if (o.code) {
    c.sticky = o.code;
    publish_report(o.report);
  }
  return o.code;
}

// Parameters from an array of pointers or from a packed buffer (the `extra` list: 1 pointer, 2 size, 0 end).
CUresult gather_params(const Kernel& k, void** params, void** extra, std::vector<uint8_t>* out) {
  out->assign(k.param_bytes, 0);
  if (extra) {
    const void* buffer = nullptr;
    size_t size = 0;
    for (size_t i = 0; extra[i]; i += 2) {
      if (extra[i] == reinterpret_cast<void*>(1)) buffer = extra[i + 1];
      if (extra[i] == reinterpret_cast<void*>(2)) size = *static_cast<size_t*>(extra[i + 1]);
    }
    if (params || !buffer || size < k.param_bytes) return kInvalidValue;
    std::memcpy(out->data(), buffer, k.param_bytes);
    return kSuccess;
  }
  if (!params) return k.params.empty() ? kSuccess : kInvalidValue;
  for (size_t i = 0; i < k.params.size(); ++i) {
    if (!params[i]) return kInvalidValue;
    std::memcpy(out->data() + k.params[i].offset, params[i], k.params[i].size);
  }
  return kSuccess;
}

}  // namespace

GPUSIM_API CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, int* options,
                                       void** values) {
  return outside_capture([&](Context& c) { return load(c, module, image, count, options, values); });
}

GPUSIM_API CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

GPUSIM_API CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

GPUSIM_API CUresult cuModuleUnload(CUmodule module) {
  return outside_capture([&](Context& c) -> CUresult { return c.modules.erase(module) ? kSuccess : kInvalidHandle; });
}

GPUSIM_API CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return with_context([&](Context& c) -> CUresult {
    if (!function || !name) return kInvalidValue;
    LoadedModule* m = find_module(c, module);
    if (!m) return kInvalidHandle;
    Kernel* kernel = nullptr;
    try {
      kernel = m->module->kernel(name);
    } catch (const LoadError& e) {
      publish_report(e.what());
      return kInvalidPtx;
    }
    if (kernel == nullptr) return kNotFound;
    std::unique_ptr<LoadedFunction>& loaded = m->functions[name];
    if (!loaded) loaded = std::make_unique<LoadedFunction>(LoadedFunction{kernel, m});
    *function = reinterpret_cast<CUfunction>(loaded.get());
    return kSuccess;
  });
}

GPUSIM_API CUresult cuModuleGetGlobal_v2(CUdeviceptr* p, size_t* bytes, CUmodule module, const char* name) {
  return with_context([&](Context& c) -> CUresult {
    LoadedModule* m = find_module(c, module);
    if (!m) return kInvalidHandle;
    if (!name) return kInvalidValue;
    auto it = m->module->variables.find(name);
    if (it == m->module->variables.end()) return kNotFound;
    if (p) *p = it->second.address;
    if (bytes) *bytes = it->second.size;
    return kSuccess;
  });
}

GPUSIM_API CUresult cuFuncSetAttribute(CUfunction function, int a, int value) {
  return with_context([&](Context& c) -> CUresult {
    LoadedFunction* f = find_function(c, function);
    if (!f) return kInvalidHandle;
    if (a == 9) return value >= -1 && value <= 100 ? kSuccess : kInvalidValue;  // PREFERRED_SHARED_MEMORY_CARVEOUT
    if (a != 8 || value < 0 ||
        f->kernel->shared_bytes + static_cast<uint32_t>(value) > state().settings.capability.shared_bytes())
      return kInvalidValue;
    f->kernel->max_dynamic_shared = static_cast<uint32_t>(value);
    return kSuccess;
  });
}

GPUSIM_API CUresult cuFuncGetAttribute(int* value, int a, CUfunction function) {
  return with_context([&](Context& c) -> CUresult {
    LoadedFunction* f = find_function(c, function);
    if (!f) return kInvalidHandle;
    if (!value) return kInvalidValue;
    const Kernel& k = *f->kernel;
    const Ast& ast = f->module->module->ast;
    switch (a) {
      case 0:
        *value = static_cast<int>(k.max_threads);
        break;
      case 1:
        *value = static_cast<int>(k.shared_bytes);
        break;
      case 2:
        *value = 0;
        break;
      case 3:
        *value = static_cast<int>(k.local_bytes);
        break;
      case 4:
        *value = static_cast<int>(std::min(255u, k.live_registers));
        break;
      case 5:
        *value = ast.version_major * 10 + ast.version_minor;
        break;
      case 6:
        *value = ast.target;
        break;
      case 8:
        *value = static_cast<int>(k.max_dynamic_shared);
        break;
      default:
        return kInvalidValue;
    }
    return kSuccess;
  });
}

GPUSIM_API CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                   unsigned bz, unsigned dynamic, CUstream stream, void** params, void** extra) {
  return with_context([&](Context& c) -> CUresult {
    LoadedFunction* f = find_function(c, function);
    if (!f) return kInvalidHandle;
    const Kernel& k = *f->kernel;
    const uint64_t threads = static_cast<uint64_t>(bx) * by * bz;
    if (!gx || !gy || !gz || !threads || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || bx > 1024 || by > 1024 ||
        bz > 64)
      return kInvalidValue;
    if (threads > 1024 || threads > k.max_threads) return kInvalidValue;
    if (dynamic > k.max_dynamic_shared) return kInvalidValue;
    auto launch = std::make_shared<Launch>();
    launch->kernel = &k;
    launch->grid = {gx, gy, gz};
    launch->block = {bx, by, bz};
    launch->dynamic_shared = dynamic;
    launch->memory = c.device->memory.get();
    launch->instruction_limit = state().settings.instruction_limit;
    CUresult r = gather_params(k, params, extra, &launch->params);
    if (r) return r;
    trace("cuLaunchKernel", find_stream(c, stream));
    return submit(c, stream, [&c, launch] { return execute(c, launch); });
  });
}
