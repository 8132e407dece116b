#include "module.h"

#include <algorithm>
#include <sstream>

#include "error.h"
#include "parser.h"

namespace gpusim {

namespace {

void store_init(Module& m, const VarDecl& v) {
  uint64_t at = m.variables[v.name].address;
  const int size = size_of(v.type);
  uint64_t end = at + m.variables[v.name].size;
  for (const InitValue& i : v.init) {
    uint64_t bits = i.bits;
    if (!i.symbol.empty()) {
      auto it = m.variables.find(i.symbol);
      if (it == m.variables.end())
        throw LoadError(v.line, "initialiser names '" + i.symbol + "', which is not a variable");
      bits += it->second.address;
    }
    if (at + size > end) throw LoadError(v.line, "'" + v.name + "' has too many initial values");
    std::memcpy(reinterpret_cast<void*>(at), &bits, size);
    at += size;
  }
}

}  // namespace

Module::~Module() {
  for (auto& v : variables) memory->release(v.second.address);
}

std::string Module::line(uint32_t number) const {
  std::istringstream in(text);
  std::string s;
  for (uint32_t i = 0; i < number && std::getline(in, s); ++i) {
  }
  s.erase(0, s.find_first_not_of(" \t"));
  return s;
}

Kernel* Module::kernel(const std::string& name) {
  const auto known = kernels_.find(name);
  if (known != kernels_.end()) return known->second.get();
  const auto found = ast.functions.find(name);
  if (found == ast.functions.end() || !found->second.entry || !found->second.defined) return nullptr;
  parse_body(ast, found->second);
  return (kernels_[name] = translate(*this, found->second)).get();
}

std::unique_ptr<Module> load_module(std::string text, DeviceMemory* memory, bool whole) {
  auto m = std::make_unique<Module>();
  m->memory = memory;
  m->text = std::move(text);
  m->ast = parse_ptx(m->text);
  for (const VarDecl& v : m->ast.variables) {
    if (v.space != Space::kGlobal && v.space != Space::kConst) continue;
    if (v.external) throw LoadError(v.line, "external variable '" + v.name + "': modules are not linked");
    Module::Variable placed;
    placed.size = std::max<uint64_t>(v.bytes(), 1);
    placed.address = memory->allocate(placed.size);
    if (!placed.address) throw std::bad_alloc();
    // Variables without an initialiser start as zero (PTX ISA 5.4.4).
    memory->mark_written(placed.address, placed.size);
    m->variables[v.name] = placed;
  }
  for (const VarDecl& v : m->ast.variables) {
    if (v.space == Space::kGlobal || v.space == Space::kConst) store_init(*m, v);
  }
  for (auto& f : m->ast.functions) {
    if (!f.second.entry && f.second.defined) parse_body(m->ast, f.second);
  }
  if (whole) {
    for (const auto& f : m->ast.functions) m->kernel(f.first);
  }
  return m;
}

}  // namespace gpusim
