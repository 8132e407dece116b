#include "prepared.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>

namespace kotodama::bench {
namespace {

// One period of the numbers that all tensors are filled with: not a divisor of any usual width.
constexpr size_t kPeriod = (1 << 20) - 3;

const std::vector<float>& Normal() {
  static const std::vector<float> values = [] {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> fresh(kPeriod);
    for (float& value : fresh) value = normal(random);
    return fresh;
  }();
  return values;
}

// The first `bytes` of a period over and over.
void UploadRepeated(Backend& backend, const Tensor& tensor, const std::vector<char>& period) {
  for (size_t first = 0; first < tensor.bytes(); first += period.size()) {
    backend.Upload(static_cast<char*>(tensor.data) + first, period.data(),
                   std::min(period.size(), tensor.bytes() - first));
  }
}

template <typename Element, typename Convert>
std::vector<char> Period(Convert convert) {
  const std::vector<float>& normal = Normal();
  std::vector<char> bytes(kPeriod * sizeof(Element));
  for (size_t i = 0; i < kPeriod; ++i) {
    const Element element = convert(normal[i]);
    std::memcpy(bytes.data() + i * sizeof(Element), &element, sizeof(Element));
  }
  return bytes;
}

OptimizerScalars PlainScalars() {
  OptimizerScalars scalars;
  scalars.learning_rate = 1e-3f;
  scalars.beta1 = 0.9f;
  scalars.beta2 = 0.95f;
  scalars.eps = 1e-8f;
  scalars.weight_decay = 0.1f;
  scalars.correction1 = scalars.correction2 = 1;
  scalars.gradient_scale = scalars.max_grad_norm = scalars.grad_norm = scalars.grad_clip = 1;
  scalars.applied = 1;
  return scalars;
}

// Points an operation's scalars in device memory to where they are.
struct PointScalars {
  const DropoutKey* key;
  const OptimizerScalars* scalars;
  const RoundingKey* rounding;

  template <typename Op>
  void operator()(Op& op) const {
    if constexpr (std::is_same_v<Op, AdamW>) {
      op.scalars = scalars;
      if (op.rounding.key != nullptr) op.rounding.key = rounding;
    }
    if constexpr (std::is_same_v<Op, EmbeddingForward> || std::is_same_v<Op, EmbeddingBackward> ||
                  std::is_same_v<Op, LayerNormForward> || std::is_same_v<Op, LayerNormBackward> ||
                  std::is_same_v<Op, AttentionForward> || std::is_same_v<Op, AttentionBackward>) {
      op.dropout.key = key;
    }
  }
};

struct Runner {
  Backend& backend;
  OptimizerScalars* scalars;
  LossTotals* totals;

  template <typename Op>
  void operator()(const Op& op) const {
    backend.Run(op);
  }
  void operator()(const Gelu& op) const { backend.Gelu(op.target, op.source); }
  void operator()(const Cast& op) const { backend.Cast(op.target, op.source); }
  void operator()(const ReduceLoss& op) const { backend.ReduceLoss(op.losses, op.labels, totals); }
  void operator()(const GlobalNorm& op) const { backend.GlobalNorm(op.grads, scalars); }
  void operator()(const Zero& op) const { backend.Zero(op.target.data, op.target.bytes()); }
};

}  // namespace

Prepared::Prepared(Backend& backend, const Operation& operation, int64_t vocabulary)
    : backend_(backend), operation_(operation) {
  ForEachTensor(operation_, [&](Tensor& tensor, Access, Content content) {
    tensor.data = backend_.Allocate(tensor.bytes());
    memory_.push_back(tensor.data);
    Fill(tensor, content, vocabulary);
  });
  dropout_key_ = Place(DropoutKey{1, 1});
  scalars_ = Place(PlainScalars());
  totals_ = Place(LossTotals{});
  std::visit(PointScalars{dropout_key_, scalars_, Place(RoundingKey{1, 1})}, operation_);
  if (const auto* backward = std::get_if<AttentionBackward>(&operation_)) {
    // Its statistics must be those of its scores.
    AttentionForward forward;
    forward.b = backward->b;
    forward.t = backward->t;
    forward.h = backward->h;
    forward.d = backward->d;
    forward.qkv = backward->qkv;
    forward.out = backward->out;
    forward.lse = backward->lse;
    forward.dropout = backward->dropout;
    backend_.Run(forward);
  }
  backend_.Synchronize();
}

Prepared::~Prepared() {
  for (void* data : memory_) backend_.Free(data);
}

void Prepared::Run() {
  std::visit(Runner{backend_, scalars_, totals_}, operation_);
}

void Prepared::Fill(Tensor& tensor, Content content, int64_t vocabulary) {
  if (content == Content::kIds) {
    const std::vector<int32_t> ids = RandomIds(tensor.size(), vocabulary);
    backend_.Upload(tensor.data, ids.data(), tensor.bytes());
  } else if (tensor.dtype == DType::kBF16) {
    static const std::vector<char> period = Period<uint16_t>([](float value) {
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      return static_cast<uint16_t>(bits >> 16);
    });
    UploadRepeated(backend_, tensor, period);
  } else if (content == Content::kPositive) {
    static const std::vector<char> period = Period<float>([](float value) { return std::abs(value); });
    UploadRepeated(backend_, tensor, period);
  } else if (tensor.dtype == DType::kF32) {
    static const std::vector<char> period = Period<float>([](float value) { return value; });
    UploadRepeated(backend_, tensor, period);
  }
}

template <typename Value>
Value* Prepared::Place(const Value& value) {
  auto* data = static_cast<Value*>(backend_.Allocate(sizeof(Value)));
  memory_.push_back(data);
  backend_.Upload(data, &value, sizeof(Value));
  return data;
}

}  // namespace kotodama::bench
