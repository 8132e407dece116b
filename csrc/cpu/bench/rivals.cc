#include "rivals.h"

#include <dlfcn.h>

#ifdef KOTODAMA_BENCH_OPENBLAS
#include <cblas.h>
#endif
#ifdef KOTODAMA_BENCH_ONEDNN
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace kotodama::bench {
namespace {

// For libraries that run on OpenMP, whichever one they brought.
[[maybe_unused]] void SetOpenMpThreads(int threads) {
  using Set = void (*)(int);
  if (const auto set = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"))) set(threads);
}

#ifdef KOTODAMA_BENCH_OPENBLAS
void AddOpenBlas(const Gemm& op, int threads, std::vector<Rival>* rivals) {
  if (op.a.dtype != DType::kF32 || op.c.dtype != DType::kF32) return;
  openblas_set_num_threads(threads);
  const int lda = static_cast<int>(op.transpose_a ? op.m : op.k), ldb = static_cast<int>(op.transpose_b ? op.k : op.n);
  rivals->push_back({OPENBLAS_VERSION, [op, lda, ldb] {
                       cblas_sgemm(CblasRowMajor, op.transpose_a ? CblasTrans : CblasNoTrans,
                                   op.transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(op.m),
                                   static_cast<int>(op.n), static_cast<int>(op.k), 1, op.a.as<float>(), lda,
                                   op.b.as<float>(), ldb, op.accumulate ? 1 : 0, op.c.as<float>(),
                                   static_cast<int>(op.n));
                     }});
}
#endif

#ifdef KOTODAMA_BENCH_ONEDNN
void AddOneDnn(const Gemm& op, int threads, std::vector<Rival>* rivals) {
  using dnnl::memory;
  SetOpenMpThreads(threads);
  const auto type = [](DType dtype) {
    return dtype == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  };
  const auto layout = [](bool transposed) { return transposed ? memory::format_tag::ba : memory::format_tag::ab; };
  const memory::desc a({op.m, op.k}, type(op.a.dtype), layout(op.transpose_a));
  const memory::desc b({op.k, op.n}, type(op.b.dtype), layout(op.transpose_b));
  const memory::desc c({op.m, op.n}, type(op.c.dtype), memory::format_tag::ab);
  dnnl::primitive_attr attributes;
  if (op.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1);
    attributes.set_post_ops(sum);
  }
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(engine, a, b, c, attributes);
#else
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine);
#endif
  const dnnl::matmul product(description);
  auto stream = std::make_shared<dnnl::stream>(engine);
  const std::unordered_map<int, memory> arguments = {{DNNL_ARG_SRC, memory(a, engine, op.a.data)},
                                                     {DNNL_ARG_WEIGHTS, memory(b, engine, op.b.data)},
                                                     {DNNL_ARG_DST, memory(c, engine, op.c.data)}};
  const dnnl_version_t* version = dnnl_version();
  rivals->push_back(
      {"oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor), [product, stream, arguments] {
         product.execute(*stream, arguments);
         stream->wait();
       }});
}
#endif

}  // namespace

std::vector<Rival> RivalsOf(const Gemm& op, int threads) {
  std::vector<Rival> rivals;
#ifdef KOTODAMA_BENCH_OPENBLAS
  AddOpenBlas(op, threads, &rivals);
#endif
#ifdef KOTODAMA_BENCH_ONEDNN
  AddOneDnn(op, threads, &rivals);
#endif
  (void)op;
  (void)threads;
  return rivals;
}

}  // namespace kotodama::bench
