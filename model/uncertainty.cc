// Hot path (LogitVariance): no allocation, no locks, no logging.
#include "model/uncertainty.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/binary_header.h"

namespace adrank {
namespace {

constexpr absl::string_view kMagic = "ADRKVAR1";
constexpr float kMaxVariance = 0x1p20f;

uint16_t ToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float FromBf16(uint16_t x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x) << 16);
}

absl::Status CheckVariance(const char* what, size_t index, float x) {
  if (x > 0 && x <= kMaxVariance) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, "[", index, "] is ", x, ", not in (0, 2^20]"));
}

}  // namespace

absl::StatusOr<Uncertainty> Uncertainty::Parse(absl::string_view bytes,
                                               uint64_t rows) {
  ASSIGN_OR_RETURN(const BinaryHeader header, ReadBinaryHeader(bytes, kMagic));
  if (header.count[0] != rows || rows > bytes.size() ||
      bytes.size() != sizeof(header) + 2 * rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(header.count[0], " variances in ", bytes.size(),
                     " bytes, the vocabulary has ", rows, " rows"));
  }
  if (header.count[1] > 0xffffffffu || header.count[2] != 0 ||
      header.count[3] != 0) {
    return absl::InvalidArgumentError("counts without meaning are not 0");
  }
  Uncertainty result;
  result.prior_ = std::bit_cast<float>(static_cast<uint32_t>(header.count[1]));
  result.variances_ = {
      reinterpret_cast<const uint16_t*>(bytes.data() + sizeof(header)), rows};
  RETURN_IF_ERROR(CheckVariance("prior", 0, result.prior_));
  for (size_t r = 0; r < rows; ++r) {
    RETURN_IF_ERROR(
        CheckVariance("variance", r, FromBf16(result.variances_[r])));
  }
  return result;
}

std::string Uncertainty::Serialize(float prior,
                                   absl::Span<const float> variances) {
  BinaryHeader header = MakeBinaryHeader(kMagic);
  header.count[0] = variances.size();
  header.count[1] = std::bit_cast<uint32_t>(prior);
  std::string bytes(sizeof(header) + 2 * variances.size(), '\0');
  std::memcpy(bytes.data(), &header, sizeof(header));
  for (size_t r = 0; r < variances.size(); ++r) {
    const uint16_t rounded = ToBf16(variances[r]);
    std::memcpy(bytes.data() + sizeof(header) + 2 * r, &rounded, 2);
  }
  return bytes;
}

float Uncertainty::variance(uint32_t row) const {
  return row == kNoRow ? prior_ : FromBf16(variances_[row]);
}

double Uncertainty::Sum(const FeatureBatch& batch,
                        const std::vector<uint32_t>& rows, size_t i) const {
  double sum = 0;
  for (size_t e = batch.offsets[i]; e < batch.offsets[i + 1]; ++e) {
    const double value = batch.values[e];
    sum += static_cast<double>(variance(rows[e])) * value * value;
  }
  return sum;
}

double Uncertainty::LogitVariance(const RequestFeatures& features,
                                  const RequestRows& rows, size_t i) const {
  return Sum(features.ads, rows.ads, i) +
         Sum(features.crosses, rows.crosses, i);
}

}  // namespace adrank
