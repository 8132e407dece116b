#include "addon/model_object.h"

#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/decoder_object.h"
#include "addon/errors.h"
#include "addon/instance_data.h"
#include "addon/job.h"
#include "addon/model_arguments.h"
#include "error.h"

namespace kotodama {
namespace {

NextBatch Announced(const LabelledBatch& next) {
  return {next.ids.data(), next.labels.data(), next.ids.size()};
}

// Room for a result, `what`, that grows with the batch.
Napi::Float32Array NewResult(Napi::Env env, const std::string& what, int64_t size) {
  if (size > kMostInt32 / 2) {
    throw Error(ErrorCode::kOptions, what + " would be " + std::to_string(size) +
                                         " numbers, more than one array holds\n  hint: use a smaller batch or block");
  }
  return NewFloats(env, static_cast<size_t>(size));
}

Napi::Value NumberOf(Napi::Env env, size_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value ToNumber(const Napi::Object& owner, double value) {
  return Napi::Number::New(owner.Env(), value);
}

void SetLoss(Napi::Object object, const LossTotals& totals) {
  object.Set("sum", totals.sum);
  object.Set("count", static_cast<double>(totals.count));
}

void SetStep(Napi::Object object, const StepResult& result) {
  object.Set("gradNorm", result.grad_norm);
  object.Set("applied", result.applied);
}

Napi::Value LossToObject(const Napi::Object& owner, const LossTotals& totals) {
  auto object = Napi::Object::New(owner.Env());
  SetLoss(object, totals);
  return object;
}

Napi::Value StepToObject(const Napi::Object& owner, const StepResult& result) {
  auto object = Napi::Object::New(owner.Env());
  SetStep(object, result);
  return object;
}

Napi::Value TrainStepToObject(const Napi::Object& owner, const TrainStepResult& result) {
  auto object = Napi::Object::New(owner.Env());
  SetLoss(object, result.loss);
  SetStep(object, result.step);
  object.Set("updateSeconds", result.update_seconds);
  return object;
}

}  // namespace

Napi::Object DeviceToObject(Napi::Env env, const NamedDevice& device) {
  auto object = Napi::Object::New(env);
  object.Set("device", device.device);
  object.Set("name", device.info.name);
  object.Set("detail", device.info.detail);
  object.Set("totalBytes", NumberOf(env, device.info.total_bytes));
  object.Set("freeBytes", NumberOf(env, device.info.free_bytes));
  return object;
}

Napi::Function ModelObject::Define(Napi::Env env) {
  // Methods all, no accessors: Node-API checks the receiver's class of a method alone.
  return DefineClass(env, "NativeModel",
                     {InstanceMethod<&ModelObject::Device>("device"),
                      InstanceMethod<&ModelObject::Tensors>("tensors"),
                      InstanceMethod<&ModelObject::Plan>("plan"),
                      InstanceMethod<&ModelObject::PeakFlops>("peakFlops"),
                      InstanceMethod<&ModelObject::Reserve>("reserve"),
                      InstanceMethod<&ModelObject::ForwardBackward>("forwardBackward"),
                      InstanceMethod<&ModelObject::Step>("step"),
                      InstanceMethod<&ModelObject::TrainStep>("trainStep"),
                      InstanceMethod<&ModelObject::GradientNorm>("gradientNorm"),
                      InstanceMethod<&ModelObject::ZeroGradients>("zeroGradients"),
                      InstanceMethod<&ModelObject::Freeze>("freeze"),
                      InstanceMethod<&ModelObject::Evaluate>("evaluate"),
                      InstanceMethod<&ModelObject::Forward>("forward"),
                      InstanceMethod<&ModelObject::Attention>("attention"),
                      InstanceMethod<&ModelObject::HiddenStates>("hiddenStates"),
                      InstanceMethod<&ModelObject::ReadTensor>("readTensor"),
                      InstanceMethod<&ModelObject::WriteTensor>("writeTensor"),
                      InstanceMethod<&ModelObject::GetCounters>("counters"),
                      InstanceMethod<&ModelObject::SetCounters>("setCounters"),
                      InstanceMethod<&ModelObject::CreateDecoder>("createDecoder"),
                      InstanceMethod<&ModelObject::Dispose>("dispose")});
}

Napi::Value ModelObject::Create(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const Config config = RequireConfig(info[0]);
    const Napi::Object options = RequireObject(info[1], "options");
    const ModelOptions model = RequireModelOptions(options);
    auto session = env.GetInstanceData<InstanceData>()->NewSession(env);
    return StartJob(
        env, session, options,
        [session = session.get(), config, model] {
          session->Open(config, model);
          return Nothing();
        },
        [session](const Napi::Object& owner, const Nothing&) -> Napi::Value {
          auto shared = session;
          return owner.Env().GetInstanceData<InstanceData>()->model_class.New(
              {Napi::External<std::shared_ptr<Session>>::New(owner.Env(), &shared)});
        });
  });
}

