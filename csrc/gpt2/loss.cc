#include <algorithm>

#include "gpt2/network.h"

namespace kotodama {

void RunHead(const Network& network, const Tensor& normed, const Tensor& logits, bool reused) {
  Gemm head;
  head.transpose_b = true;
  head.m = normed.shape[0];
  head.n = network.config.padded_vocab();
  head.k = network.config.n_embd;
  head.a = normed;
  head.b = network.compute.head;
  head.c = logits;
  head.weight_version = network.weight_version;
  head.reused = reused;
  network.backend->Run(head);
}

void RunLoss(const Network& network, const Activations& a, const Weights* gradients, bool accumulate) {
  const Config& config = network.config;
  Backend& backend = *network.backend;
  const int64_t n = a.shape.rows(), c = config.n_embd, vp = config.padded_vocab(), chunk = a.logits.shape[0];

  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t r = std::min(chunk, n - first);
    const Tensor normed = a.normed.rows(first, r), logits = a.logits.rows(0, r);

    RunHead(network, normed, logits, /*reused=*/n > chunk);

    CrossEntropy loss;
    loss.logits = logits;
    loss.labels = a.labels.rows(first, r);
    loss.losses = a.losses.rows(first, r);
    loss.v = config.vocab_size;
    loss.gradient = gradients != nullptr;
    backend.Run(loss);
    if (gradients == nullptr) continue;

    Gemm d_weight;  // dwte += dlogits^T normed
    d_weight.transpose_a = true;
    d_weight.m = vp;
    d_weight.n = c;
    d_weight.k = r;
    d_weight.a = logits;
    d_weight.b = normed;
    d_weight.c = gradients->head;
    d_weight.accumulate = accumulate || first > 0;
    backend.Run(d_weight);

    Gemm d_input;  // d_normed = dlogits wte
    d_input.m = r;
    d_input.n = c;
    d_input.k = vp;
    d_input.a = logits;
    d_input.b = network.compute.head;
    d_input.c = a.d_normed.rows(first, r);
    d_input.weight_version = network.weight_version;
    d_input.reused = n > chunk;
    backend.Run(d_input);
  }
}

}  // namespace kotodama
