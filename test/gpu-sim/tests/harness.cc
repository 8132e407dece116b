#include "harness.h"

#include <cstdlib>

namespace test {

namespace {

int failures = 0;

}  // namespace

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

void fail(const char* file, int line, const std::string& message) {
  ++failures;
  std::printf("    %s:%d: %s\n", std::strrchr(file, '/') ? std::strrchr(file, '/') + 1 : file, line, message.c_str());
}

void check_report(const char* file, int line, const std::string& part) {
  std::string report = kotodama_sim_last_report();
  if (report.find(part) == std::string::npos) fail(file, line, "the report lacks '" + part + "':\n" + report);
}

Device::Device() {
  CUcontext c;
  cuDevicePrimaryCtxRetain(&c, 0);
  cuCtxSetCurrent(c);
}

Device::~Device() {
  cuDevicePrimaryCtxReset_v2(0);
  cuDevicePrimaryCtxRelease_v2(0);
}

CUdeviceptr Device::allocate(size_t bytes) {
  CUdeviceptr p = 0;
  if (cuMemAlloc_v2(&p, bytes)) fail(__FILE__, __LINE__, "allocation of " + std::to_string(bytes) + " bytes failed");
  return p;
}

CUmodule Device::load(const std::string& ptx) {
  CUmodule m = nullptr;
  CUresult r = cuModuleLoadData(&m, ptx.c_str());
  if (r)
    fail(__FILE__, __LINE__,
         "module does not load (" + std::to_string(r) + "): " + kotodama_sim_last_report() + "\n" + ptx);
  return m;
}

CUfunction Device::function(CUmodule m, const char* name) {
  CUfunction f = nullptr;
  if (m && cuModuleGetFunction(&f, m, name)) fail(__FILE__, __LINE__, std::string("no function ") + name);
  return f;
}

CUresult Device::launch(CUfunction f, unsigned grid, unsigned block, const std::vector<uint64_t>& params,
                        unsigned shared, CUstream s) {
  std::vector<uint64_t> values = params;
  std::vector<void*> pointers;
  for (auto& v : values) pointers.push_back(&v);
  const CUresult r = cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, s, pointers.data(), nullptr);
  return r || s ? r : cuCtxSynchronize();
}

std::string module_text(const std::string& body) {
  return ".version 7.8\n.target sm_80\n.address_size 64\n" + body;
}

std::string kernel_text(int params, const std::string& body, const std::string& before) {
  std::string s = before + ".visible .entry k(";
  for (int i = 0; i < params; ++i) s += std::string(i ? ", " : "") + ".param .u64 k_" + std::to_string(i);
  s += ")\n{\n.reg .b64 %p<8>;\n.reg .b32 %r<64>;\n.reg .b64 %rd<32>;\n.reg .f32 %f<32>;\n.reg .f64 %fd<8>;\n.reg .b16 "
       "%h<16>;\n.reg .pred %q<8>;\n";
  for (int i = 0; i < params; ++i) s += "ld.param.u64 %p" + std::to_string(i) + ", [k_" + std::to_string(i) + "];\n";
  s += "mov.u32 %r0, %tid.x;\n";
  return module_text(s + body + "\nret;\n}\n");
}

std::vector<uint64_t> apply_bits(const std::string& statement, int result_bytes,
                                 const std::vector<std::vector<uint64_t>>& inputs, const std::vector<int>& bytes) {
  static const char* const kNames[] = {"a", "b", "c", "e"};
  const size_t n = inputs[0].size();
  auto type = [](int b) { return ".b" + std::to_string(8 * b); };
  std::string body = ".reg " + type(result_bytes) + " d;\n";
  for (size_t i = 0; i < inputs.size(); ++i) body += ".reg " + type(bytes[i]) + " " + kNames[i] + ";\n";
  for (size_t i = 0; i < inputs.size(); ++i) {
    body += "mad.wide.u32 %rd1, %r0, " + std::to_string(bytes[i]) + ", %p" + std::to_string(i + 1) + ";\nld.global" +
            type(bytes[i]) + " " + kNames[i] + ", [%rd1];\n";
  }
  body += statement + "\nmad.wide.u32 %rd2, %r0, " + std::to_string(result_bytes) + ", %p0;\nst.global" +
          type(result_bytes) + " [%rd2], d;";
  Device d;
  auto pack = [](const std::vector<uint64_t>& v, int b) {
    std::vector<uint8_t> out(v.size() * static_cast<size_t>(b));
    for (size_t i = 0; i < v.size(); ++i) std::memcpy(&out[i * static_cast<size_t>(b)], &v[i], static_cast<size_t>(b));
    return out;
  };
  std::vector<uint64_t> params{d.allocate(n * static_cast<size_t>(result_bytes))};
  for (size_t i = 0; i < inputs.size(); ++i) params.push_back(d.upload(pack(inputs[i], bytes[i])));
  CUfunction f = d.function(d.load(kernel_text(static_cast<int>(params.size()), body)));
  if (!f) return std::vector<uint64_t>(n, 0xdeadbeef);
  CUresult r = d.launch(f, 1, static_cast<unsigned>(n), params);
  if (r) fail(__FILE__, __LINE__, statement + " failed: " + kotodama_sim_last_report());
  std::vector<uint8_t> raw = d.download<uint8_t>(params[0], n * static_cast<size_t>(result_bytes));
  std::vector<uint64_t> out(n, 0);
  for (size_t i = 0; i < n; ++i)
    std::memcpy(&out[i], &raw[i * static_cast<size_t>(result_bytes)], static_cast<size_t>(result_bytes));
  return out;
}

}  // namespace test

// Usage: sim_test [group]
int main(int argc, char** argv) {
  setenv("KOTODAMA_SIM_REPORT", "/dev/null", 1);
  setenv("KOTODAMA_SIM_MEMORY", "64M", 1);
  setenv("KOTODAMA_SIM_DEVICES", "2", 1);
  setenv("KOTODAMA_SIM_INSTRUCTION_LIMIT", "2M", 1);
  if (cuInit(0)) {
    std::printf("cuInit failed\n");
    return 1;
  }
  int ran = 0;
  for (const auto& c : test::cases()) {
    if (argc > 1 && std::string(argv[1]) != c.group) continue;
    const int before = test::failures;
    c.run();
    ++ran;
    std::printf("%s %s.%s\n", test::failures == before ? "ok" : "FAILED", c.group, c.name);
  }
  std::printf("%d cases, %d failures\n", ran, test::failures);
  return test::failures || !ran ? 1 : 0;
}
