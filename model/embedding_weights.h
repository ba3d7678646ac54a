// What the embedding family has learnt, and weights.bin that holds it (header:
// model/binary_header.h; every part begins at a multiple of 64 bytes):
//
//   weights    := header parameter:f32[parameters] [linear:f32[rows]]
//                 vector[rows]
//   header     := magic "ADRKEMB1", count = {rows, dim, parameters,
//                 storage (EmbeddingStorage) | 256 when there is a linear part}
//   vector     := f32[dim]                                 STORE_FP32
//              |  bf16[dim]                                STORE_BF16
//              |  scale:f32 offset:f32 u8[dim] 0-padding   STORE_INT8
//                 to a multiple of 4; number = scale x byte + offset
#ifndef ADRANK_MODEL_EMBEDDING_WEIGHTS_H_
#define ADRANK_MODEL_EMBEDDING_WEIGHTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/model_graph.pb.h"

namespace adrank {

struct EmbeddingWeights {
  uint32_t dim = 0;
  // [rows], or empty when the graph has no linear part.
  std::vector<float> linear;
  // [rows][dim]
  std::vector<float> vectors;
  // [parameters] of the graph without batch norm (Graph::Create, training =
  // false); the first is the bias.
  std::vector<float> parameters;
};

// Vectors rounded to their storage: to bf16 to nearest even; to bytes with
// scale = (max - min) / 255, offset = min of the row (nearest).
std::string SerializeEmbedding(const EmbeddingWeights& weights, uint64_t rows,
                               v1::EmbeddingStorage storage);

// Views the bytes it was parsed from. Immutable and thread-safe.
class EmbeddingView {
 public:
  // InvalidArgument when the bytes are not whole weights, not aligned to 8 in
  // memory or hold a number that is not finite; FailedPrecondition when newer.
  static absl::StatusOr<EmbeddingView> Parse(absl::string_view bytes);

  uint64_t rows() const { return rows_; }
  uint32_t dim() const { return dim_; }
  absl::Span<const float> parameters() const { return parameters_; }
  // Empty without a linear part.
  absl::Span<const float> linear() const { return linear_; }

  // to[d] += value x row[d] for d < n; returns the sum of squares of row[d],
  // d < n. REQUIRES: row < rows(), n <= dim().
  float AddTo(uint32_t row, float value, uint32_t n, float* to) const;
  void Prefetch(uint32_t row) const {
    const char* at = vectors_ + row * stride_;
    __builtin_prefetch(at);
    __builtin_prefetch(at + 64);
    if (!linear_.empty()) __builtin_prefetch(&linear_[row]);
  }

 private:
  absl::Status CheckFinite() const;
  void Read(uint32_t row, uint32_t n, float* out) const;

  uint64_t rows_ = 0;
  uint32_t dim_ = 0;
  v1::EmbeddingStorage storage_ = v1::STORE_FP32;
  size_t stride_ = 0;  // bytes of a vector
  const char* vectors_ = nullptr;
  absl::Span<const float> parameters_, linear_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_EMBEDDING_WEIGHTS_H_
