#include "gpt2/model.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/cuda_backend.h"
#include "gpt2/decoder.h"
#include "reference/reference_backend.h"

// The whole model on the CUDA device against the same model on the float64 reference: losses, every gradient, training
// with accumulation and recordings, generation; and the same bits again in a second run. And what it plans. Prints a
// line for each (TAP).

namespace kotodama::test {
namespace {

void Require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("not so: " + what);
}

void RequireClose(double got, double want, double relative, const std::string& what) {
  Require(std::abs(got - want) <= relative * std::abs(want),
          what + " is " + std::to_string(want) + ", received " + std::to_string(got));
}

// ||got - want|| / ||want||
double Distance(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
    norm += static_cast<double>(want[i]) * want[i];
  }
  return std::sqrt(difference / (norm + 1e-30));
}

struct Setup {
  Precision precision;
  float dropout;
  int64_t c, h;
  // Allowed distances: of a loss; of a gradient; of the weights and the losses after three steps.
  double loss, gradient, trained;
  CopyRounding rounding = CopyRounding::kNearest;
};

Config MakeConfig(const Setup& setup) {
  Config config;
  config.vocab_size = 97;
  config.n_positions = 70;
  config.n_embd = setup.c;
  config.n_layer = 2;
  config.n_head = setup.h;
  config.n_inner = 4 * setup.c;
  config.embd_pdrop = config.attn_pdrop = config.resid_pdrop = setup.dropout;
  return config;
}

struct Block {
  std::vector<int32_t> ids, labels;
};

Block MakeBlock(std::mt19937& random, BatchShape shape) {
  std::uniform_int_distribution<int32_t> distribution(0, 96);
  Block block;
  for (int64_t i = 0; i < shape.rows(); ++i) {
    block.ids.push_back(distribution(random));
    block.labels.push_back(i % 11 == 5 ? kIgnoredLabel : distribution(random));
  }
  return block;
}

// What a short training run gives.
struct Run {
  std::vector<double> losses;
  std::vector<std::vector<float>> gradients;  // of the first micro-step
  std::vector<std::vector<float>> weights;    // after the last step
  std::vector<float> logits, attention, hidden, decoded;
};

// Takes memory until so little of the device is left that backward computes LayerNorm and GELU again: half of the
// sixteenth that a model leaves to others. Real devices hand memory out in large pieces, so nothing can be exact.
void* TakeMemory(Backend& backend, const Model& model, BatchShape largest) {
  const DeviceInfo device = backend.Info();
  Require(device.free_bytes > device.total_bytes / 32, "the device is not full before");
  void* const memory = backend.Allocate(device.free_bytes - device.total_bytes / 32);
  Require(model.Plan(largest).keep == Keep::kLess, "less is kept where memory is short");
  return memory;
}

Run Train(Backend& backend, const Setup& setup, bool is_short_of_memory = false) {
  Model model(MakeConfig(setup), setup.precision, 5, backend, Start::kRandom, setup.rounding);
  std::mt19937 random(7);
  Run run;
  void* const taken = is_short_of_memory ? TakeMemory(backend, model, {1, 65}) : nullptr;
  const auto read = [&](TensorKind kind) {
    std::vector<std::vector<float>> tensors;
    for (const Parameter& parameter : model.table().list) {
      tensors.emplace_back(static_cast<size_t>(parameter.size));
      model.ReadTensor(kind, parameter.name, tensors.back().data());
    }
    return tensors;
  };
  const auto mean = [](const LossTotals& totals) { return totals.sum / static_cast<double>(totals.count); };
  StepOptions options;
  options.learning_rate = 1e-3;
  options.weight_decay = 0.1;
  options.max_grad_norm = 1;
  for (int step = 0; step < 3; ++step) {
    // Parts of the arenas with others between them.
    if (step == 2)
      model.Freeze({"transformer.wte.weight", "transformer.h.0.mlp.c_fc.weight", "transformer.h.0.ln_2.bias"});
    // Two equal shapes, so that the third step replays what the second recorded; the last one is another.
    for (BatchShape shape : {BatchShape{1, 65}, BatchShape{1, 65}, BatchShape{2, 17}}) {
      const Block block = MakeBlock(random, shape);
      run.losses.push_back(mean(model.ForwardBackward(block.ids.data(), block.labels.data(), shape)));
      if (run.gradients.empty()) run.gradients = read(TensorKind::kGrad);
    }
    const StepResult result = model.Step(options);
    Require(result.applied, "the step is applied");
    run.losses.push_back(result.grad_norm);
  }
  backend.Free(taken);
  const BatchShape shape = {1, 40};
  const Block block = MakeBlock(random, shape);
  run.losses.push_back(mean(model.Evaluate(block.ids.data(), block.labels.data(), shape)));
  run.weights = read(TensorKind::kParam);
  run.logits.resize(static_cast<size_t>(shape.t * 97));
  model.Forward(block.ids.data(), shape, run.logits.data());
  run.attention.resize(static_cast<size_t>(setup.h * shape.t * shape.t));
  model.Attention(block.ids.data(), shape, 1, run.attention.data());
  run.hidden.resize(static_cast<size_t>((model.config().n_layer + 1) * shape.rows() * model.config().n_embd));
  model.HiddenStates(block.ids.data(), shape, run.hidden.data());
  Decoder decoder(model, 1, 64);
  run.decoded.resize(97);
  decoder.Append(block.ids.data(), 39, run.decoded.data());
  decoder.Append(block.ids.data() + 39, 1, run.decoded.data());
  return run;
}

