// What one user has been shown of ads, ad groups and campaigns that have
// frequency caps, and how it is stored.
//
// row       := be32(expires_s) entity* checksum
// entity    := le64(CapKey) varint(records) record*
// record    := flags zigzag_varint(ms - ms of the record before, or - 0)
//              [varint(keep_s)] [varint(count)] [le32(sequence) le16(node)
//              u8(position)]
// flags     := u8: 1 confirmed (the last three are absent), 2 keep_s is there
//              (else that of the record before), 4 count is there (else 1)
// checksum  := le32, the low half of Hash64 of all before it
// expires_s: unix seconds after which no record counts; first, so that a
// compaction finds it without reading on.
#ifndef ADRANK_STORAGE_CAP_ROW_H_
#define ADRANK_STORAGE_CAP_ROW_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "storage/decision_id.h"

namespace adrank {

enum class CapLevel : uint8_t { kAd, kAdGroup, kCampaign };
inline constexpr int kCapLevels = 3;

// Names an entity in a row. Two of one user's never meet: 64 bits.
uint64_t CapKey(CapLevel level, absl::string_view id);

// Names the user: a hash of user_id, which itself is not stored.
using CapUser = Hash128Value;
inline CapUser CapUserOf(absl::string_view user_id) { return Hash128(user_id); }

// Impressions of one entity. Unconfirmed: served by the named decision, and no
// impression was reported yet.
struct CapRecord {
  uint64_t key = 0;  // CapKey
  // When: DecisionId.ms of the decision that served it, for confirmed ones too.
  int64_t ms = 0;
  // For how long after `ms` it may count; that of the longest cap then.
  uint32_t keep_s = 0;
  uint32_t count = 1;     // above 1 only when confirmed
  uint32_t sequence = 0;  // these three are 0 when confirmed
  uint16_t node = 0;
  uint8_t position = 0;
  bool confirmed = false;

  DecisionId decision() const {
    return {static_cast<uint64_t>(ms), node, sequence};
  }
  int64_t expires_ms() const { return ms + int64_t{keep_s} * 1000; }
  friend bool operator==(const CapRecord&, const CapRecord&) = default;
};

// Sorted by (key, ms).
using CapRow = std::vector<CapRecord>;

// Replaces *bytes.
void EncodeCapRow(const CapRow& row, std::string* bytes);
// Replaces *row. DataLoss when the bytes are not what EncodeCapRow makes; then
// *row is empty.
absl::Status DecodeCapRow(absl::string_view bytes, CapRow* row);
// Of an encoded row, without looking at the rest; 0 when it is too short.
uint32_t CapRowExpiry(absl::string_view bytes);

}  // namespace adrank

#endif  // ADRANK_STORAGE_CAP_ROW_H_
