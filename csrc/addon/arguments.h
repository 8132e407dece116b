#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

// Reads what JavaScript passed. Every function throws Error(kOptions) that says what was expected and what was found.

namespace kotodama {

Napi::Object RequireObject(const Napi::Value& value, const std::string& name);
double RequireNumber(const Napi::Value& value, const std::string& name);
// An integer from `least` to `most`, which are at most 2^53.
int64_t RequireInteger(const Napi::Value& value, const std::string& name, int64_t least, int64_t most);
bool RequireBoolean(const Napi::Value& value, const std::string& name);
std::string RequireString(const Napi::Value& value, const std::string& name);
std::vector<std::string> RequireStrings(const Napi::Value& value, const std::string& name);
// Copies, so that JavaScript may reuse its array while the work runs.
std::vector<int32_t> RequireIds(const Napi::Value& value, const std::string& name);
std::vector<float> RequireFloats(const Napi::Value& value, const std::string& name);
// A Float32Array of this many elements, to be written to.
Napi::Float32Array RequireRoom(const Napi::Value& value, const std::string& name, size_t size);

// A new one. Error(kMemory) where there is no memory for it; Napi's own way would end the process.
Napi::Float32Array NewFloats(Napi::Env env, size_t size);

// The property `key` of an object called `name`.
double NumberIn(const Napi::Object& object, const std::string& name, const char* key);
int64_t IntegerIn(const Napi::Object& object, const std::string& name, const char* key, int64_t least, int64_t most);
bool BooleanIn(const Napi::Object& object, const std::string& name, const char* key);
std::string StringIn(const Napi::Object& object, const std::string& name, const char* key);

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

}  // namespace kotodama
