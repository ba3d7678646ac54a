// Why there is nothing to train, in a sentence.
#ifndef ADRANK_TRAINER_EXPLANATIONS_H_
#define ADRANK_TRAINER_EXPLANATIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "trainer/training_scan.h"
#include "trainer/windows.h"

namespace adrank {

// nullopt when the training window has clicks and non-clicks.
std::optional<std::string> WhyNothingToLearn(const TrainingRows& rows,
                                             const Windows& windows,
                                             bool served_is_seen,
                                             absl::TimeZone zone);

// A window in which no decision was logged, and where the log lies.
std::string NoDecisions(absl::string_view window, int64_t begin_ms,
                        int64_t end_ms, std::pair<int64_t, int64_t> log_range,
                        absl::TimeZone zone);

// A log in which nothing was seen.
std::string NoImpressions(const Windows& windows, bool served_is_seen,
                          absl::TimeZone zone);

}  // namespace adrank

#endif  // ADRANK_TRAINER_EXPLANATIONS_H_
