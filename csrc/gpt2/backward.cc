#include "gpt2/network.h"

namespace kotodama {
namespace {

// The gradients of out = x W + bias. Reads x before it writes d_x, so d_x may take the memory of x.
void LinearBackward(const Network& network, const Tensor& x, const Tensor& weight, const Tensor& d_out,
                    const Tensor& d_weight, const Tensor& d_bias, bool accumulate, const Tensor& d_x,
                    const Tensor& pre_gelu = {}) {
  const int64_t in = weight.shape[0], out = weight.shape[1], n = x.size() / in;

  Gemm weight_gradient;  // dW = x^T d_out, dbias = column sums of d_out
  weight_gradient.transpose_a = true;
  weight_gradient.m = in;
  weight_gradient.n = out;
  weight_gradient.k = n;
  weight_gradient.a = x;
  weight_gradient.b = d_out;
  weight_gradient.c = d_weight;
  weight_gradient.bias_gradient = d_bias;
  weight_gradient.accumulate = accumulate;
  network.backend->Run(weight_gradient);

  Gemm input_gradient;  // dx = d_out W^T, times gelu' where x = gelu(pre_gelu)
  input_gradient.transpose_b = true;
  input_gradient.m = n;
  input_gradient.n = in;
  input_gradient.k = out;
  input_gradient.a = d_out;
  input_gradient.b = weight;
  input_gradient.c = d_x;
  input_gradient.weight_version = network.weight_version;
  if (pre_gelu) {
    input_gradient.epilogue = Epilogue::kGeluBackward;
    input_gradient.aux = pre_gelu;
  }
  network.backend->Run(input_gradient);
}

}  // namespace

void RunBackward(const Network& network, const Activations& a, const Weights& gradients, bool accumulate) {
  const Config& config = network.config;
  Backend& backend = *network.backend;
  const int64_t c = config.n_embd, layers = config.n_layer;

  const bool recompute = a.keep == Keep::kLess;
  const auto recompute_norm = [&](const Tensor& sum, const Tensor& weight, const Tensor& bias) {
    if (!recompute) return;
    LayerNormForward norm;
    norm.x = sum;
    norm.weight = weight;
    norm.bias = bias;
    norm.out = a.normed;
    norm.eps = config.layer_norm_epsilon;
    backend.Run(norm);
  };

  // Each LayerNorm's backward also splits the gradient of its sum: it stays in d_residual and goes, through the
  // dropout mask, into `branch` for the branch that was added there.
  LayerNormBackward norm;
  norm.dout = a.d_normed;
  norm.dx = a.d_residual;
  norm.accumulate = accumulate;

  norm.x = a.sum_f;
  norm.weight = network.master.ln_f_weight;
  norm.mean = a.mean_f;
  norm.rstd = a.rstd_f;
  norm.dweight = gradients.ln_f_weight;
  norm.dbias = gradients.ln_f_bias;
  norm.accumulate_dx = false;
  norm.daddend = a.branch;
  norm.dropout = {config.resid_pdrop, MlpBranchSite(layers - 1), network.dropout_key};
  backend.Run(norm);
  norm.accumulate_dx = true;

  for (int64_t l = layers - 1; l >= 0; --l) {
    const LayerActivations& layer = a.layers[l];
    const LayerWeights& master = network.master.layers[l];
    const LayerWeights& compute = network.compute.layers[l];
    const LayerWeights& gradient = gradients.layers[l];

    const Tensor d_pre_gelu = layer.gelu;  // takes its memory
    if (recompute) backend.Gelu(layer.gelu, layer.pre_gelu);
    LinearBackward(network, layer.gelu, compute.mlp_proj_weight, a.branch, gradient.mlp_proj_weight,
                   gradient.mlp_proj_bias, accumulate, d_pre_gelu, layer.pre_gelu);
    recompute_norm(layer.sum_2, master.ln_2_weight, master.ln_2_bias);
    LinearBackward(network, layer.normed_2, compute.c_fc_weight, d_pre_gelu, gradient.c_fc_weight, gradient.c_fc_bias,
                   accumulate, a.d_normed);
    norm.x = layer.sum_2;
    norm.weight = master.ln_2_weight;
    norm.mean = layer.mean_2;
    norm.rstd = layer.rstd_2;
    norm.dweight = gradient.ln_2_weight;
    norm.dbias = gradient.ln_2_bias;
    norm.daddend = a.branch;
    norm.dropout = {config.resid_pdrop, AttentionBranchSite(l), network.dropout_key};
    backend.Run(norm);

    const Tensor d_attention = a.d_normed;
    LinearBackward(network, layer.attention, compute.c_proj_weight, a.branch, gradient.c_proj_weight,
                   gradient.c_proj_bias, accumulate, d_attention);
    AttentionBackward attention;
    attention.b = a.shape.b;
    attention.t = a.shape.t;
    attention.h = config.n_head;
    attention.d = config.head_size();
    attention.qkv = layer.qkv;
    attention.out = layer.attention;
    attention.lse = layer.lse;
    attention.dout = d_attention;
    attention.dqkv = a.Wide(3 * c);
    attention.dropout = {config.attn_pdrop, AttentionSite(l), network.dropout_key};
    backend.Run(attention);
    recompute_norm(layer.sum_1, master.ln_1_weight, master.ln_1_bias);
    LinearBackward(network, layer.normed_1, compute.c_attn_weight, attention.dqkv, gradient.c_attn_weight,
                   gradient.c_attn_bias, accumulate, a.d_normed);
    norm.x = layer.sum_1;
    norm.weight = master.ln_1_weight;
    norm.mean = layer.mean_1;
    norm.rstd = layer.rstd_1;
    norm.dweight = gradient.ln_1_weight;
    norm.dbias = gradient.ln_1_bias;
    norm.daddend = l > 0 ? a.branch : Tensor();  // below the first layer lies the embedding, with a mask of its own
    norm.dropout = l > 0 ? Dropout{config.resid_pdrop, MlpBranchSite(l - 1), network.dropout_key} : Dropout();
    backend.Run(norm);
  }

  if (!accumulate) backend.Zero(gradients.wpe.data, gradients.wpe.bytes());
  EmbeddingBackward embedding;
  embedding.ids = a.ids;
  embedding.dout = a.d_residual;
  embedding.dout.rank = 3;
  embedding.dout.shape = {a.shape.b, a.shape.t, c, 1};
  embedding.dwte = gradients.wte;
  embedding.dwpe = gradients.wpe;
  embedding.dropout = {config.embd_pdrop, kEmbeddingSite, network.dropout_key};
  backend.Run(embedding);
}

}  // namespace kotodama
