#include "tools/explanation_text.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/table.h"

namespace adrank {
namespace {

// Code points of UTF-8.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & '\xc0') != '\x80'; }));
}

// "rank" of RANKING_STAGE_RANK.
std::string StageName(v1::RankingStage stage) {
  return absl::AsciiStrToLower(v1::RankingStage_Name(stage).substr(14));
}

// In the stage's unit: money, or a plain number.
std::string GapNumber(v1::RankingStage stage, double value) {
  switch (stage) {
    case v1::RANKING_STAGE_RETRIEVAL:
    case v1::RANKING_STAGE_RESERVE:
    case v1::RANKING_STAGE_RANK:
      return absl::StrCat("bid ", FormatMicros(static_cast<int64_t>(value)));
    case v1::RANKING_STAGE_BUDGET:
      return FormatMicros(static_cast<int64_t>(value));
    default:
      return absl::StrFormat("%.12g", value);
  }
}

}  // namespace

std::string StageText(const v1::AdExplanation& ad) {
  if (ad.served() || ad.stage() == v1::RANKING_STAGE_UNSPECIFIED) return "";
  std::string text = absl::StrCat("  stopped at ", StageName(ad.stage()));
  if (ad.needed() != 0 || ad.had() != 0) {
    absl::StrAppend(&text, ": needed ", GapNumber(ad.stage(), ad.needed()),
                    ", had ", GapNumber(ad.stage(), ad.had()));
  }
  return text + "\n";
}

std::string ScoreText(const v1::AdExplanation& ad) {
  std::string text = absl::StrFormat("  pctr %.5f x bid %s", ad.pctr(),
                                     FormatMicros(ad.bid_micros()));
  if (ad.bid_type() == v1::BID_TYPE_CPM) text += " CPM";
  if (ad.bid_type() == v1::BID_TYPE_CPA) text += " CPA";
  const auto factor = [&text](const char* name, float value) {
    if (value == 0 || value == 1) return;
    absl::StrAppendFormat(&text, " x %s %.4g", name, value);
  };
  factor("quality", ad.quality());
  factor("pacing", ad.pacing_multiplier());
  absl::StrAppend(&text, ": score ",
                  FormatMicros(static_cast<int64_t>(ad.score())));
  if (ad.price_micros() != 0) {
    absl::StrAppend(&text, ", price ", FormatMicros(ad.price_micros()), ": ",
                    ad.price_reason());
  }
  text += "\n";
  if (!ad.matched_attributes().empty()) {
    absl::StrAppend(&text, "  matched ",
                    absl::StrJoin(ad.matched_attributes(), ", "), "\n");
  }
  return text;
}

std::string ContributionsText(const v1::AdExplanation& ad) {
  const int n = ad.contributions_size();
  // A single one left over is named rather than summed up.
  const int shown = n <= kExplainedFeatures + 1 ? n : kExplainedFeatures;
  std::vector<std::pair<std::string, double>> lines;
  double rest = 0;
  for (int i = 0; i < n; ++i) {
    const v1::FeatureContribution& c = ad.contributions(i);
    const double logit = static_cast<double>(c.contribution());
    if (i < shown) {
      lines.emplace_back(c.feature(), logit);
    } else {
      rest += logit;
    }
  }
  if (n > shown) {
    lines.emplace_back(absl::StrCat("the other ", n - shown, " features"),
                       rest);
  }
  size_t width = 0;
  for (const auto& [name, logit] : lines) width = std::max(width, Width(name));
  std::string text;
  for (const auto& [name, logit] : lines) {
    absl::StrAppend(
        &text, "  ", name, std::string(width - Width(name), ' '),
        absl::StrFormat("  %+.2f  (x%.2f odds)\n", logit, std::exp(logit)));
  }
  absl::StrAppend(
      &text, absl::StrFormat("  without features %+.4f, logit %+.4f (%s, gap "
                             "%+.1e)\n",
                             ad.base_logit(), ad.logit(), ad.method(),
                             ad.completeness_gap()));
  return text;
}

}  // namespace adrank
