#include "model/checksums.h"

#include <openssl/evp.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

constexpr size_t kHexSize = 64;

// A FIFO or a device could block or never end, a link points out of what is
// checked.
absl::Status CheckRegular(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("stat ", path));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::DataLossError(absl::StrCat(path, ": not a regular file"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Checksums> ReadChecksums(const std::string& path) {
  if (!files::Exists(path)) {
    return absl::DataLossError(absl::StrCat(path, ": missing"));
  }
  RETURN_IF_ERROR(CheckRegular(path));
  ASSIGN_OR_RETURN(const std::string text, files::Read(path));
  absl::StatusOr<Checksums> checksums = ParseChecksums(text);
  if (!checksums.ok()) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", checksums.status().message()));
  }
  return checksums;
}

}  // namespace

bool IsPlainName(absl::string_view name) {
  if (name.empty() || name.size() > 128 || name[0] == '.') return false;
  for (char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' &&
        c != '_' && c != '-') {
      return false;
    }
  }
  return true;
}

std::string Sha256Hex(absl::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CHECK_EQ(EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(),
                      nullptr),
           1);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), size));
}

std::string SerializeChecksums(const Checksums& checksums) {
  std::string text;
  for (const auto& [name, hex] : checksums) {
    absl::StrAppend(&text, hex, "  ", name, "\n");
  }
  return text;
}

absl::StatusOr<Checksums> ParseChecksums(absl::string_view text) {
  Checksums checksums;
  int number = 0;
  for (absl::string_view rest = text; !rest.empty();) {
    ++number;
    const size_t end = rest.find('\n');
    const absl::string_view line = rest.substr(0, end);
    const bool whole = end != absl::string_view::npos;
    const bool well_formed = whole && line.size() > kHexSize + 2 &&
                             line.substr(kHexSize, 2) == "  " &&
                             IsPlainName(line.substr(kHexSize + 2));
    if (!well_formed) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, " is not \"<64 hex digits>  <name>\""));
    }
    checksums.emplace(line.substr(kHexSize + 2), line.substr(0, kHexSize));
    rest.remove_prefix(end + 1);
  }
  if (SerializeChecksums(checksums) != text) {
    return absl::InvalidArgumentError("names are not sorted and distinct");
  }
  return checksums;
}

absl::StatusOr<std::map<std::string, files::Mapped>> MapVerified(
    const std::string& dir) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, files::List(dir));
  ASSIGN_OR_RETURN(const Checksums checksums,
                   ReadChecksums(files::Join(dir, kChecksumsFile)));
  std::map<std::string, files::Mapped> mapped;
  for (const std::string& name : names) {
    if (name == kChecksumsFile) continue;
    const std::string path = files::Join(dir, name);
    const auto expected = checksums.find(name);
    if (expected == checksums.end()) {
      return absl::DataLossError(
          absl::StrCat(path, ": not listed in ", kChecksumsFile));
    }
    RETURN_IF_ERROR(CheckRegular(path));
    ASSIGN_OR_RETURN(files::Mapped file, files::Mapped::Open(path));
    const std::string found = Sha256Hex(file.bytes());
    if (found != expected->second) {
      return absl::DataLossError(absl::StrCat(path, ": SHA-256 is ", found,
                                              ", ", kChecksumsFile, " says ",
                                              expected->second));
    }
    mapped.emplace(name, std::move(file));
  }
  for (const auto& [name, hex] : checksums) {
    if (mapped.count(name) == 0) {
      return absl::DataLossError(
          absl::StrCat(files::Join(dir, name), ": missing"));
    }
  }
  return mapped;
}

}  // namespace adrank
