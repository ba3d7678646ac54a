// oneDNN's matrix product, to compare with; absent where it was not found.
#ifndef ADRANK_BENCH_GEMM_RIVAL_H_
#define ADRANK_BENCH_GEMM_RIVAL_H_

#include <cstddef>
#include <functional>
#include <vector>

#if defined(ADRANK_HAS_DNNL)
#include <omp.h>

#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace adrank {

#if defined(ADRANK_HAS_DNNL)
inline bool HasGemmRival() { return true; }

// A call of c[m][n] = a b on one thread. a is [m][k], b packed as oneDNN likes
// it; transposed_a: a is [k][m], b plain, as both change from call to call.
// bf16: both rounded beforehand.
inline std::function<void()> GemmRival(size_t m, size_t n, size_t k,
                                       bool transposed_a, bool bf16,
                                       const std::vector<float>& a,
                                       const std::vector<float>& b) {
  using dnnl::memory;
  using Tag = memory::format_tag;
  const auto f32 = memory::data_type::f32;
  const auto type = bf16 ? memory::data_type::bf16 : f32;
  const auto dim = [](size_t x) { return static_cast<memory::dim>(x); };
  const memory::dims dims_a = {dim(m), dim(k)}, dims_b = {dim(k), dim(n)},
                     dims_c = {dim(m), dim(n)};
  const Tag tag_a = transposed_a ? Tag::ba : Tag::ab;
  omp_set_num_threads(1);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::matmul::primitive_desc descriptor(
      dnnl::matmul::desc({dims_a, type, tag_a},
                         {dims_b, type, transposed_a ? Tag::ab : Tag::any},
                         {dims_c, f32, Tag::ab}),
      engine);
  const auto put = [&](const std::vector<float>& x, const memory::dims& dims,
                       Tag tag, const memory::desc& wanted) {
    memory plain({dims, f32, tag}, engine, const_cast<float*>(x.data()));
    memory result(wanted, engine);
    dnnl::reorder(plain, result).execute(stream, plain, result);
    stream.wait();
    return result;
  };
  const memory memory_a = put(a, dims_a, tag_a, descriptor.src_desc());
  const memory memory_b = put(b, dims_b, Tag::ab, descriptor.weights_desc());
  const memory memory_c(descriptor.dst_desc(), engine);
  const dnnl::matmul matmul(descriptor);
  return [=]() mutable {
    omp_set_num_threads(1);  // a setting of the calling thread
    matmul.execute(stream, {{DNNL_ARG_SRC, memory_a},
                            {DNNL_ARG_WEIGHTS, memory_b},
                            {DNNL_ARG_DST, memory_c}});
    stream.wait();
  };
}
#else
inline bool HasGemmRival() { return false; }
inline std::function<void()> GemmRival(size_t, size_t, size_t, bool, bool,
                                       const std::vector<float>&,
                                       const std::vector<float>&) {
  return nullptr;
}
#endif

}  // namespace adrank

#endif  // ADRANK_BENCH_GEMM_RIVAL_H_
