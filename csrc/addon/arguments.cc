#include "addon/arguments.h"

#include <cmath>

#include "error.h"

namespace kotodama {
namespace {

// "the number 1.5", "the string 'abc'", "undefined".
std::string Describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number:
      return "the number " + value.ToString().Utf8Value();
    case napi_string:
      return "the string '" + value.As<Napi::String>().Utf8Value() + "'";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return value.IsArray() ? "an array" : value.IsTypedArray() ? "a typed array of another type" : "an object";
  }
}

[[noreturn]] void Refuse(const std::string& name, const std::string& expected, const std::string& received) {
  throw Error(ErrorCode::kOptions, name + ": expected " + expected + ", received " + received);
}

[[noreturn]] void Refuse(const std::string& name, const std::string& expected, const Napi::Value& value) {
  Refuse(name, expected, Describe(value));
}

template <typename Array>
Array RequireTypedArray(const Napi::Value& value, const std::string& name, napi_typedarray_type type,
                        const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) Refuse(name, expected, value);
  return value.As<Array>();
}

}  // namespace

Napi::Object RequireObject(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject() || value.IsFunction() || value.IsArray() || value.IsTypedArray()) {
    Refuse(name, "an object", value);
  }
  return value.As<Napi::Object>();
}

double RequireNumber(const Napi::Value& value, const std::string& name) {
  if (!value.IsNumber()) Refuse(name, "a number", value);
  return value.As<Napi::Number>().DoubleValue();
}

int64_t RequireInteger(const Napi::Value& value, const std::string& name, int64_t least, int64_t most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");  // in no range
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)) || std::floor(number) != number) {
    Refuse(name, "an integer from " + std::to_string(least) + " to " + std::to_string(most), value);
  }
  return static_cast<int64_t>(number);
}

bool RequireBoolean(const Napi::Value& value, const std::string& name) {
  if (!value.IsBoolean()) Refuse(name, "true or false", value);
  return value.As<Napi::Boolean>().Value();
}

std::string RequireString(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) Refuse(name, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

std::vector<std::string> RequireStrings(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) Refuse(name, "an array of strings", value);
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    strings.push_back(RequireString(array.Get(i), name + "[" + std::to_string(i) + "]"));
  }
  return strings;
}

std::vector<int32_t> RequireIds(const Napi::Value& value, const std::string& name) {
  const auto array = RequireTypedArray<Napi::Int32Array>(value, name, napi_int32_array, "an Int32Array");
  return {array.Data(), array.Data() + array.ElementLength()};
}

std::vector<float> RequireFloats(const Napi::Value& value, const std::string& name) {
  const auto array = RequireTypedArray<Napi::Float32Array>(value, name, napi_float32_array, "a Float32Array");
  return {array.Data(), array.Data() + array.ElementLength()};
}

Napi::Float32Array RequireRoom(const Napi::Value& value, const std::string& name, size_t size) {
  const auto array = RequireTypedArray<Napi::Float32Array>(value, name, napi_float32_array, "a Float32Array");
  const size_t found = array.ElementLength();
  if (found != size) {
    Refuse(name, "a Float32Array of " + std::to_string(size) + " elements", "one of " + std::to_string(found));
  }
  return array;
}

Napi::Float32Array NewFloats(Napi::Env env, size_t size) {
  const auto constructor = env.Global().Get("Float32Array").As<Napi::Function>();
  Napi::Value array;
  try {
    array = constructor.New({Napi::Number::New(env, static_cast<double>(size))});
  } catch (const Napi::Error&) {
    const std::string size_text = std::to_string(size) + " numbers, " + std::to_string(size * sizeof(float)) + " bytes";
    throw Error(ErrorCode::kMemory, "there is no memory for a result of " + size_text +
                                        "\n  hint: let go of arrays that are not needed any more, or use a smaller "
                                        "batch, block or model");
  }
  return RequireRoom(array, "Float32Array", size);
}

double NumberIn(const Napi::Object& object, const std::string& name, const char* key) {
  return RequireNumber(object.Get(key), name + "." + key);
}

int64_t IntegerIn(const Napi::Object& object, const std::string& name, const char* key, int64_t least, int64_t most) {
  return RequireInteger(object.Get(key), name + "." + key, least, most);
}

bool BooleanIn(const Napi::Object& object, const std::string& name, const char* key) {
  return RequireBoolean(object.Get(key), name + "." + key);
}

std::string StringIn(const Napi::Object& object, const std::string& name, const char* key) {
  return RequireString(object.Get(key), name + "." + key);
}

}  // namespace kotodama
