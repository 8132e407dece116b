// A loaded module: its PTX, its variables in device memory, its kernels ready to run.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "ast.h"
#include "device_memory.h"
#include "ir.h"

namespace gpusim {

struct Module {
  struct Variable {
    uint64_t address = 0;
    uint64_t size = 0;
  };
  Ast ast;
  std::string text;
  std::unordered_map<std::string, Variable> variables;  // .global and .const
  DeviceMemory* memory = nullptr;

  ~Module();
  /// The entry of this name, ready to run; null if there is none. It is read when it is first asked for. Throws
  /// LoadError.
  Kernel* kernel(const std::string& name);
  /// The text of one PTX line, trimmed.
  std::string line(uint32_t number) const;

 private:
  std::map<std::string, std::unique_ptr<Kernel>> kernels_;
};

/// Parses PTX and places its variables in device memory; reads every entry, too, if `whole`. Throws LoadError.
std::unique_ptr<Module> load_module(std::string text, DeviceMemory* memory, bool whole);

/// One entry function, with what it calls inlined.
std::unique_ptr<Kernel> translate(const Module& module, const Function& entry);

}  // namespace gpusim
