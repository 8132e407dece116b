// All kernels as one translation unit: one image for the driver, and one pass of the compiler's front end.

#include "adamw.cu"
#include "attention_decode.cu"
#include "attention_plain.cu"
#include "cross_entropy.cu"
#include "elementwise.cu"
#include "embedding.cu"
#include "gemm_plain.cu"
#include "global_norm.cu"
#include "layernorm.cu"
#include "loss.cu"
#include "reduce_rows.cu"