ModelObject::ModelObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "use createModel()");
  session_ = *info[0].As<Napi::External<std::shared_ptr<Session>>>().Data();
}

Napi::Value ModelObject::Device(const Napi::CallbackInfo& info) {
  return DeviceToObject(info.Env(), session_->device());
}

Napi::Value ModelObject::Tensors(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Sync(env, [&]() -> Napi::Value {
    session_->RequireIdle();
    const std::vector<Parameter>& list = session_->model().table().list;
    auto array = Napi::Array::New(env, list.size());
    for (uint32_t i = 0; i < list.size(); ++i) {
      const Napi::HandleScope scope(env);
      auto shape = Napi::Array::New(env, list[i].shape.size());
      for (uint32_t d = 0; d < list[i].shape.size(); ++d) shape.Set(d, static_cast<double>(list[i].shape[d]));
      auto tensor = Napi::Object::New(env);
      tensor.Set("name", list[i].name);
      tensor.Set("shape", shape);
      array.Set(i, tensor);
    }
    return array;
  });
}

Napi::Value ModelObject::Plan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Sync(env, [&]() -> Napi::Value {
    const BatchShape shape = RequireShape(info[0], info[1]);
    session_->RequireIdle();
    const MemoryPlan plan = session_->model().Plan(shape);
    auto object = Napi::Object::New(env);
    object.Set("parameters", NumberOf(env, plan.parameters));
    object.Set("gradients", NumberOf(env, plan.gradients));
    object.Set("moments", NumberOf(env, plan.moments));
    object.Set("activations", NumberOf(env, plan.activations));
    object.Set("total", NumberOf(env, plan.total));
    object.Set("free", NumberOf(env, plan.free));
    return object;
  });
}

Napi::Value ModelObject::PeakFlops(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    return StartJob(
        env, session_, This(), [session = session_.get()] { return session->model().PeakFlops(); }, ToNumber);
  });
}

Napi::Value ModelObject::Reserve(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const BatchShape shape = RequireShape(info[0], info[1]);
    return StartJob(
        env, session_, This(),
        [session = session_.get(), shape] {
          session->model().Reserve(shape);
          return Nothing();
        },
        ToUndefined);
  });
}

Napi::Value ModelObject::ForwardBackward(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    LabelledBatch batch = RequireLabelledBatch(info);
    LabelledBatch next = RequireNext(info, 4);
    return StartJob(
        env, session_, This(),
        [session = session_.get(), batch = std::move(batch), next = std::move(next)] {
          return session->model().ForwardBackward(batch.ids.data(), batch.labels.data(), batch.shape, Announced(next));
        },
        LossToObject);
  });
}

Napi::Value ModelObject::Step(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const StepOptions options = RequireStepOptions(info[0]);
    return StartJob(
        env, session_, This(), [session = session_.get(), options] { return session->model().Step(options); },
        StepToObject);
  });
}

Napi::Value ModelObject::TrainStep(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    LabelledBatch batch = RequireLabelledBatch(info);
    const StepOptions options = RequireStepOptions(info[4]);
    LabelledBatch next = RequireNext(info, 5);
    return StartJob(
        env, session_, This(),
        [session = session_.get(), batch = std::move(batch), options, next = std::move(next)] {
          return session->model().TrainStep(batch.ids.data(), batch.labels.data(), batch.shape, options,
                                            Announced(next));
        },
        TrainStepToObject);
  });
}

Napi::Value ModelObject::GradientNorm(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    return StartJob(
        env, session_, This(), [session = session_.get()] { return session->model().GradientNorm(); }, ToNumber);
  });
}

Napi::Value ModelObject::ZeroGradients(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    return StartJob(
        env, session_, This(),
        [session = session_.get()] {
          session->model().ZeroGradients();
          return Nothing();
        },
        ToUndefined);
  });
}

void ModelObject::Freeze(const Napi::CallbackInfo& info) {
  Sync(info.Env(), [&] {
    const std::vector<std::string> names = RequireStrings(info[0], "names");
    session_->RequireIdle();
    session_->model().Freeze(names);
  });
}

Napi::Value ModelObject::Evaluate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    LabelledBatch batch = RequireLabelledBatch(info);
    return StartJob(
        env, session_, This(),
        [session = session_.get(), batch = std::move(batch)] {
          return session->model().Evaluate(batch.ids.data(), batch.labels.data(), batch.shape);
        },
        LossToObject);
  });
}

