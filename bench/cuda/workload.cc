#include "workload.h"

#include <algorithm>
#include <map>
#include <set>

#include "gpt2/model.h"
#include "recorder.h"

namespace kotodama::bench {
namespace {

// Counts operations by their description, in the order of their first occurrence.
class Tally {
 public:
  explicit Tally(Workload& workload) : workload_(workload) {}

  void Add(const std::vector<Operation>& operations, int64_t WorkItem::*counter) {
    for (const Operation& operation : operations) Find(operation).*counter += 1;
  }
  WorkItem& Find(const Operation& operation) {
    const auto [entry, is_new] = places_.try_emplace(Describe(operation), workload_.items.size());
    if (is_new) {
      std::string name = NameOf(operation, workload_.config);
      // The head works on chunks of rows, of which the last may be smaller.
      if (!names_.insert(name).second) name += ", last rows";
      workload_.items.push_back({name, operation});
    }
    return workload_.items[entry->second];
  }

 private:
  Workload& workload_;
  std::map<std::string, size_t> places_;
  std::set<std::string> names_;
};

// The operations of a step with dropout or stochastic rounding that differ from those without, and the casts that
// loading and saving use.
std::vector<Operation> Others(const std::vector<Operation>& operations) {
  std::vector<Operation> others;
  for (Operation operation : operations) {
    if (auto* embedding = std::get_if<EmbeddingForward>(&operation)) {
      embedding->dropout.p = 0.1f;
    } else if (auto* norm = std::get_if<LayerNormForward>(&operation); norm != nullptr && norm->addend) {
      norm->dropout.p = 0.1f;
    } else if (auto* attention = std::get_if<AttentionForward>(&operation)) {
      attention->dropout.p = 0.1f;
    } else if (auto* backward = std::get_if<AttentionBackward>(&operation)) {
      backward->dropout.p = 0.1f;
    } else if (auto* adamw = std::get_if<AdamW>(&operation); adamw != nullptr && adamw->compute) {
      static const RoundingKey any;  // the operation points elsewhere before it runs
      adamw->rounding.key = &any;
    } else {
      continue;
    }
    others.push_back(operation);
  }
  for (const Operation& operation : operations) {
    const auto* norm = std::get_if<LayerNormForward>(&operation);
    if (norm == nullptr || !norm->addend) continue;
    others.push_back(Cast{norm->addend, norm->x});  // f32 to bf16
    others.push_back(Cast{norm->x, norm->addend});
    break;
  }
  return others;
}

}  // namespace

Config MakeConfig(int64_t layers, int64_t heads, int64_t width, int64_t vocabulary, int64_t positions) {
  Config config;
  config.n_layer = layers;
  config.n_head = heads;
  config.n_embd = width;
  config.n_inner = 4 * width;
  config.vocab_size = vocabulary;
  config.n_positions = positions;
  return config;
}

Workload RecordWorkload(const Config& config, BatchShape shape, const Backend& device) {
  Workload workload;
  workload.config = config;
  workload.shape = shape;
  Recorder recorder(device);
  Model model(config, Precision::kBF16, 0, recorder);
  for (const Parameter& parameter : model.table().list) workload.parameters += parameter.size;
  workload.position_parameters = model.table().Find("transformer.wpe.weight").size;

  const std::vector<int32_t> ids(static_cast<size_t>(shape.rows()));
  model.ForwardBackward(ids.data(), ids.data(), shape);
  recorder.Take();
  model.ForwardBackward(ids.data(), ids.data(), shape);
  const std::vector<Operation> micro_step = recorder.Take();
  model.Step({});
  const std::vector<Operation> step = recorder.Take();

  Tally tally(workload);
  tally.Add(micro_step, &WorkItem::per_micro_step);
  tally.Add(step, &WorkItem::per_step);
  for (const Operation& operation : Others(micro_step)) tally.Find(operation);
  for (const Operation& operation : Others(step)) tally.Find(operation);
  return workload;
}

}  // namespace kotodama::bench
