#include "trainer/expiry.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

constexpr char kSeenMagic[] = "AXSEEN01";
constexpr size_t kSeenHeader = 16;  // magic and count

}  // namespace

uint16_t DayOf(int64_t ms) {
  constexpr int64_t kDayMs = 86'400'000;
  return static_cast<uint16_t>(std::clamp<int64_t>(ms / kDayMs, 0, 65535));
}

std::string SerializeSeen(absl::Span<const uint16_t> days) {
  const uint64_t count = days.size();
  std::string bytes(kSeenMagic, 8);
  bytes.append(reinterpret_cast<const char*>(&count), sizeof(count));
  bytes.append(reinterpret_cast<const char*>(days.data()), 2 * days.size());
  const uint64_t checksum = Hash64(bytes);
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return bytes;
}

absl::StatusOr<std::vector<uint16_t>> ParseSeen(absl::string_view bytes,
                                                uint64_t ids) {
  const auto word = [&](size_t at) {
    uint64_t value;
    memcpy(&value, bytes.data() + at, sizeof(value));
    return value;
  };
  if (bytes.size() < kSeenHeader + 8 || bytes.substr(0, 8) != kSeenMagic ||
      word(bytes.size() - 8) != Hash64(bytes.substr(0, bytes.size() - 8))) {
    return absl::DataLossError("days of ids: damaged");
  }
  if (word(8) != ids || bytes.size() != kSeenHeader + 2 * ids + 8) {
    return absl::DataLossError(
        absl::StrCat("days of ids: of ", word(8), " ids instead of ", ids));
  }
  std::vector<uint16_t> days(ids);
  memcpy(days.data(), bytes.data() + kSeenHeader, 2 * ids);
  return days;
}

absl::StatusOr<std::vector<uint16_t>> ReadSeen(const std::string& dir,
                                               const ModelBundle& bundle) {
  const std::string path = files::Join(dir, kSeenFile);
  const uint64_t ids = bundle.vocabulary().ids();
  auto bytes = files::Read(path);
  if (absl::IsNotFound(bytes.status())) {
    return std::vector<uint16_t>(ids,
                                 DayOf(bundle.manifest().last_example_ms()));
  }
  RETURN_IF_ERROR(bytes.status());
  auto seen = ParseSeen(*bytes, ids);
  if (!seen.ok()) return Annotate(seen.status(), path);
  return seen;
}

}  // namespace adrank
