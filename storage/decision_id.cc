#include "storage/decision_id.h"

#include <algorithm>

#include "absl/base/internal/endian.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

constexpr uint64_t kMaxMs = (uint64_t{1} << 48) - 1;

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

}  // namespace

void DecisionId::AppendTo(std::string* bytes) const {
  char buffer[16];
  absl::big_endian::Store64(buffer, ms << 16 | node);
  absl::big_endian::Store32(buffer + 8, sequence);
  bytes->append(buffer, kBytes);
}

DecisionId DecisionId::FromBytes(absl::string_view bytes) {
  const uint64_t high = absl::big_endian::Load64(bytes.data());
  return {high >> 16, static_cast<uint16_t>(high),
          absl::big_endian::Load32(bytes.data() + 8)};
}

std::string DecisionId::ToHex() const {
  std::string bytes;
  AppendTo(&bytes);
  return absl::BytesToHexString(bytes);
}

absl::StatusOr<DecisionId> DecisionId::FromHex(absl::string_view hex) {
  if (hex.size() != 2 * kBytes || !IsLowerHex(hex)) {
    return absl::InvalidArgumentError(
        absl::StrCat("decision_id \"", absl::CHexEscape(hex.substr(0, 64)),
                     "\" is not 24 lower-case hex digits"));
  }
  return FromBytes(absl::HexStringToBytes(hex));
}

DecisionIdGenerator::DecisionIdGenerator(const Clock* clock, uint16_t node,
                                         uint32_t first_sequence)
    : clock_(clock), node_(node), sequence_(first_sequence) {}

DecisionId DecisionIdGenerator::Next() {
  const uint64_t now_ms = std::min(
      static_cast<uint64_t>(std::max<int64_t>(clock_->NowMs(), 0)), kMaxMs);
  absl::MutexLock lock(&mu_);
  const bool was_wrong = now_ms + kWaitedOutMs < last_ms_;
  last_ms_ = was_wrong ? now_ms : std::max(last_ms_, now_ms);
  const DecisionId id{last_ms_, node_, sequence_++};
  // The sequence may only start again at zero in a later millisecond.
  if (sequence_ == 0) ++last_ms_;
  return id;
}

}  // namespace adrank