void Compare(const Setup& setup) {
  // A backend of its own for each model, since recordings are told by numbers that the model chooses.
  const Run want = Train(*MakeReferenceBackend(), setup), got = Train(*MakeCudaBackend(0), setup),
            again = Train(*MakeCudaBackend(0), setup, true);
  for (size_t i = 0; i < want.losses.size(); ++i) {
    RequireClose(got.losses[i], want.losses[i], i == 0 ? setup.loss : setup.trained, "number " + std::to_string(i));
  }
  const ParameterTable table(MakeConfig(setup));
  for (size_t i = 0; i < want.weights.size(); ++i) {
    const std::string& name = table.list[i].name;
    const double gradient = Distance(got.gradients[i], want.gradients[i]);
    Require(gradient <= setup.gradient, "the gradient of " + name + " is near: " + std::to_string(gradient));
    const double weight = Distance(got.weights[i], want.weights[i]);
    Require(weight <= setup.trained || table.list[i].initial == Initial::kZeros,
            "the trained " + name + " is near: " + std::to_string(weight));
  }
  Require(Distance(got.logits, want.logits) <= setup.trained, "the logits are near");
  Require(Distance(got.attention, want.attention) <= setup.trained, "the attention probabilities are near");
  Require(Distance(got.hidden, want.hidden) <= setup.trained, "the hidden states are near");
  Require(Distance(got.decoded, want.decoded) <= setup.trained, "the decoder's logits are near");
  Require(got.losses == again.losses && got.gradients == again.gradients && got.weights == again.weights &&
              got.logits == again.logits && got.attention == again.attention && got.hidden == again.hidden &&
              got.decoded == again.decoded,
          "a second run gives the same bits, also where memory is short");
}

// With one narrow head, most scratch memory is what the embedding's backward pass sorts ids into: 6 bytes each.
void PlanHoldsScratchMemory() {
  const auto backend = MakeCudaBackend(0);
  const Setup setup = {Precision::kF32, 0, 4, 1, 0, 0, 0};
  const Model model(MakeConfig(setup), setup.precision, 5, *backend, Start::kZeros);
  const BatchShape small = {64, 64}, large = {1 << 18, 64};
  Require(model.Plan(small).working == 0, "what the backend took at the start is enough for a small batch");
  Require(model.Plan(large).working >= static_cast<size_t>(6 * large.rows()), "what a large one needs is planned");
}

int RunAll() {
  const std::vector<std::pair<std::string, Setup>> setups = {
      {"fp32", {Precision::kF32, 0, 64, 2, 1e-6, 1e-5, 1e-3}},
      {"fp32, 2 heads of 40, dropout", {Precision::kF32, 0.1f, 80, 2, 1e-6, 1e-5, 1e-3}},
      {"bf16", {Precision::kBF16, 0, 64, 1, 2e-3, 2e-2, 2e-2}},
      {"bf16, 2 heads of 40, dropout", {Precision::kBF16, 0.1f, 80, 2, 2e-3, 2e-2, 2e-2}},
      {"bf16, stochastic rounding", {Precision::kBF16, 0, 64, 1, 2e-3, 2e-2, 2e-2, CopyRounding::kStochastic}}};
  std::vector<std::pair<std::string, std::function<void()>>> checks;
  for (const auto& [name, setup] : setups) checks.emplace_back(name, [&setup = setup] { Compare(setup); });
  checks.emplace_back("the scratch memory of a large batch is planned", PlanHoldsScratchMemory);
  std::printf("TAP version 14\n");
  int count = 0, failed = 0;
  for (const auto& [name, check] : checks) {
    std::string problem;
    try {
      check();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    std::printf("%s %d - %s\n", problem.empty() ? "ok" : "not ok", ++count, name.c_str());
    if (!problem.empty()) std::printf("#   %s\n", problem.c_str());
    std::fflush(stdout);
    failed += !problem.empty();
  }
  std::printf("1..%d\n", count);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace kotodama::test

int main() {
  // The simulator's: memory that is taken to be short of it is the host's.
  setenv("KOTODAMA_SIM_MEMORY", "400M", 0);
  return kotodama::test::RunAll();
}
