#include "server/budget/traffic_profile.h"

#include <algorithm>
#include <string>

namespace adrank {
namespace {

// A quarter that was watched for less than half of its time says too little.
constexpr double kLeastCover = 0.5;
constexpr double kMostCover = 1.2;  // an update may end in the next quarter
// Weight of the newest day once four have been seen.
constexpr double kNewest = 0.25;
constexpr double kMostChange = 4;
// Requests that the mean of all quarters counts for against what a quarter had
// itself (a gamma prior): a campaign with ten eligible requests a day is not
// believed to have its traffic in ten minutes.
constexpr double kPriorRequests = 2;

bool Known(const v1::TrafficProfile& profile) {
  return profile.quarters_size() == kQuartersOfClock &&
         profile.days().size() == kQuartersOfClock;
}

uint8_t DaysOf(const v1::TrafficProfile& profile, int quarter) {
  return static_cast<uint8_t>(profile.days()[static_cast<size_t>(quarter)]);
}

// Of the quarters known; 0 when none is.
double MeanOf(const v1::TrafficProfile& profile) {
  double sum = 0;
  int known = 0;
  for (int q = 0; q < kQuartersOfClock; ++q) {
    if (DaysOf(profile, q) == 0) continue;
    sum += profile.quarters(q);
    ++known;
  }
  return known == 0 ? 0 : sum / known;
}

// `count` of a whole quarter hour.
void Learn(int quarter, double count, v1::TrafficProfile* profile) {
  if (!Known(*profile)) {
    profile->mutable_quarters()->Resize(kQuartersOfClock, 0);
    profile->mutable_days()->assign(kQuartersOfClock, '\0');
  }
  const double mean = MeanOf(*profile);
  const int n = DaysOf(*profile, quarter);
  double value = profile->quarters(quarter);
  if (n == 0) {
    const double like = std::max(mean, profile->last_count());
    value = like > 0 ? std::min(count, kMostChange * like) : count;
    profile->set_last_count(value);
  } else {
    // A quarter that was empty may fill again.
    const double most = kMostChange * std::max(value, mean / 8);
    count = std::clamp(count, value / kMostChange, std::max(most, 1.0));
    value += std::max(1.0 / (n + 1), kNewest) * (count - value);
    profile->set_last_count(count);
  }
  profile->set_quarters(quarter, static_cast<float>(value));
  (*profile->mutable_days())[static_cast<size_t>(quarter)] =
      static_cast<char>(std::min(n + 1, 255));
}

void CloseQuarter(v1::TrafficProfile* profile) {
  if (profile->open_quarter() != 0) {
    const double cover = static_cast<double>(profile->open_ms()) /
                         static_cast<double>(kQuarterMs);
    if (cover >= kLeastCover && cover <= kMostCover) {
      Learn(static_cast<int>(profile->open_quarter()) - 1,
            profile->open_count() / cover, profile);
    }
  }
  ForgetOpenQuarter(profile);
}

}  // namespace

void ForgetOpenQuarter(v1::TrafficProfile* profile) {
  profile->set_open_quarter(0);
  profile->set_open_ms(0);
  profile->set_open_count(0);
}

void ObserveTraffic(const PacingDay& day, int64_t from_ms, int64_t to_ms,
                    uint64_t eligible, v1::TrafficProfile* profile) {
  const uint32_t quarter = day.QuarterAt(from_ms + (to_ms - from_ms) / 2) + 1u;
  if (quarter != profile->open_quarter()) {
    CloseQuarter(profile);
    profile->set_open_quarter(quarter);
  }
  profile->set_open_ms(profile->open_ms() + (to_ms - from_ms));
  profile->set_open_count(profile->open_count() +
                          static_cast<double>(eligible));
}

double ForecastTraffic(const v1::TrafficProfile& profile, const PacingDay& day,
                       int64_t from_ms, int64_t to_ms) {
  from_ms = std::max(from_ms, day.day.start_ms);
  to_ms = std::min(to_ms, day.day.end_ms);
  if (from_ms >= to_ms) return 0;
  const bool known = Known(profile);
  const double mean = known ? std::max(MeanOf(profile), 1e-3) : 1;
  double sum = 0;
  for (int64_t k = (from_ms - day.day.start_ms) / kQuarterMs;; ++k) {
    const int64_t begin = day.day.start_ms + k * kQuarterMs;
    if (begin >= to_ms) break;
    const int64_t overlap =
        std::min(to_ms, begin + kQuarterMs) - std::max(from_ms, begin);
    double value = mean;
    if (known) {
      const int quarter = day.quarters[static_cast<size_t>(k)];
      const double n = DaysOf(profile, quarter);
      value = (n * profile.quarters(quarter) + kPriorRequests) /
              (n + kPriorRequests / mean);
    }
    sum +=
        value * static_cast<double>(overlap) / static_cast<double>(kQuarterMs);
  }
  return sum;
}

}  // namespace adrank
