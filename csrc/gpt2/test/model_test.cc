#include "gpt2/model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/cpu_backend.h"
#include "cpu/test/no_threads.h"
#include "error.h"
#include "gpt2/decoder.h"
#include "gpt2/initialize.h"
#include "gpt2/test/float64_gpt2.h"
#include "reference/philox.h"
#include "reference/reference_backend.h"

namespace kotodama {
namespace {

int failures = 0;

void Expect(bool condition, const std::string& what) {
  if (condition) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

std::string Text(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", value);
  return text;
}

void ExpectBelow(double value, double limit, const std::string& what) {
  Expect(value < limit, what + ": " + Text(value) + ", expected less than " + Text(limit));
}

template <typename Body>
void ExpectError(ErrorCode code, Body&& body, const std::string& what) {
  try {
    body();
    Expect(false, what + ": no error");
  } catch (const Error& error) {
    Expect(error.code() == code, what + ": " + error.what());
  }
}

struct Batch {
  BatchShape shape;
  std::vector<int32_t> ids, labels;
};

Batch MakeBatch(const Config& config, BatchShape shape, uint32_t seed) {
  std::mt19937 random(seed);
  Batch batch{shape, {}, {}};
  for (int64_t i = 0; i < shape.rows(); ++i) {
    batch.ids.push_back(static_cast<int32_t>(random() % config.vocab_size));
    batch.labels.push_back(random() % 5 == 0 ? kIgnoredLabel : static_cast<int32_t>(random() % config.vocab_size));
  }
  return batch;
}

Config SmallConfig() {
  Config config;
  config.vocab_size = 37;
  config.n_positions = 12;
  config.n_embd = 20;
  config.n_layer = 2;
  config.n_head = 5;
  config.n_inner = 31;
  config.initializer_range = 0.3;
  return config;
}

// Biases and LayerNorm start at 0 and 1; noise makes their part of the network visible.
void AddNoise(Model& model, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.1f);
  for (const Parameter& parameter : model.table().list) {
    std::vector<float> values(static_cast<size_t>(parameter.size));
    model.ReadTensor(TensorKind::kParam, parameter.name, values.data());
    for (float& value : values) value += normal(random);
    model.WriteTensor(TensorKind::kParam, parameter.name, values.data(), values.size());
  }
}

std::vector<float> Read(Model& model, TensorKind kind, const Parameter& parameter) {
  std::vector<float> values(static_cast<size_t>(parameter.size));
  model.ReadTensor(kind, parameter.name, values.data());
  return values;
}

double RelativeL2(const std::vector<float>& value, const std::vector<float>& truth) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    difference += std::pow(double{value[i]} - truth[i], 2);
    norm += std::pow(double{truth[i]}, 2);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

LossTotals Train(Model& model, const Batch& batch) {
  return model.ForwardBackward(batch.ids.data(), batch.labels.data(), batch.shape);
}

// The batch is learned from in passes of some rows each, and must give the mean over all of its labels.
void CheckAgainstFiniteDifferences(const Batch& batch, int64_t rows_per_pass) {
  const Config config = SmallConfig();
  const auto backend = MakeCpuBackend(2);
  Model model(config, Precision::kF32, 3, *backend);
  AddNoise(model, 4);
  LossTotals totals;
  for (int64_t b = 0; b < batch.shape.b; b += rows_per_pass) {
    const int64_t first = b * batch.shape.t;
    const BatchShape part{std::min(rows_per_pass, batch.shape.b - b), batch.shape.t};
    const LossTotals pass = model.ForwardBackward(batch.ids.data() + first, batch.labels.data() + first, part);
    totals.sum += pass.sum;
    totals.count += pass.count;
  }

  Float64Weights start;
  for (const Parameter& parameter : model.table().list) {
    const std::vector<float> values = Read(model, TensorKind::kParam, parameter);
    start[parameter.name].assign(values.begin(), values.end());
  }
  const auto loss = [&](const Float64Weights& weights) {
    return Float64Loss(config, weights, batch.ids, batch.labels, batch.shape.b, batch.shape.t);
  };
  const double truth = loss(start);
  ExpectBelow(std::abs(totals.sum / static_cast<double>(totals.count) - truth) / truth, 1e-6, "loss against float64");

  std::mt19937 random(6);
  std::normal_distribution<double> normal;
  // One direction per tensor, then a few through all tensors at once.
  for (size_t trial = 0; trial < model.table().list.size() + 4; ++trial) {
    const bool all = trial >= model.table().list.size();
    Float64Weights ahead = start, behind = start;
    double slope = 0, gradient_norm = 0;
    const double h = 1e-5;
    for (size_t i = 0; i < model.table().list.size(); ++i) {
      const Parameter& parameter = model.table().list[i];
      if (!all && i != trial) continue;
      const std::vector<float> gradient = Read(model, TensorKind::kGrad, parameter);
      for (size_t j = 0; j < gradient.size(); ++j) {
        const double direction = normal(random);
        slope += direction * gradient[j];
        gradient_norm += double{gradient[j]} * gradient[j];
        ahead[parameter.name][j] += h * direction;
        behind[parameter.name][j] -= h * direction;
      }
    }
    const double difference = (loss(ahead) - loss(behind)) / (2 * h);
    // Against the slope a random direction has on average: one direction's own slope can be 0 by chance.
    ExpectBelow(std::abs(slope - difference) / std::sqrt(gradient_norm), 1e-5,
                "slope along " + (all ? "all tensors" : model.table().list[trial].name));
  }
}

void TestGradientsAgainstFiniteDifferences() {
  CheckAgainstFiniteDifferences(MakeBatch(SmallConfig(), {3, 11}, 5), 3);
}

// Micro-batches with very different numbers of labels, one with none: a mean of their means would be another number.
void TestAccumulationAgainstFiniteDifferences() {
  Batch batch = MakeBatch(SmallConfig(), {5, 11}, 7);
  for (size_t row = 0; row < 5; ++row) {
    const size_t labels[] = {0, 1, 11, 2, 7};
    for (size_t t = labels[row]; t < 11; ++t) batch.labels[11 * row + t] = kIgnoredLabel;
  }
  for (const int64_t rows : {1, 2, 5}) CheckAgainstFiniteDifferences(batch, rows);
}

// The float64 reference shares the statement of the masks with the CPU backend, and nothing else.
void TestDropoutAgainstReference() {
  Config config = SmallConfig();
  config.embd_pdrop = 0.1f;
  config.attn_pdrop = 0.2f;
  config.resid_pdrop = 0.3f;
  const auto cpu = MakeCpuBackend(2), reference = MakeReferenceBackend();
  Model model(config, Precision::kF32, 3, *cpu), truth(config, Precision::kF32, 3, *reference);
  AddNoise(model, 4);
  AddNoise(truth, 4);
  for (uint32_t micro = 0; micro < 2; ++micro) {
    const Batch batch = MakeBatch(config, {2, 9}, micro);
    const LossTotals a = Train(model, batch), b = Train(truth, batch);
    ExpectBelow(std::abs(a.sum - b.sum) / b.sum, 1e-5, "loss with dropout");
  }
  for (const Parameter& parameter : model.table().list) {
    ExpectBelow(RelativeL2(Read(model, TensorKind::kGrad, parameter), Read(truth, TensorKind::kGrad, parameter)), 1e-4,
                "gradient with dropout of " + parameter.name);
  }
}

// Where p * 2^32 is no integer, the word right below it is dropped: it is below p * 2^32.
void TestDropoutBetweenWords() {
  const DropoutKey key{3, 0};
  uint64_t index = 0;
  uint32_t word = 0;
  // Below 2^23, so that float32 holds the number half-way to the next word.
  for (;; ++index) {
    word = Philox({static_cast<uint32_t>(index / 4), 0, 0, 0}, static_cast<uint32_t>(key.seed), 0)[index % 4];
    if (word < 1u << 23) break;
  }
  const auto c = static_cast<int64_t>(index / 4 * 4 + 4);
  int32_t id = 0;
  std::vector<float> ones(static_cast<size_t>(c), 1), zeros(ones.size(), 0), out(ones.size());
  EmbeddingForward op;
  op.ids = Tensor(&id, DType::kI32, {1, 1});
  op.wte = Tensor(ones.data(), DType::kF32, {1, c});
  op.wpe = Tensor(zeros.data(), DType::kF32, {1, c});
  op.out = Tensor(out.data(), DType::kF32, {1, 1, c});
  op.dropout.p = std::ldexp(static_cast<float>(word) + 0.5f, -32);
  op.dropout.key = &key;
  const auto cpu = MakeCpuBackend(1), reference = MakeReferenceBackend();
  for (Backend* backend : {cpu.get(), reference.get()}) {
    backend->Run(op);
    backend->Synchronize();
    Expect(out[index] == 0, "the word right below p * 2^32 is dropped, " + backend->Info().name);
  }
}

void TestAccumulation() {
  const Config config = SmallConfig();
  const auto backend = MakeCpuBackend(2);
  Model one(config, Precision::kF32, 3, *backend), parts(config, Precision::kF32, 3, *backend);
  const Batch whole = MakeBatch(config, {4, 7}, 8);
  Train(one, whole);
  for (int64_t b = 0; b < 4; ++b) {
    parts.ForwardBackward(whole.ids.data() + 7 * b, whole.labels.data() + 7 * b, {1, 7});
  }
  for (const Parameter& parameter : one.table().list) {
    ExpectBelow(RelativeL2(Read(parts, TensorKind::kGrad, parameter), Read(one, TensorKind::kGrad, parameter)), 1e-5,
                "accumulated gradient of " + parameter.name);
  }
  StepOptions options;
  options.learning_rate = 1e-3;
  options.weight_decay = 0.1;
  options.max_grad_norm = 1;
  const double norm = one.GradientNorm();
  const StepResult a = one.Step(options), b = parts.Step(options);
  Expect(norm == a.grad_norm, "the norm can be had before the step");
  Expect(a.applied && b.applied, "both steps apply");
  ExpectBelow(std::abs(a.grad_norm - b.grad_norm) / a.grad_norm, 1e-5, "norm of accumulated gradients");
}

// The padding of the vocabulary (37 to 64) must not reach the loss.
void TestLogitsCoverTheVocabulary() {
  const Config config = SmallConfig();
  const auto backend = MakeCpuBackend(1);
  Model model(config, Precision::kF32, 3, *backend);
  const Batch batch = MakeBatch(config, {2, 5}, 9);
  std::vector<float> logits(static_cast<size_t>(10 * config.vocab_size));
  model.Forward(batch.ids.data(), batch.shape, logits.data());
  double sum = 0;
  for (size_t row = 0; row < 10; ++row) {
    if (batch.labels[row] == kIgnoredLabel) continue;
    double total = 0;
    const float* at = logits.data() + row * static_cast<size_t>(config.vocab_size);
    for (int64_t v = 0; v < config.vocab_size; ++v) total += std::exp(double{at[v]});
    sum += std::log(total) - at[batch.labels[row]];
  }
  const LossTotals totals = model.Evaluate(batch.ids.data(), batch.labels.data(), batch.shape);
  ExpectBelow(std::abs(totals.sum - sum) / sum, 1e-6, "loss of evaluate against its logits");
}

// A model that begins with zeros and is then given another one's weights is that model, in both precisions.
void TestStartWithZeros() {
  Config config = SmallConfig();
  config.resid_pdrop = 0.1f;
  const auto backend = MakeCpuBackend(1);
  const Batch batch = MakeBatch(config, {2, 5}, 9);
  for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
    Model drawn(config, precision, 3, *backend), given(config, precision, 3, *backend, Start::kZeros);
    for (const Parameter& parameter : drawn.table().list) {
      const std::vector<float> start = Read(given, TensorKind::kParam, parameter);
      Expect(std::all_of(start.begin(), start.end(), [](float value) { return value == 0; }), parameter.name + " is 0");
      const std::vector<float> values = Read(drawn, TensorKind::kParam, parameter);
      given.WriteTensor(TensorKind::kParam, parameter.name, values.data(), values.size());
    }
    Expect(Train(given, batch).sum == Train(drawn, batch).sum, "loss of a model that was given its weights");
    for (const Parameter& parameter : drawn.table().list) {
      Expect(Read(given, TensorKind::kGrad, parameter) == Read(drawn, TensorKind::kGrad, parameter),
             "gradient of " + parameter.name + " in a model that was given its weights");
    }
  }
}

// The pieces of InitialValues, one after the other.
std::vector<float> Drawn(const Config& config, const Parameter& parameter, uint32_t index, uint64_t seed) {
  std::vector<float> whole;
  InitialValues(config, parameter, index, seed, [&](int64_t first, const std::vector<float>& values) {
    Expect(first == static_cast<int64_t>(whole.size()), "pieces come in order");
    whole.insert(whole.end(), values.begin(), values.end());
  });
  return whole;
}

// Each number is that of its own position, also where a piece of a large tensor begins and at an odd end.
void TestInitialValuesInPieces() {
  Config config = SmallConfig();
  config.initializer_range = 0.02;
  Parameter parameter;
  parameter.size = (5 << 20) + 1;
  parameter.initial = Initial::kNormal;
  const uint64_t seed = 0x123456789abcdef, key = seed ^ 0x696E697469616C73;
  const std::vector<float> found = Drawn(config, parameter, 7, seed);
  Expect(found.size() == static_cast<size_t>(parameter.size), "as many numbers as the parameter has");
  const auto uniform = [](uint32_t high, uint32_t low) {
    return (static_cast<double>((uint64_t{high} << 32 | low) >> 12) + 0.5) * 0x1p-52;
  };
  for (size_t i = 0; i < found.size(); i += i + 101 < found.size() ? 101 : 1) {
    const auto pair = static_cast<uint32_t>(i / 2);
    const auto words = Philox({pair, 0, 7, 0}, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
    const double radius = 0.02 * std::sqrt(-2 * std::log(uniform(words[0], words[1])));
    const double angle = 2 * std::acos(-1.0) * uniform(words[2], words[3]);
    const double expected = radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    if (found[i] == static_cast<float>(expected)) continue;
    Expect(false, "initial value " + std::to_string(i) + ": " + Text(found[i]) + ", expected " + Text(expected));
    break;
  }
}

void TestInitialValuesWithoutThreads() {
  const Config config = SmallConfig();
  Parameter parameter;
  parameter.size = 300001;
  parameter.initial = Initial::kNormal;
  const std::vector<float> usual = Drawn(config, parameter, 2, 3);
  const test::NoThreads none;
  Expect(Drawn(config, parameter, 2, 3) == usual, "initial values where no thread can be started");
}

// The CPU keeps more of a small batch than of a large one: still the memory that was reserved must do.
void TestReservedMemoryIsEnough() {
  Config config;
  config.vocab_size = 4000;
  config.n_layer = 4;
  config.n_head = 4;
  config.n_embd = 128;
  config.n_inner = 512;
  config.n_positions = 256;
  const auto backend = MakeCpuBackend(2);
  for (Precision precision : {Precision::kF32, Precision::kBF16}) {
    for (int64_t b = 2; b <= 12; ++b) {
      Model model(config, precision, 3, *backend, Start::kZeros);
      model.Reserve({b, 256});
      const size_t held = model.held_bytes();
      model.Reserve({b - 1, 256});
      Expect(model.held_bytes() == held, "memory held after a batch of one less than " + std::to_string(b));
    }
  }
}

// With a long block and many threads, most of what the device works in is attention's.
void TestPlanHoldsWhatAttentionWorksIn() {
  Config config = SmallConfig();
  config.n_positions = 4096;
  const auto backend = MakeCpuBackend(64);
  for (Precision precision : {Precision::kF32, Precision::kBF16}) {
    Model model(config, precision, 3, *backend, Start::kZeros);
    AttentionBackward attention;
    attention.b = 1, attention.t = 4096, attention.h = config.n_head, attention.d = config.head_size();
    attention.qkv.dtype = precision == Precision::kF32 ? DType::kF32 : DType::kBF16;
    const size_t least = backend->WorkingMemoryOf(attention).shared, planned = model.Plan({1, 4096}).working;
    Expect(least > 0 && planned >= least,
           "plan: " + std::to_string(planned) + " bytes, attention: " + std::to_string(least));
  }
}

// Has so much memory free, and works in so much for each product; computes nothing.
class DryDevice final : public Backend {
 public:
  size_t free = size_t{1} << 30, working = 0;

  DeviceInfo Info() const override {
    DeviceInfo info;
    info.free_bytes = free;
    return info;
  }
  WorkingMemory WorkingMemoryOf(const Gemm&) const override { return {0, working}; }
  void* Allocate(size_t bytes) override { return std::calloc(bytes, 1); }
  void Free(void* data) noexcept override { std::free(data); }
  bool SupportsBF16() const override { return true; }
  void Upload(void*, const void*, size_t) override {}
  void Download(void*, const void*, size_t) override {}
  void Zero(void*, size_t) override {}
  void Synchronize() override {}
  void Record(uint64_t, const std::function<void()>& enqueue) override { enqueue(); }
  void Run(const EmbeddingForward&) override {}
  void Run(const EmbeddingBackward&) override {}
  void Run(const LayerNormForward&) override {}
  void Run(const LayerNormBackward&) override {}
  void Run(const Gemm&) override {}
  void Run(const AttentionForward&) override {}
  void Run(const AttentionBackward&) override {}
  void Run(const AttentionCached&) override {}
  void Run(const CrossEntropy&) override {}
  void Run(const AdamW&) override {}
  void Gelu(const Tensor&, const Tensor&) override {}
  void Cast(const Tensor&, const Tensor&) override {}
  void Round(const Tensor&, const Tensor&, const StochasticRounding&) override {}
  void ReduceLoss(const Tensor&, const Tensor&, LossTotals*) override {}
  void GlobalNorm(const Tensor&, OptimizerScalars*) override {}
};

void TestDecoderNeedsWhatTheDeviceWorksIn() {
  const Config config = SmallConfig();
  DryDevice device;
  Model model(config, Precision::kF32, 3, device, Start::kZeros);
  const size_t bytes = Decoder(model, 2, 12).held_bytes();
  device.working = 5000;
  device.free = bytes + 4999;
  ExpectError(
      ErrorCode::kMemory, [&] { Decoder(model, 2, 12); }, "a decoder, and a byte less than the device works in");
  device.free = bytes + 5000;
  Expect(Decoder(model, 2, 12).held_bytes() == bytes, "a decoder, and what the device works in");
  // After training that much is there already.
  device.free = size_t{1} << 30;
  Train(model, MakeBatch(config, {1, 4}, 9));
  device.free = bytes;
  Expect(Decoder(model, 2, 12).held_bytes() == bytes, "a decoder, after training");
}

void TestErrors() {
  Config config = SmallConfig();
  const auto backend = MakeCpuBackend(1);
  Model model(config, Precision::kF32, 3, *backend);
  const Batch batch = MakeBatch(config, {1, 13}, 9);
  ExpectError(
      ErrorCode::kOptions, [&] { Train(model, batch); }, "block longer than n_positions");
  ExpectError(
      ErrorCode::kOptions, [&] { model.Step({}); }, "step without gradients");
  ExpectError(
      ErrorCode::kMemory,
      [&] {
        model.Reserve({1 << 26, 12});
      },
      "more memory than there is");
  ExpectError(
      ErrorCode::kOptions, [&] { Decoder(model, 1, 13); }, "decoder longer than n_positions");
  // As a divisor they would be 0: subnormal numbers are taken for that.
  StepOptions options;
  options.eps = 1e-40;
  const Batch small = MakeBatch(config, {1, 4}, 9);
  Train(model, small);
  ExpectError(
      ErrorCode::kOptions, [&] { model.Step(options); }, "subnormal eps");
  options.eps = 1.2e-38;
  Expect(model.Step(options).applied, "the smallest eps");
  Expect(std::isfinite(Train(model, small).sum), "a loss after a step with the smallest eps");
  Config flat = SmallConfig();
  flat.layer_norm_epsilon = 1e-40f;
  ExpectError(
      ErrorCode::kOptions, [&] { Model(flat, Precision::kF32, 3, *backend); }, "subnormal layerNormEpsilon");
  config.n_head = 3;
  ExpectError(
      ErrorCode::kOptions, [&] { Model(config, Precision::kF32, 3, *backend); }, "heads that do not divide");
}

}  // namespace
}  // namespace kotodama

int main() {
  kotodama::TestGradientsAgainstFiniteDifferences();
  kotodama::TestAccumulationAgainstFiniteDifferences();
  kotodama::TestDropoutAgainstReference();
  kotodama::TestDropoutBetweenWords();
  kotodama::TestAccumulation();
  kotodama::TestLogitsCoverTheVocabulary();
  kotodama::TestStartWithZeros();
  kotodama::TestInitialValuesInPieces();
  kotodama::TestInitialValuesWithoutThreads();
  kotodama::TestReservedMemoryIsEnough();
  kotodama::TestPlanHoldsWhatAttentionWorksIn();
  kotodama::TestDecoderNeedsWhatTheDeviceWorksIn();
  kotodama::TestErrors();
  std::printf(kotodama::failures == 0 ? "gpt2: passed\n" : "gpt2: %d failed\n", kotodama::failures);
  return kotodama::failures == 0 ? 0 : 1;
}
