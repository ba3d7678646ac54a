#include "server/trigger/time_windows.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adrank {
namespace {

constexpr uint32_t kDay = 24 * 60;
constexpr uint32_t kAllDays = 0x7f;
constexpr absl::string_view kDayNames[] = {"Mon", "Tue", "Wed", "Thu",
                                           "Fri", "Sat", "Sun"};

std::string ClockText(uint32_t minute) {
  return absl::StrFormat("%02d:%02d", minute / 60, minute % 60);
}

}  // namespace

absl::StatusOr<uint32_t> TimeWindows::Add(
    const v1::TargetingExpression::TimeWindow& window) {
  Window w = {0, 0, window.from_minute(), window.to_minute()};
  for (const uint32_t day : window.days()) {
    if (day < 1 || day > 7) {
      return absl::InvalidArgumentError(
          absl::StrCat("time_window.days: ", day, " not in [1, 7]"));
    }
    w.days |= 1u << (day - 1);
  }
  if (w.days == 0) w.days = kAllDays;
  if (w.from >= kDay || w.to > kDay) {
    return absl::InvalidArgumentError(absl::StrCat(
        "time_window: minutes ", w.from, " to ", w.to, " are beyond a day"));
  }
  if (w.from == 0 && w.to == 0) w.to = kDay;
  const std::string name =
      window.time_zone().empty() ? "UTC" : window.time_zone();
  while (w.zone < zones_.size() && zones_[w.zone].name != name) ++w.zone;
  if (w.zone == zones_.size()) {
    Zone zone = {name, absl::UTCTimeZone(), {}};
    if (!absl::LoadTimeZone(name, &zone.zone)) {
      return absl::InvalidArgumentError(
          absl::StrCat("time_window.time_zone: \"", name, "\" is not known"));
    }
    zones_.push_back(std::move(zone));
  }
  const auto [it, added] =
      numbers_.try_emplace(std::make_tuple(w.zone, w.days, w.from, w.to),
                           static_cast<uint32_t>(windows_.size()));
  if (added) {
    zones_[w.zone].windows.push_back(it->second);
    windows_.push_back(w);
  }
  return it->second;
}

TimeWindows::Moment TimeWindows::In(const Zone& zone, int64_t time_ms) {
  const absl::CivilSecond local =
      zone.zone.At(absl::FromUnixMillis(time_ms)).cs;
  return {static_cast<uint32_t>(absl::GetWeekday(local)),
          static_cast<uint32_t>(local.hour() * 60 + local.minute())};
}

std::string TimeWindows::Text(uint32_t window) const {
  const Window& w = windows_[window];
  std::string text;
  for (uint32_t day = 0; w.days != kAllDays && day < 7; ++day) {
    if ((w.days >> day & 1) == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ",", kDayNames[day]);
  }
  return absl::StrCat(text, text.empty() ? "" : " ", ClockText(w.from), "-",
                      ClockText(w.to), " ", zones_[w.zone].name);
}

std::string TimeWindows::Local(uint32_t window, int64_t time_ms) const {
  const Zone& zone = zones_[windows_[window].zone];
  const Moment moment = In(zone, time_ms);
  return absl::StrCat(kDayNames[moment.day], " ", ClockText(moment.minute), " ",
                      zone.name);
}

}  // namespace adrank
