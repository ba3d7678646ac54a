// The side dictionary of a bundle: what the commonest feature ids say, for
// people. Scoring never looks at it.
//
//   feature_names.tsv := ("id" tab "rows" tab "feature" newline) name*
//   name              := hex16(id) tab decimal(rows) tab text newline
//
// The commonest first. Tabs, newlines and backslashes in a text are written \t,
// \n, \\.
#ifndef ADRANK_MODEL_FEATURE_NAMES_H_
#define ADRANK_MODEL_FEATURE_NAMES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adrank {

inline constexpr char kFeatureNamesFile[] = "feature_names.tsv";

struct FeatureName {
  uint64_t id = 0;
  // Of those that were looked at, rows that have it.
  uint64_t rows = 0;
  // "city=Berlin", as FeatureExtractor::Describe says it.
  std::string text;
};

std::string SerializeFeatureNames(const std::vector<FeatureName>& names);

// DataLoss, naming the line, for anything that Serialize does not write.
absl::StatusOr<std::vector<FeatureName>> ParseFeatureNames(
    absl::string_view bytes);

}  // namespace adrank

#endif  // ADRANK_MODEL_FEATURE_NAMES_H_
