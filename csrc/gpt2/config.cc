#include "gpt2/config.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "error.h"

namespace kotodama {
namespace {

// Keeps every product of two sizes far from the limits of int64_t, and every index of a row within int32_t.
constexpr int64_t kLargest = 1 << 28;

void RequireSize(const char* name, int64_t value) {
  if (value < 1 || value > kLargest) {
    throw Error(ErrorCode::kOptions, std::string(name) + ": expected an integer from 1 to " + std::to_string(kLargest) +
                                         ", received " + std::to_string(value));
  }
}

// What was given may have been another number, rounded to this one.
std::string Text(float value) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.9g (in float32)", static_cast<double>(value));
  return text;
}

void RequireRate(const char* name, float value) {
  if (value >= 0 && value < 1) return;
  throw Error(ErrorCode::kOptions,
              std::string(name) + ": expected a rate of at least 0 and below 1, received " + Text(value));
}

// A device may take subnormal numbers for 0, and with 0 a row of equal numbers would be divided by 0.
void RequireEpsilon(float value) {
  if (value >= std::numeric_limits<float>::min() && std::isfinite(value)) return;
  throw Error(ErrorCode::kOptions,
              "layerNormEpsilon: expected a number of at least 1.17549435e-38, received " + Text(value));
}

}  // namespace

void Validate(const Config& config) {
  RequireSize("vocabSize", config.vocab_size);
  RequireSize("nPositions", config.n_positions);
  RequireSize("nEmbd", config.n_embd);
  RequireSize("nLayer", config.n_layer);
  RequireSize("nHead", config.n_head);
  RequireSize("nInner", config.n_inner);
  if (config.n_embd % config.n_head != 0) {
    throw Error(ErrorCode::kOptions, "nHead: expected a divisor of nEmbd " + std::to_string(config.n_embd) +
                                         ", received " + std::to_string(config.n_head));
  }
  RequireEpsilon(config.layer_norm_epsilon);
  if (!(config.initializer_range >= 0) || !std::isfinite(config.initializer_range)) {
    throw Error(ErrorCode::kOptions, "initializerRange: expected a number of at least 0, received " +
                                         std::to_string(config.initializer_range));
  }
  RequireRate("embdPdrop", config.embd_pdrop);
  RequireRate("attnPdrop", config.attn_pdrop);
  RequireRate("residPdrop", config.resid_pdrop);
  const double per_layer =
      double(config.n_embd) * (4.0 * config.n_embd + 2.0 * config.n_inner) + 9.0 * config.n_embd + config.n_inner;
  const double parameters =
      double(config.n_embd) * (double(config.vocab_size) + config.n_positions) + per_layer * config.n_layer;
  if (parameters > 1e12) {
    throw Error(ErrorCode::kOptions, "this configuration has more than 10^12 parameters; is a size mistyped?");
  }
}

}  // namespace kotodama
