// adrank-trainer's configuration: strict reading, every default written out.
#ifndef ADRANK_TRAINER_CONFIG_H_
#define ADRANK_TRAINER_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"
#include "proto/trainer_config.pb.h"

namespace adrank {

// The same configuration with every default of the proto's comments filled in
// (threads too). InvalidArgument, "field.path: reason", for a value out of its
// range, a feature spec that does not compile or windows that make no sense.
absl::StatusOr<v1::TrainerConfig> ResolveConfig(v1::TrainerConfig config);

// ReadTextProto, then ResolveConfig, and a search's trials too; errors start with the path (and line and
// column where the text itself is wrong).
absl::StatusOr<v1::TrainerConfig> LoadConfig(const std::string& path);

}  // namespace adrank

#endif  // ADRANK_TRAINER_CONFIG_H_
