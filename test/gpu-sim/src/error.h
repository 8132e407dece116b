// Failures while loading a module: unknown syntax, unknown instruction, unsupported modifier.
#pragma once

#include <stdexcept>
#include <string>

namespace gpusim {

/// PTX that the simulator cannot load. `line` is the line in the PTX text, 0 if none applies.
class LoadError : public std::runtime_error {
 public:
  LoadError(int line, const std::string& message)
      : std::runtime_error(line ? "PTX line " + std::to_string(line) + ": " + message : message) {}
};

}  // namespace gpusim
