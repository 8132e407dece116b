#include "bench.h"

// GEMM: every layout and epilogue, shapes on both sides of every tile's edge.

namespace kotodama::test {
namespace {

struct Shape {
  int64_t m, n, k;
};

struct Options {
  bool transpose_a = false, transpose_b = false;
  DType type = DType::kF32;
  DType out = DType::kF32;
  bool bias = false, accumulate = false, bias_gradient = false;
  Epilogue epilogue = Epilogue::kNone;
  int64_t padding = 0;  // extra elements in every row of a, b and c
};

void Check(Bench& bench, Shape shape, const Options& options) {
  const auto [m, n, k] = shape;
  Gemm gemm;
  gemm.transpose_a = options.transpose_a;
  gemm.transpose_b = options.transpose_b;
  gemm.m = m;
  gemm.n = n;
  gemm.k = k;
  gemm.epilogue = options.epilogue;
  gemm.accumulate = options.accumulate;
  const int64_t columns_a = (options.transpose_a ? m : k) + options.padding;
  const int64_t columns_b = (options.transpose_b ? k : n) + options.padding;
  if (options.padding != 0) {
    gemm.lda = columns_a;
    gemm.ldb = columns_b;
    gemm.ldc = n + options.padding;
  }
  const Trio a = bench.Input(options.type, {options.transpose_a ? k : m, columns_a});
  const Trio b = bench.Input(options.type, {options.transpose_b ? n : k, columns_b});
  const Trio c = bench.Output(options.out, {m, n + options.padding});
  const Trio bias = bench.Input(DType::kF32, {n});
  const Trio bias_gradient = bench.Output(DType::kF32, {n});
  const bool reads_aux = options.epilogue == Epilogue::kGeluBackward;
  const Trio aux = reads_aux ? bench.Input(options.type, {m, n}) : bench.Output(options.type, {m, n});
  std::vector<Trio> outputs = {c, bias_gradient};
  if (!reads_aux) outputs.push_back(aux);
  bench.Run(
      [&](Backend& backend, const On& on) {
        Gemm op = gemm;
        op.a = on(a);
        op.b = on(b);
        op.c = on(c);
        if (options.bias) op.bias = on(bias);
        if (options.epilogue != Epilogue::kNone) op.aux = on(aux);
        if (options.bias_gradient) op.bias_gradient = on(bias_gradient);
        backend.Run(op);
      },
      outputs);
  bench.Expect("c", c, ToleranceOf(options.out));
  bench.Expect("bias gradient", bias_gradient, kFloat);
  // The reference keeps what the device rounds to bf16 before GELU.
  bench.Expect("aux", aux, ToleranceOf(options.type));
}

std::string Describe(Shape shape, const Options& options) {
  std::string text = std::string("gemm ") + NameOf(options.type) + " " + (options.transpose_a ? "t" : "n") +
                     (options.transpose_b ? "t" : "n") + " " + std::to_string(shape.m) + "x" + std::to_string(shape.n) +
                     "x" + std::to_string(shape.k) + " to " + NameOf(options.out);
  if (options.bias) text += " bias";
  if (options.epilogue == Epilogue::kGelu) text += " gelu";
  if (options.epilogue == Epilogue::kGeluBackward) text += " dgelu";
  if (options.accumulate) text += " accumulate";
  if (options.bias_gradient) text += " dbias";
  if (options.padding != 0) text += " padded";
  return text;
}

}  // namespace

std::vector<Case> GemmCases() {
  std::vector<Case> cases;
  const auto add = [&](Shape shape, const Options& options, bool only_by_name = false) {
    cases.push_back({Describe(shape, options), [=](Bench& bench) { Check(bench, shape, options); }, only_by_name});
  };
  for (DType type : {DType::kF32, DType::kBF16}) {
    for (Shape shape :
         {Shape{1, 192, 64}, Shape{97, 136, 200}, Shape{130, 64, 72}, Shape{63, 264, 1024}, Shape{1025, 200, 64}}) {
      Options options;
      options.type = type;
      options.out = type;
      options.bias = true;
      add(shape, options);
      options.bias = false;
      options.transpose_b = true;
      add(shape, options);
    }
    // The head of GPT-2's vocabulary, padded, and its backward pass. One fp32 tile along all of K takes long.
    Options head;
    head.type = head.out = type;
    head.transpose_b = true;
    add({3, 50304, 8}, head);
    head.transpose_b = false;
    if (type == DType::kBF16) add({3, 64, 50304}, head);
    head.transpose_a = true;
    head.out = DType::kF32;
    head.accumulate = true;
    add({50304, 64, 3}, head);
    // The weights' gradient: K is the number of tokens, of any size.
    for (Shape shape : {Shape{64, 192, 1}, Shape{200, 72, 63}, Shape{128, 136, 97}, Shape{136, 64, 288},
                        Shape{264, 264, 33}, Shape{136, 97, 40}}) {
      Options options;
      options.type = type;
      options.transpose_a = true;
      options.accumulate = shape.k % 2 == 1;
      options.bias_gradient = true;
      add(shape, options);
    }
    Options no_sums;
    no_sums.type = type;
    no_sums.transpose_a = true;
    add({136, 200, 63}, no_sums);
    add({264, 776, 200}, no_sums);
    Options options;
    options.type = type;
    options.out = type;
    options.bias = true;
    options.epilogue = Epilogue::kGelu;
    add({97, 256, 64}, options);
    add({5, 256, 512}, options);
    options.bias = false;
    options.epilogue = Epilogue::kGeluBackward;
    options.transpose_b = true;
    add({97, 256, 64}, options);
    options = {};
    options.type = type;
    options.out = DType::kF32;
    options.padding = 8;
    add({33, 40, 48}, options);
    // Large enough for the large tiles on a device with few multiprocessors.
    for (bool transpose_a : {false, true}) {
      for (bool transpose_b : {false, true}) {
        if (transpose_a && transpose_b) continue;
        options = {};
        options.type = type;
        options.out = transpose_a ? DType::kF32 : type;
        options.transpose_a = transpose_a;
        options.transpose_b = transpose_b;
        options.accumulate = options.bias_gradient = transpose_a;
        options.bias = !transpose_a;
        options.epilogue = transpose_a || transpose_b ? Epilogue::kNone : Epilogue::kGelu;
        add({968, 952, 200}, options);
      }
    }
    // Every ending of the tiles of either type: N in whole pieces of eight or not, c in either type.
    for (Shape shape : {Shape{248, 504, 3000}, Shape{136, 97, 200}}) {
      if (type == DType::kF32 && shape.k > 200) continue;
      for (Epilogue epilogue : {Epilogue::kNone, Epilogue::kGelu, Epilogue::kGeluBackward}) {
        options = {};
        options.type = options.out = type;
        options.transpose_b = true;
        options.epilogue = epilogue;
        options.bias = epilogue != Epilogue::kGeluBackward;
        add(shape, options);
      }
      options.epilogue = Epilogue::kNone;
      options.bias = true;
      options.out = DType::kF32;
      add(shape, options);
    }
    // Sums of columns, of which the last piece is not full.
    options = {};
    options.type = type;
    options.transpose_a = options.accumulate = options.bias_gradient = true;
    options.padding = 15;
    add({137, 97, 200}, options);
    options.padding = 0;
    if (type == DType::kBF16) add({248, 504, 3000}, options);
    // Large enough for the large tiles on any device: too much for a simulated one.
    for (Shape shape : {Shape{3080, 3080, 200}, Shape{2048, 1920, 200}}) {
      options = {};
      options.type = options.out = type;
      options.bias = true;
      options.epilogue = Epilogue::kGelu;
      add(shape, options, true);
      options.bias = false;
      options.epilogue = Epilogue::kGeluBackward;
      options.transpose_b = true;
      add(shape, options, true);
      options.epilogue = Epilogue::kNone;
      options.transpose_b = false;
      options.out = DType::kF32;
      options.transpose_a = options.accumulate = true;
      add(shape, options, true);
      options.bias_gradient = true;
      add(shape, options, true);
    }
    // Not aligned: the plain kernel.
    options = {};
    options.type = type;
    options.out = type;
    options.bias = true;
    add({19, 97, 33}, options);
    options.transpose_a = options.transpose_b = true;
    add({19, 23, 33}, options);
  }
  return cases;
}

}  // namespace kotodama::test
