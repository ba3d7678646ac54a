#include "trainer/windows.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

constexpr int64_t kOpenEnd = std::numeric_limits<int64_t>::max();

bool LooksLikeDate(absl::string_view digits) {
  int64_t n;
  return digits.size() == 8 && absl::SimpleAtoi(digits, &n) && n >= 19700101 &&
         n <= 20991231;
}

absl::StatusOr<std::optional<int64_t>> Named(absl::string_view field,
                                             absl::string_view text,
                                             absl::TimeZone zone) {
  auto time = ParseTime(text, zone);
  if (!time.ok()) return Annotate(time.status(), absl::StrCat("data.", field));
  return time;
}

absl::Status NotAfter(absl::string_view later, absl::string_view earlier) {
  return absl::InvalidArgumentError(
      absl::StrCat("data.", later, ": is not after data.", earlier));
}

}  // namespace

absl::StatusOr<std::optional<int64_t>> ParseTime(absl::string_view text,
                                                 absl::TimeZone zone) {
  text = absl::StripAsciiWhitespace(text);
  if (text.empty()) return std::optional<int64_t>();
  int64_t ms;
  if (LooksLikeDate(text)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" would be unix milliseconds of 1970; a date is written ",
        text.substr(0, 4), "-", text.substr(4, 2), "-", text.substr(6, 2)));
  }
  if (absl::SimpleAtoi(text, &ms)) {
    if (ms >= 0) return std::optional<int64_t>(ms);
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is before 1970"));
  }
  for (const char* format : {"%Y-%m-%d", "%Y-%m-%d %H:%M"}) {
    absl::Time time;
    std::string ignored;
    if (absl::ParseTime(format, text, zone, &time, &ignored)) {
      return std::optional<int64_t>(absl::ToUnixMillis(time));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text,
                   "\" is neither YYYY-MM-DD, nor YYYY-MM-DD HH:MM, nor unix "
                   "milliseconds"));
}

absl::StatusOr<ParsedWindows> ParseWindows(const v1::DataConfig& data,
                                           bool calibrates,
                                           absl::TimeZone zone) {
  ASSIGN_OR_RETURN(auto begin, Named("train_begin", data.train_begin(), zone));
  ASSIGN_OR_RETURN(auto end, Named("train_end", data.train_end(), zone));
  ASSIGN_OR_RETURN(auto calibration,
                   Named("calibration_end", data.calibration_end(), zone));
  ASSIGN_OR_RETURN(auto evaluation,
                   Named("evaluation_end", data.evaluation_end(), zone));
  ParsedWindows parsed;
  Windows& w = parsed.windows;
  w.train_begin_ms = begin.value_or(0);
  w.evaluation_end_ms = evaluation.value_or(kOpenEnd);
  if (!end && !calibration) {
    if (w.evaluation_end_ms <= w.train_begin_ms) {
      return NotAfter("evaluation_end", "train_begin");
    }
    parsed.by_share = true;
    return parsed;
  }
  if (!end) {
    return absl::InvalidArgumentError(
        "data.train_end: is required with data.calibration_end");
  }
  if (!calibration && calibrates) {
    return absl::InvalidArgumentError(
        "data.calibration_end: is required with data.train_end, unless "
        "calibration.method is NONE");
  }
  w.train_end_ms = *end;
  w.calibration_end_ms = calibration.value_or(*end);
  if (w.train_end_ms <= w.train_begin_ms) {
    return NotAfter("train_end", "train_begin");
  }
  if (w.calibration_end_ms < w.train_end_ms ||
      (calibrates && w.calibration_end_ms == w.train_end_ms)) {
    return NotAfter("calibration_end", "train_end");
  }
  if (w.evaluation_end_ms <= w.calibration_end_ms) {
    return NotAfter("evaluation_end", "calibration_end");
  }
  return parsed;
}

void TimeHistogram::Add(int64_t ms, uint64_t examples) {
  examples_ += examples;
  if (!buckets_.empty() && (ms == last_ms_ || in_last_ < merge_)) {
    if (ms != last_ms_) ++in_last_;
    buckets_.back().examples += examples;
    last_ms_ = ms;
    return;
  }
  if (buckets_.size() >= max_buckets_) {
    for (size_t i = 0; i < buckets_.size(); i += 2) {
      Bucket merged = buckets_[i];
      if (i + 1 < buckets_.size()) merged.examples += buckets_[i + 1].examples;
      buckets_[i / 2] = merged;
    }
    buckets_.resize((buckets_.size() + 1) / 2);
    merge_ *= 2;
  }
  buckets_.push_back({ms, examples});
  in_last_ = 1;
  last_ms_ = ms;
}

int64_t TimeHistogram::NewestShareBegin(double share) const {
  const auto allowed =
      static_cast<uint64_t>(share * static_cast<double>(examples_));
  int64_t begin = buckets_.empty() ? 0 : last_ms_ + 1;
  uint64_t newest = 0;
  for (size_t i = buckets_.size(); i-- > 0;) {
    newest += buckets_[i].examples;
    if (newest > allowed) break;
    begin = buckets_[i].begin_ms;
  }
  return begin;
}

Windows CutByShare(const Windows& open, const TimeHistogram& histogram,
                   double calibration_share, double evaluation_share) {
  Windows cut = open;
  cut.calibration_end_ms = histogram.NewestShareBegin(evaluation_share);
  cut.train_end_ms = std::min(
      cut.calibration_end_ms,
      histogram.NewestShareBegin(calibration_share + evaluation_share));
  return cut;
}

std::string FormatTime(int64_t ms, absl::TimeZone zone) {
  if (ms == kOpenEnd) return "end of log";
  return absl::FormatTime("%Y-%m-%d %H:%M", absl::FromUnixMillis(ms), zone);
}

}  // namespace adrank
