// The name of one answered request.
#ifndef ADRANK_STORAGE_DECISION_ID_H_
#define ADRANK_STORAGE_DECISION_ID_H_

#include <compare>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"

namespace adrank {

// id := be48(unix_ms) be16(node) be32(sequence): 12 bytes, 24 hex digits. Byte
// order is time order.
struct DecisionId {
  uint64_t ms = 0;  // < 2^48
  uint16_t node = 0;
  uint32_t sequence = 0;

  static constexpr size_t kBytes = 12;
  // 24 lower-case hex digits.
  std::string ToHex() const;
  // InvalidArgument unless `hex` is what ToHex gives.
  static absl::StatusOr<DecisionId> FromHex(absl::string_view hex);
  // Appends or reads kBytes.
  void AppendTo(std::string* bytes) const;
  static DecisionId FromBytes(absl::string_view bytes);

  friend auto operator<=>(const DecisionId&, const DecisionId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const DecisionId& id) {
    return H::combine(std::move(h), id.ms << 16 | id.node, id.sequence);
  }
};

// Makes ids that are unique on this node and do not go back, though the clock
// may. A clock that goes back by more than kWaitedOutMs was wrong before: its
// time is followed, and the sequence, which goes on, keeps ids apart.
// Thread-safe.
class DecisionIdGenerator {
 public:
  static constexpr uint64_t kWaitedOutMs = 600'000;

  // `first_sequence` is random in production, so that a restart within one
  // millisecond, or after the clock stepped back, does not repeat an id.
  DecisionIdGenerator(const Clock* clock, uint16_t node,
                      uint32_t first_sequence);
  DecisionId Next();

 private:
  const Clock* const clock_;
  const uint16_t node_;
  absl::Mutex mu_;
  uint64_t last_ms_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t sequence_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adrank

#endif  // ADRANK_STORAGE_DECISION_ID_H_
