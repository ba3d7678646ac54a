// The trials of a search of hyper-parameters.
#ifndef ADRANK_TRAINER_SEARCH_SPACE_H_
#define ADRANK_TRAINER_SEARCH_SPACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "proto/trainer_config.pb.h"

namespace adrank {

// Sets the field that `path` names ("table.l2", "streams[0].layers") to a value
// as a text proto has it: number, true, enum by name, text (without quotes),
// "[1, 2]", "{ field: value }". Sections on the way are made, list elements
// must be there. InvalidArgument says what is wrong, and where in the path.
absl::Status SetByPath(absl::string_view path, absl::string_view value,
                       google::protobuf::Message* message);

// One trial: a value for each parameter, and the configuration with them.
struct TrialPlan {
  std::vector<std::string> values;
  v1::TrainerConfig config;  // resolved (config.h), without the search
};

// All trials of the search, in their order, a pure function of the config.
// `written` is as it was read, not resolved, since a default may depend on a
// parameter. InvalidArgument, "search.parameters[1].path: reason", for a path
// that is unknown or decides what is packed, and for a value that does not fit.
absl::StatusOr<std::vector<TrialPlan>> PlanTrials(
    const v1::TrainerConfig& written);

// `written` with the values and without the search, not resolved.
absl::StatusOr<v1::TrainerConfig> WithValues(
    const v1::TrainerConfig& written, const std::vector<std::string>& values);

// Fills in the search's defaults and checks its numbers.
absl::Status ResolveSearch(const v1::TrainerConfig& config,
                           v1::SearchConfig* search);

// Successive halving (Jamieson & Talwalkar 2016, algorithm 1): of `blocks` over
// all passes those that trials have learnt when rung `rung` (from 0) judges
// them: blocks / reduction^(rungs - 1 - rung), rounded up.
uint64_t RungBlocks(uint64_t blocks, uint32_t rung,
                    const v1::SearchConfig& search);
// Of n trials those that go on to the next rung; at least 1.
size_t Survivors(size_t n, const v1::SearchConfig& search);

}  // namespace adrank

#endif  // ADRANK_TRAINER_SEARCH_SPACE_H_