// A call on ids (B, T) that fills an array: `size_of(shape)` numbers, which `work(model, ids, shape, target)` writes.
template <typename Size, typename Work>
Napi::Value ModelObject::FillFrom(const Napi::CallbackInfo& info, const char* what, Size size_of, Work work) {
  const BatchShape shape = RequireShape(info[1], info[2]);
  auto ids = RequireBatch(info[0], "inputIds", shape);
  session_->RequireIdle();
  session_->model().CheckShape(shape);
  auto result = NewResult(info.Env(), what, size_of(shape));
  return StartJob(
      info.Env(), session_, result,
      [session = session_.get(), ids = std::move(ids), shape, work, target = result.Data()] {
        work(session->model(), ids.data(), shape, target);
        return Nothing();
      },
      ToOwner);
}

Napi::Value ModelObject::Forward(const Napi::CallbackInfo& info) {
  return Async(info.Env(), [&] {
    return FillFrom(
        info, "forward: the logits",
        [&](BatchShape shape) { return shape.rows() * session_->model().config().vocab_size; },
        [](Model& model, const int32_t* ids, BatchShape shape, float* target) { model.Forward(ids, shape, target); });
  });
}

Napi::Value ModelObject::Attention(const Napi::CallbackInfo& info) {
  return Async(info.Env(), [&] {
    const int64_t layer = RequireInteger(info[3], "layer", 0, kMostInt32);
    return FillFrom(
        info, "attention: the probabilities",
        [&](BatchShape shape) {
          session_->model().CheckLayer(layer);
          return shape.rows() * shape.t * session_->model().config().n_head;
        },
        [layer](Model& model, const int32_t* ids, BatchShape shape, float* target) {
          model.Attention(ids, shape, layer, target);
        });
  });
}

Napi::Value ModelObject::HiddenStates(const Napi::CallbackInfo& info) {
  return Async(info.Env(), [&] {
    return FillFrom(
        info, "hiddenStates: the hidden states",
        [&](BatchShape shape) {
          const Config& config = session_->model().config();
          return (config.n_layer + 1) * shape.rows() * config.n_embd;
        },
        [](Model& model, const int32_t* ids, BatchShape shape, float* target) {
          model.HiddenStates(ids, shape, target);
        });
  });
}

Napi::Value ModelObject::ReadTensor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const TensorKind kind = RequireKind(info[0]);
    const std::string name = RequireString(info[1], "name");
    session_->RequireIdle();
    auto values = NewFloats(env, static_cast<size_t>(session_->model().table().Find(name).size));
    return StartJob(
        env, session_, values,
        [session = session_.get(), kind, name, target = values.Data()] {
          session->model().ReadTensor(kind, name, target);
          return Nothing();
        },
        ToOwner);
  });
}

Napi::Value ModelObject::WriteTensor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const TensorKind kind = RequireKind(info[0]);
    const std::string name = RequireString(info[1], "name");
    auto values = RequireFloats(info[2], "data");
    return StartJob(
        env, session_, This(),
        [session = session_.get(), kind, name, values = std::move(values)] {
          session->model().WriteTensor(kind, name, values.data(), values.size());
          return Nothing();
        },
        ToUndefined);
  });
}

Napi::Value ModelObject::GetCounters(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Sync(env, [&]() -> Napi::Value {
    session_->RequireIdle();
    const Counters counters = session_->model().counters();
    auto object = Napi::Object::New(env);
    object.Set("step", static_cast<double>(counters.step));
    object.Set("microStep", static_cast<double>(counters.micro_step));
    return object;
  });
}

void ModelObject::SetCounters(const Napi::CallbackInfo& info) {
  Sync(info.Env(), [&] {
    const Napi::Object object = RequireObject(info[0], "counters");
    // Read first: a getter may use the model.
    const Counters counters = {IntegerIn(object, "counters", "step", 0, kMaxSafeInteger),
                               IntegerIn(object, "counters", "microStep", 0, kMaxSafeInteger)};
    session_->RequireIdle();
    session_->model().set_counters(counters);
  });
}

Napi::Value ModelObject::CreateDecoder(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return Async(env, [&]() -> Napi::Value {
    const int64_t batch_size = RequireInteger(info[0], "batchSize", 1, kMostInt32);
    const int64_t capacity = RequireInteger(info[1], "capacity", 1, kMostInt32);
    const bool int8 = !info[2].IsUndefined() && RequireBoolean(info[2], "int8");
    return StartJob(
        env, session_, This(),
        [session = session_.get(), batch_size, capacity, int8] {
          return session->OpenDecoder(batch_size, capacity, int8);
        },
        [session = session_](const Napi::Object& owner, uint32_t id) {
          return DecoderObject::New(owner.Env(), session, id);
        });
  });
}

Napi::Value ModelObject::Dispose(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto deferred = Napi::Promise::Deferred::New(env);
  session_->MarkDisposed();
  session_->WhenIdle([session = session_, deferred, env] {
    // Giving gigabytes back takes a while: off the event loop.
    const auto close = [session = session.get()] {
      session->Close();
      return Nothing();
    };
    deferred.Resolve(QueueJob(env, session, Napi::Object::New(env), close, ToUndefined));
  });
  return deferred.Promise();
}

}  // namespace kotodama
