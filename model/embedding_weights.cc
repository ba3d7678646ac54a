#include "model/embedding_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/binary_header.h"

namespace adrank {
namespace {

constexpr absl::string_view kMagic = "ADRKEMB1";
constexpr uint32_t kMaxDim = 128;
constexpr uint64_t kLinearBit = 256;

size_t Padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t Stride(uint32_t dim, v1::EmbeddingStorage storage) {
  if (storage == v1::STORE_BF16) return 2 * size_t{dim};
  if (storage == v1::STORE_INT8) return 8 + (size_t{dim} + 3) / 4 * 4;
  return 4 * size_t{dim};
}

// Where the parts begin and the file ends.
struct Parts {
  Parts(uint64_t rows, uint32_t dim, uint64_t parameter_count, bool has_linear,
        v1::EmbeddingStorage storage)
      : parameters(sizeof(BinaryHeader)),
        linear(parameters + Padded(4 * parameter_count)),
        vectors(linear + (has_linear ? Padded(4 * rows) : 0)),
        end(vectors + rows * Stride(dim, storage)) {}
  size_t parameters, linear, vectors, end;
};

// To nearest, ties to even. REQUIRES: x is finite.
uint16_t ToBf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float FromBf16(uint16_t x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x) << 16);
}

void WriteVector(const float* v, uint32_t dim, v1::EmbeddingStorage storage,
                 char* out) {
  if (storage == v1::STORE_FP32) {
    std::memcpy(out, v, 4 * size_t{dim});
  } else if (storage == v1::STORE_BF16) {
    for (uint32_t d = 0; d < dim; ++d) {
      const uint16_t x = ToBf16(v[d]);
      std::memcpy(out + 2 * d, &x, 2);
    }
  } else {
    const auto [low, high] = std::minmax_element(v, v + dim);
    const float scale_offset[2] = {(*high - *low) / 255, *low};
    std::memcpy(out, scale_offset, 8);
    for (uint32_t d = 0; d < dim; ++d) {
      const float q =
          scale_offset[0] > 0 ? (v[d] - *low) / scale_offset[0] : 0.0f;
      out[8 + d] = static_cast<char>(
          static_cast<uint8_t>(std::clamp(std::nearbyint(q), 0.0f, 255.0f)));
    }
  }
}

}  // namespace

std::string SerializeEmbedding(const EmbeddingWeights& weights, uint64_t rows,
                               v1::EmbeddingStorage storage) {
  if (storage == v1::EMBEDDING_STORAGE_UNSPECIFIED) storage = v1::STORE_FP32;
  const bool linear = !weights.linear.empty();
  BinaryHeader header = MakeBinaryHeader(kMagic);
  header.count[0] = rows;
  header.count[1] = weights.dim;
  header.count[2] = weights.parameters.size();
  header.count[3] = static_cast<uint64_t>(storage) | (linear ? kLinearBit : 0);
  const Parts parts(rows, weights.dim, weights.parameters.size(), linear,
                    storage);
  std::string bytes(parts.end, '\0');
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::memcpy(&bytes[parts.parameters], weights.parameters.data(),
              4 * weights.parameters.size());
  if (linear) {
    std::memcpy(&bytes[parts.linear], weights.linear.data(), 4 * rows);
  }
  for (uint64_t r = 0; r < rows && weights.dim > 0; ++r) {
    WriteVector(&weights.vectors[r * weights.dim], weights.dim, storage,
                &bytes[parts.vectors + r * Stride(weights.dim, storage)]);
  }
  return bytes;
}

absl::StatusOr<EmbeddingView> EmbeddingView::Parse(absl::string_view bytes) {
  ASSIGN_OR_RETURN(const BinaryHeader header, ReadBinaryHeader(bytes, kMagic));
  EmbeddingView view;
  view.rows_ = header.count[0];
  const uint64_t dim = header.count[1], parameters = header.count[2];
  const uint64_t storage = header.count[3] & ~kLinearBit;
  const bool linear = (header.count[3] & kLinearBit) != 0;
  if (dim > kMaxDim || storage < v1::STORE_FP32 || storage > v1::STORE_INT8) {
    return absl::InvalidArgumentError(absl::StrCat(
        "dim ", dim, " or storage ", storage, " is out of its range"));
  }
  view.dim_ = static_cast<uint32_t>(dim);
  view.storage_ = static_cast<v1::EmbeddingStorage>(storage);
  view.stride_ = Stride(view.dim_, view.storage_);
  // Each alone first, so that the sum below cannot overflow.
  const bool fits =
      view.rows_ <= bytes.size() && parameters <= bytes.size() &&
      Parts(view.rows_, view.dim_, parameters, linear, view.storage_).end ==
          bytes.size();
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes.size(), " bytes do not fit ", view.rows_,
                     " rows of dim ", dim, " and ", parameters, " parameters"));
  }
  const Parts parts(view.rows_, view.dim_, parameters, linear, view.storage_);
  const auto floats = [&](size_t at, uint64_t n) {
    return absl::Span<const float>(
        reinterpret_cast<const float*>(bytes.data() + at), n);
  };
  view.parameters_ = floats(parts.parameters, parameters);
  if (linear) view.linear_ = floats(parts.linear, view.rows_);
  view.vectors_ = bytes.data() + parts.vectors;
  RETURN_IF_ERROR(view.CheckFinite());
  return view;
}

absl::Status EmbeddingView::CheckFinite() const {
  const auto bad = [](absl::string_view what, size_t i, float value) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, "[", i, "] is ", value, ", not finite"));
  };
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!std::isfinite(parameters_[i])) {
      return bad("parameter", i, parameters_[i]);
    }
  }
  for (size_t i = 0; i < linear_.size(); ++i) {
    if (!std::isfinite(linear_[i])) return bad("linear", i, linear_[i]);
  }
  float v[kMaxDim];
  for (uint64_t r = 0; r < rows_; ++r) {
    Read(static_cast<uint32_t>(r), dim_, v);
    for (uint32_t d = 0; d < dim_; ++d) {
      if (!std::isfinite(v[d])) return bad("vector", r, v[d]);
    }
  }
  return absl::OkStatus();
}

void EmbeddingView::Read(uint32_t row, uint32_t n, float* out) const {
  const char* const at = vectors_ + row * stride_;
  if (storage_ == v1::STORE_FP32) {
    std::memcpy(out, at, 4 * size_t{n});
  } else if (storage_ == v1::STORE_BF16) {
    uint16_t half[kMaxDim];
    std::memcpy(half, at, 2 * size_t{n});
    for (uint32_t d = 0; d < n; ++d) out[d] = FromBf16(half[d]);
  } else {
    float scale_offset[2];
    std::memcpy(scale_offset, at, 8);
    for (uint32_t d = 0; d < n; ++d) {
      out[d] = scale_offset[0] *
                   static_cast<float>(static_cast<uint8_t>(at[8 + d])) +
               scale_offset[1];
    }
  }
}

float EmbeddingView::AddTo(uint32_t row, float value, uint32_t n,
                           float* to) const {
  DCHECK_LT(row, rows_);
  float v[kMaxDim];
  Read(row, n, v);
  float squares = 0;
  for (uint32_t d = 0; d < n; ++d) squares += v[d] * v[d];
  for (uint32_t d = 0; d < n; ++d) to[d] += value * v[d];
  return squares;
}

}  // namespace adrank
