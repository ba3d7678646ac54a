// checksums.sha256: every other byte of a bundle.
//
//   checksums := line*                 sorted by name, as `sha256sum -c` reads
//   line      := hex[64] "  " name "\n"        lower-case hex of SHA-256
//   name      := [A-Za-z0-9_-][A-Za-z0-9._-]*  at most 128 bytes
//
// The file must be exactly what its own entries serialise to, so that no byte
// of it can change unnoticed either.
#ifndef ADRANK_MODEL_CHECKSUMS_H_
#define ADRANK_MODEL_CHECKSUMS_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/files.h"

namespace adrank {

inline constexpr char kChecksumsFile[] = "checksums.sha256";

// Whether a file of a bundle (or a model) may be called so.
bool IsPlainName(absl::string_view name);

// Lower-case hex.
std::string Sha256Hex(absl::string_view bytes);

// File name -> hex of its SHA-256.
using Checksums = std::map<std::string, std::string>;

std::string SerializeChecksums(const Checksums& checksums);
// InvalidArgument, naming the line, when it is not a serialisation.
absl::StatusOr<Checksums> ParseChecksums(absl::string_view text);

// Maps all files of the directory after their checksums were compared: file
// name
// -> bytes, checksums.sha256 itself left out. The hashed bytes are the mapped
// ones. DataLoss when a file is missing, changed, not listed (strangers are
// refused: nothing in the directory may go unchecked) or no regular file;
// NotFound when there is no directory.
absl::StatusOr<std::map<std::string, files::Mapped>> MapVerified(
    const std::string& dir);

}  // namespace adrank

#endif  // ADRANK_MODEL_CHECKSUMS_H_
