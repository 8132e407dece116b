#pragma once

#include <stdexcept>
#include <string>

namespace kotodama {

// What went wrong, as lib/errors.ts names it.
enum class ErrorCode { kOptions, kBusy, kDisposed, kMemory, kDevice };

inline const char* NameOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOptions:
      return "ERR_OPTIONS";
    case ErrorCode::kBusy:
      return "ERR_BUSY";
    case ErrorCode::kDisposed:
      return "ERR_DISPOSED";
    case ErrorCode::kMemory:
      return "ERR_MEMORY";
    case ErrorCode::kDevice:
      return "ERR_DEVICE";
  }
  return "ERR_DEVICE";
}

// Every failure of the core. The addon turns it into a JavaScript error with the same code.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace kotodama
