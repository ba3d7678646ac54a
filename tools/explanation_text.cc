#include "tools/explanation_text.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adrank {
namespace {

// Code points of UTF-8.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & '\xc0') != '\x80'; }));
}

}  // namespace

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
