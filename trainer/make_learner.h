// From a configuration to the learner of its family.
#ifndef ADRANK_TRAINER_MAKE_LEARNER_H_
#define ADRANK_TRAINER_MAKE_LEARNER_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "model/graph.h"
#include "proto/trainer_config.pb.h"
#include "trainer/fit.h"
#include "trainer/learner.h"

namespace adrank {

// What the configured family asks of the vocabulary.
struct VocabularyNeeds {
  uint32_t min_count = 1;
  v1::OutOfVocabulary out_of_vocabulary = v1::OOV_DROP;
  double oov_rate = 0;
};
VocabularyNeeds VocabularyNeedsOf(const v1::TrainerConfig& config);

// How the family goes over its examples.
FitOptions FitOptionsOf(const v1::TrainerConfig& config);

// Whether a validation window is looked at while learning, or by a search.
bool NeedsValidation(const v1::TrainerConfig& config);

// FtrlLearner without `embedding`; FmLearner for a linear part and FM alone
// with an optimizer that it has (FTRL, or Adagrad beside linear_ftrl); else
// EmbeddingLearner. `training`: what will be learnt, for the bias at first and
// the schedule, which begins. REQUIRES: the config is resolved (config.h), or
// its zeros mean the defaults.
absl::StatusOr<std::unique_ptr<Learner>> MakeLearner(
    const v1::TrainerConfig& config, const FieldLayout& fields, uint64_t rows,
    const ExampleBlocks& training);

}  // namespace adrank

#endif  // ADRANK_TRAINER_MAKE_LEARNER_H_
