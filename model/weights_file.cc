#include "model/weights_file.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/binary_header.h"

namespace adrank {
namespace {

constexpr absl::string_view kMagic = "ADRKWGT1";

}  // namespace

absl::Status CheckFinite(const LogisticWeights& weights) {
  if (!std::isfinite(weights.bias)) {
    return absl::InvalidArgumentError(
        absl::StrCat("bias is ", weights.bias, ", not finite"));
  }
  for (size_t i = 0; i < weights.weights.size(); ++i) {
    if (!std::isfinite(weights.weights[i])) {
      return absl::InvalidArgumentError(absl::StrCat(
          "weight[", i, "] is ", weights.weights[i], ", not finite"));
    }
  }
  return absl::OkStatus();
}

std::string SerializeWeights(const LogisticWeights& weights) {
  BinaryHeader header = MakeBinaryHeader(kMagic);
  header.count[0] = weights.weights.size();
  header.count[1] = std::bit_cast<uint32_t>(weights.bias);
  std::string bytes(sizeof(header) + 4 * weights.weights.size(), '\0');
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (!weights.weights.empty()) {
    std::memcpy(bytes.data() + sizeof(header), weights.weights.data(),
                4 * weights.weights.size());
  }
  return bytes;
}

absl::StatusOr<LogisticWeights> ParseWeights(absl::string_view bytes) {
  ASSIGN_OR_RETURN(const BinaryHeader header, ReadBinaryHeader(bytes, kMagic));
  const uint64_t rows = header.count[0];
  if (rows > bytes.size() || bytes.size() != sizeof(header) + 4 * rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes.size(), " bytes do not fit ", rows, " rows"));
  }
  if (header.count[1] > 0xffffffffu || header.count[2] != 0 ||
      header.count[3] != 0) {
    return absl::InvalidArgumentError("counts without meaning are not 0");
  }
  LogisticWeights result;
  result.bias = std::bit_cast<float>(static_cast<uint32_t>(header.count[1]));
  result.weights = {
      reinterpret_cast<const float*>(bytes.data() + sizeof(header)), rows};
  RETURN_IF_ERROR(CheckFinite(result));
  return result;
}

}  // namespace adrank
