#include "model/binary_header.h"

#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace adrank {
namespace {

constexpr uint32_t kByteOrder = 0x01020304;
constexpr uint32_t kFormatVersion = 1;

}  // namespace

BinaryHeader MakeBinaryHeader(absl::string_view magic) {
  BinaryHeader header = {};
  CHECK_EQ(magic.size(), sizeof(header.magic));
  std::memcpy(header.magic, magic.data(), magic.size());
  header.byte_order = kByteOrder;
  header.format_version = kFormatVersion;
  return header;
}

absl::StatusOr<BinaryHeader> ReadBinaryHeader(absl::string_view bytes,
                                              absl::string_view magic) {
  BinaryHeader header;
  if (bytes.size() < sizeof(header)) {
    return absl::InvalidArgumentError(absl::StrCat(
        bytes.size(), " bytes, the header alone has ", sizeof(header)));
  }
  if (reinterpret_cast<uintptr_t>(bytes.data()) % 8 != 0) {
    return absl::InvalidArgumentError("bytes are not aligned to 8 in memory");
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  const absl::string_view found(header.magic, sizeof(header.magic));
  if (found != magic) {
    return absl::InvalidArgumentError(absl::StrCat(
        "starts with \"", absl::CHexEscape(found), "\", not \"", magic, "\""));
  }
  if (header.byte_order != kByteOrder) {
    return absl::InvalidArgumentError("written in another byte order");
  }
  if (header.format_version > kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("format version ", header.format_version,
                     ", this program reads up to ", kFormatVersion));
  }
  if (header.format_version == 0) {
    return absl::InvalidArgumentError("format version 0");
  }
  for (char c : header.zero) {
    if (c != 0) return absl::InvalidArgumentError("reserved bytes are not 0");
  }
  return header;
}

}  // namespace adrank
