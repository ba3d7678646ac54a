// How long a row outlives the last example of its id.
#ifndef ADRANK_TRAINER_EXPIRY_H_
#define ADRANK_TRAINER_EXPIRY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/model_bundle.h"

namespace adrank {

// File of a bundle that remembers its ids' days for the next night:
//
//   seen := magic "AXSEEN01", u64 ids, u16 day[ids], u64 XXH3-64 of all before
inline constexpr char kSeenFile[] = "seen.bin";

// Days since 1970 in UTC, at most 65535.
uint16_t DayOf(int64_t ms);

struct Expiry {
  // An id not seen in the last `after_days` days, `last_day` included, is
  // forgotten. 0: never.
  uint32_t after_days = 0;
  uint16_t last_day = 0;
  // Last day that each of the incumbent's ids was seen on, by row; empty: not
  // known, none is forgotten.
  std::vector<uint16_t> seen;

  bool Forgets(uint16_t day) const {
    return after_days > 0 && day + after_days <= last_day;
  }
};

std::string SerializeSeen(absl::Span<const uint16_t> days);
// DataLoss when a byte is wrong or there are not `ids` days.
absl::StatusOr<std::vector<uint16_t>> ParseSeen(absl::string_view bytes,
                                                uint64_t ids);
// Days of the bundle in `dir`; its newest day for all where it has no such
// file, as a program wrote it that kept no days.
absl::StatusOr<std::vector<uint16_t>> ReadSeen(const std::string& dir,
                                               const ModelBundle& bundle);

}  // namespace adrank

#endif  // ADRANK_TRAINER_EXPIRY_H_
