#include "trainer/fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "model/portable_math.h"
#include "trainer/metrics.h"

namespace adrank {
namespace {

constexpr uint64_t kShuffleSalt = 0x73687566666c65;
constexpr double kPlateauFactor = 0.1;

absl::Status Pass(const FitOptions& options, uint32_t pass,
                  const ExampleBlocks& blocks, Learner* learner,
                  StepProgress* progress) {
  const bool shuffled = pass > 0 ? options.shuffle : options.shuffle_first;
  const uint64_t seed = MixBits(options.seed ^ kShuffleSalt) + pass;
  std::vector<uint32_t> order = Permutation(blocks.blocks(), seed);
  if (!shuffled) std::sort(order.begin(), order.end());
  progress->Begin(absl::StrCat("learn ", pass + 1, "/", options.passes));
  learner->ResetProgress();
  uint64_t done = 0;
  const double total = static_cast<double>(blocks.examples());
  return blocks.ForEach(order, [&](const ExampleBlock& block) {
    std::vector<uint32_t> rows;
    if (shuffled) rows = Permutation(block.examples(), MixBits(seed) + done);
    RETURN_IF_ERROR(learner->Update(block, rows));
    done += block.examples();
    progress->Update(
        static_cast<double>(done) / total, done,
        absl::StrFormat("NE %.5f", learner->Progress().normalized_entropy()));
    return absl::OkStatus();
  });
}

}  // namespace

absl::StatusOr<v1::Metrics> Validate(const ExampleBlocks& blocks,
                                     const Learner& learner) {
  std::vector<float> pctr;
  std::vector<uint8_t> labels;
  std::vector<float> weights;
  std::vector<uint64_t> groups;
  std::vector<float> logits;
  RETURN_IF_ERROR(blocks.ForEach([&](const ExampleBlock& block) {
    logits.resize(block.examples());
    RETURN_IF_ERROR(learner.Predict(block, absl::MakeSpan(logits)));
    for (size_t i = 0; i < block.examples(); ++i) {
      pctr.push_back(Sigmoid(logits[i]));
      labels.push_back(block.label(i) ? 1 : 0);
      weights.push_back(block.weight(i));
      groups.push_back(block.group(i));
    }
    return absl::OkStatus();
  }));
  return ComputeMetrics({pctr, labels, weights, groups});
}

absl::StatusOr<FitResult> Fit(const FitOptions& options,
                              const ExampleBlocks& training,
                              const ExampleBlocks& validation, Learner* learner,
                              StepProgress* progress) {
  FitResult result;
  const uint32_t patience = options.early_stopping.patience();
  const bool watches = patience > 0 || options.plateau_floor > 0;
  const bool by_loss =
      options.early_stopping.metric() == v1::EarlyStopping::LOGLOSS;
  double best = 0, factor = 1;
  uint32_t without = 0;
  std::optional<std::string> best_state;
  for (uint32_t pass = 0; pass < options.passes; ++pass) {
    RETURN_IF_ERROR(Pass(options, pass, training, learner, progress));
    result.progressive.push_back(learner->Progress());
    std::string note = absl::StrFormat(
        "NE %.5f", result.progressive.back().normalized_entropy());
    if (watches && validation.examples() > 0) {
      ASSIGN_OR_RETURN(v1::Metrics metrics, Validate(validation, *learner));
      absl::StrAppend(&note,
                      absl::StrFormat(", validation AUC %.5f logloss %.5f",
                                      metrics.auc(), metrics.logloss()));
      double value = by_loss ? -metrics.logloss() : metrics.auc();
      // Undefined (one class, numbers that are not finite): never the best.
      if (std::isnan(value)) value = -std::numeric_limits<double>::infinity();
      result.validation.push_back(std::move(metrics));
      if (pass == 0 || value > best) {
        best = value;
        result.best_pass = pass;
        without = 0;
        if (patience > 0) best_state = learner->Save();
      } else {
        ++without;
        if (options.plateau_floor > 0 &&
            factor * kPlateauFactor >= options.plateau_floor * 0.999) {
          factor *= kPlateauFactor;
          learner->ScaleRate(kPlateauFactor);
        }
      }
    } else {
      result.best_pass = pass;
    }
    result.seconds += progress->End(training.examples(), note);
    if (patience > 0 && without >= patience) break;
  }
  if (best_state && result.best_pass + 1 != result.progressive.size()) {
    RETURN_IF_ERROR(learner->Restore(*best_state));
  }
  return result;
}

}  // namespace adrank
