#include "trainer/explanations.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adrank {
namespace {

absl::string_view Advice(bool served_is_seen) {
  return served_is_seen ? ""
                        : "; if impressions are not reported, set "
                          "data.served_is_seen";
}

}  // namespace

std::optional<std::string> WhyNothingToLearn(const TrainingRows& rows,
                                             const Windows& windows,
                                             bool served_is_seen,
                                             absl::TimeZone zone) {
  const std::string window = absl::StrCat(
      "the training window, ", FormatTime(windows.train_begin_ms, zone), " to ",
      FormatTime(windows.train_end_ms, zone));
  const v1::JoinCounts& join = rows.join;
  if (rows.seen == 0) {
    return absl::StrFormat(
        "%s, has no examples: %d decisions served %d ads, of which %d were "
        "seen, %d lack their snapshot and %d are test traffic%s",
        window, join.decisions(), join.served_ads(),
        join.examples() + join.missing_snapshots(), join.missing_snapshots(),
        join.test_ads(), Advice(served_is_seen));
  }
  if (rows.seen_clicks == 0) {
    return absl::StrFormat(
        "%s, has %d examples and no click: there is nothing to learn (late "
        "clicks %d, clicks without impression %d, orphan clicks %d)",
        window, rows.seen, join.late_clicks(), join.clicks_without_impression(),
        join.orphan_clicks());
  }
  if (rows.seen_clicks == rows.seen) {
    return absl::StrFormat(
        "%s: all %d examples are clicks; without impressions that were not "
        "clicked there is nothing to learn",
        window, rows.seen);
  }
  return std::nullopt;
}

std::string NoDecisions(absl::string_view window, int64_t begin_ms,
                        int64_t end_ms, std::pair<int64_t, int64_t> log_range,
                        absl::TimeZone zone) {
  return absl::StrFormat(
      "the %s window, %s to %s, has no decisions; the log reaches from %s to "
      "%s",
      window, FormatTime(begin_ms, zone), FormatTime(end_ms, zone),
      FormatTime(log_range.first, zone), FormatTime(log_range.second, zone));
}

std::string NoImpressions(const Windows& windows, bool served_is_seen,
                          absl::TimeZone zone) {
  return absl::StrCat("the log has no impression between ",
                      FormatTime(windows.train_begin_ms, zone), " and ",
                      FormatTime(windows.evaluation_end_ms, zone),
                      Advice(served_is_seen));
}

}  // namespace adrank
