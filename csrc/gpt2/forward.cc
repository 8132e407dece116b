#include "gpt2/network.h"

namespace kotodama {

void Linear(const Network& network, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& out,
            Epilogue epilogue, const Tensor& aux) {
  Gemm gemm;
  gemm.n = weight.shape[1];
  gemm.k = weight.shape[0];
  gemm.m = x.size() / gemm.k;
  gemm.a = x;
  gemm.b = weight;
  gemm.c = out;
  gemm.bias = bias;
  gemm.epilogue = epilogue;
  gemm.aux = aux;
  gemm.weight_version = network.weight_version;
  network.backend->Run(gemm);
}

void RunForward(const Network& network, const Activations& a, bool training) {
  const Config& config = network.config;
  Backend& backend = *network.backend;
  const auto dropout = [&](float p, uint32_t site) { return Dropout{training ? p : 0.0f, site, network.dropout_key}; };

  EmbeddingForward embedding;
  embedding.ids = a.ids;
  embedding.wte = network.master.wte;
  embedding.wpe = network.master.wpe;
  embedding.out = a.layers[0].sum_1;
  embedding.out.rank = 3;
  embedding.out.shape = {a.shape.b, a.shape.t, config.n_embd, 1};
  embedding.dropout = dropout(config.embd_pdrop, kEmbeddingSite);
  backend.Run(embedding);

  // Every LayerNorm first adds what the branch before it computed to the residual stream; the first has none.
  LayerNormForward norm;
  norm.x = a.layers[0].sum_1;
  norm.eps = config.layer_norm_epsilon;

  for (int64_t l = 0; l < config.n_layer; ++l) {
    const LayerActivations& layer = a.layers[l];
    const LayerWeights& master = network.master.layers[l];
    const LayerWeights& compute = network.compute.layers[l];

    norm.sum = layer.sum_1;
    norm.weight = master.ln_1_weight;
    norm.bias = master.ln_1_bias;
    norm.mean = layer.mean_1;
    norm.rstd = layer.rstd_1;
    norm.out = layer.normed_1;
    backend.Run(norm);
    Linear(network, layer.normed_1, compute.c_attn_weight, master.c_attn_bias, layer.qkv);
    AttentionForward attention;
    attention.b = a.shape.b;
    attention.t = a.shape.t;
    attention.h = config.n_head;
    attention.d = config.head_size();
    attention.qkv = layer.qkv;
    attention.out = layer.attention;
    attention.lse = layer.lse;
    attention.dropout = dropout(config.attn_pdrop, AttentionSite(l));
    backend.Run(attention);
    Linear(network, layer.attention, compute.c_proj_weight, master.c_proj_bias, a.branch);

    norm.x = layer.sum_1;
    norm.addend = a.branch;
    norm.dropout = dropout(config.resid_pdrop, AttentionBranchSite(l));
    norm.sum = layer.sum_2;
    norm.weight = master.ln_2_weight;
    norm.bias = master.ln_2_bias;
    norm.mean = layer.mean_2;
    norm.rstd = layer.rstd_2;
    norm.out = layer.normed_2;
    backend.Run(norm);
    Linear(network, layer.normed_2, compute.c_fc_weight, master.c_fc_bias, layer.gelu, Epilogue::kGelu, layer.pre_gelu);
    Linear(network, layer.gelu, compute.mlp_proj_weight, master.mlp_proj_bias, a.branch);

    norm.x = layer.sum_2;
    norm.dropout = dropout(config.resid_pdrop, MlpBranchSite(l));
  }

  norm.sum = a.sum_f;
  norm.weight = network.master.ln_f_weight;
  norm.bias = network.master.ln_f_bias;
  norm.mean = a.mean_f;
  norm.rstd = a.rstd_f;
  norm.out = a.normed;
  backend.Run(norm);
}

}  // namespace kotodama
