// The first 64 bytes of a bundle's binary files.
//
//   header := magic[8] byte_order:u32 = 0x01020304 format_version:u32 = 1
//             count:u64[4] zero[16]
//
// Integers are in the machine's byte order, which byte_order tells; only
// little-endian files exist. What the counts mean is said where the magic is.
#ifndef ADRANK_MODEL_BINARY_HEADER_H_
#define ADRANK_MODEL_BINARY_HEADER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adrank {

struct BinaryHeader {
  char magic[8];
  uint32_t byte_order;
  uint32_t format_version;
  uint64_t count[4];
  char zero[16];
};
static_assert(sizeof(BinaryHeader) == 64);

// A header with this magic (8 bytes) and counts of 0.
BinaryHeader MakeBinaryHeader(absl::string_view magic);

// The header at the start of `bytes`. InvalidArgument when they are too short,
// not aligned to 8 bytes in memory, of another kind, of another byte order or
// not zero where they should; FailedPrecondition when the format is newer.
absl::StatusOr<BinaryHeader> ReadBinaryHeader(absl::string_view bytes,
                                              absl::string_view magic);

}  // namespace adrank

#endif  // ADRANK_MODEL_BINARY_HEADER_H_
