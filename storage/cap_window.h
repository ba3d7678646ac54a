// The one reading of a FrequencyCap's window.
#ifndef ADRANK_STORAGE_CAP_WINDOW_H_
#define ADRANK_STORAGE_CAP_WINDOW_H_

#include <algorithm>
#include <cstdint>

#include "proto/catalog.pb.h"

namespace adrank {

inline constexpr int kMaxCaps = 8;
inline constexpr int64_t kMaxCapWindowSeconds = 5 * 7 * 86400;

// 0 when the unit is not known.
inline int64_t CapWindowSeconds(const v1::FrequencyCap& cap) {
  const int64_t length = std::max<int64_t>(1, cap.length());
  switch (cap.unit()) {
    case v1::FrequencyCap::MINUTE:
      return length * 60;
    case v1::FrequencyCap::HOUR:
      return length * 3600;
    case v1::FrequencyCap::UNIT_UNSPECIFIED:
    case v1::FrequencyCap::DAY:
      return length * 86400;
    case v1::FrequencyCap::WEEK:
      return length * 7 * 86400;
    default:
      return 0;
  }
}

}  // namespace adrank

#endif  // ADRANK_STORAGE_CAP_WINDOW_H_
