#include "gpt2/initialize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <future>
#include <system_error>
#include <thread>

namespace kotodama {
namespace {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0], p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ k0, static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return counter;
}

// In (0, 1): the middle of one of 2^52 equal parts, so that its logarithm is finite.
double Uniform(uint32_t high, uint32_t low) {
  const uint64_t bits = (uint64_t{high} << 32 | low) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

// Pairs of elements that are drawn at a time.
constexpr int64_t kPairsOfPiece = 1 << 21;

// Pairs [first, last) of the piece whose elements are `values`, and whose first pair is the parameter's pair `start`:
// one draw of four words gives two elements (Box and Muller 1958).
void FillNormal(std::vector<float>& values, int64_t start, size_t first, size_t last, double deviation, uint32_t index,
                uint64_t key) {
  for (size_t pair = first; pair < last; ++pair) {
    const uint64_t draw = static_cast<uint64_t>(start) + pair;
    // Dropout draws with the same generator; another key keeps the two apart.
    const auto words = Philox({static_cast<uint32_t>(draw), static_cast<uint32_t>(draw >> 32), index, 0}, key);
    const double radius = deviation * std::sqrt(-2.0 * std::log(Uniform(words[0], words[1])));
    const double angle = 2.0 * 3.14159265358979323846 * Uniform(words[2], words[3]);
    values[2 * pair] = static_cast<float>(radius * std::cos(angle));
    if (2 * pair + 1 < values.size()) values[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

// The same for the whole piece. GPT-2's 124 million draws take seconds on one thread.
void FillNormal(std::vector<float>& values, int64_t start, double deviation, uint32_t index, uint64_t key) {
  const size_t pairs = (values.size() + 1) / 2;
  const size_t parts = pairs < 100000 ? 1 : std::clamp<size_t>(std::thread::hardware_concurrency(), 1, 16);
  const auto fill = [&](size_t part, size_t end) {
    FillNormal(values, start, pairs * part / parts, pairs * end / parts, deviation, index, key);
  };
  std::vector<std::future<void>> others;
  size_t begun = 1;
  try {
    for (; begun < parts; ++begun) others.push_back(std::async(std::launch::async, fill, begun, begun + 1));
  } catch (const std::system_error&) {
    // The system allows no more threads: this one does the rest.
  }
  fill(0, 1);
  fill(begun, parts);
  for (std::future<void>& other : others) other.get();
}

}  // namespace

void InitialValues(const Config& config, const Parameter& parameter, uint32_t index, uint64_t seed,
                   const std::function<void(int64_t first, const std::vector<float>& values)>& take) {
  double deviation = config.initializer_range;
  if (parameter.initial == Initial::kNormalResidual) deviation /= std::sqrt(2.0 * static_cast<double>(config.n_layer));
  const bool is_drawn = parameter.initial != Initial::kOnes && parameter.initial != Initial::kZeros && deviation != 0;

  std::vector<float> values;
  for (int64_t first = 0; first < parameter.size; first += 2 * kPairsOfPiece) {
    const auto count = static_cast<size_t>(std::min(2 * kPairsOfPiece, parameter.size - first));
    values.assign(count, parameter.initial == Initial::kOnes ? 1.0f : 0.0f);
    if (is_drawn) FillNormal(values, first / 2, deviation, index, seed ^ 0x696E697469616C73);
    take(first, values);
  }
}

}  // namespace kotodama
