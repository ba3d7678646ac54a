#include "trainer/fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "model/portable_math.h"
#include "trainer/metrics.h"

namespace adrank {
namespace {

constexpr uint64_t kShuffleSalt = 0x73687566666c65;
constexpr double kPlateauFactor = 0.1;

// Which pass is the best by the validation metric, and what follows from it.
class Watch {
 public:
  explicit Watch(const FitOptions& options) : options_(options) {}

  bool on() const {
    return options_.early_stopping.patience() > 0 || options_.plateau_floor > 0;
  }
  // The pass after those added before.
  void Add(const v1::Metrics& metrics) {
    double value =
        options_.early_stopping.metric() == v1::EarlyStopping::LOGLOSS
            ? -metrics.logloss()
            : metrics.auc();
    // Undefined (one class, numbers that are not finite): never the best.
    if (std::isnan(value)) value = -std::numeric_limits<double>::infinity();
    const uint32_t pass = passes_++;
    lowers_ = false;
    if (pass == 0 || value > best_) {
      best_ = value;
      best_pass_ = pass;
      return;
    }
    lowers_ = options_.plateau_floor > 0 &&
              factor_ * kPlateauFactor >= options_.plateau_floor * 0.999;
    if (lowers_) factor_ *= kPlateauFactor;
  }
  uint32_t best_pass() const { return best_pass_; }
  // Of the pass that was added last.
  bool improved() const { return best_pass_ + 1 == passes_; }
  bool lowers_rate() const { return lowers_; }
  bool stops() const {
    const uint32_t patience = options_.early_stopping.patience();
    return patience > 0 && passes_ > 0 && passes_ - 1 - best_pass_ >= patience;
  }

 private:
  const FitOptions& options_;
  uint32_t passes_ = 0;
  uint32_t best_pass_ = 0;
  double best_ = 0;
  double factor_ = 1;
  bool lowers_ = false;
};

// One call of Fit. Where it is - pass, blocks, examples - is in `head_`, with
// the metrics so far.
class Fitting {
 public:
  Fitting(const FitOptions& options, const ExampleBlocks& training,
          const ExampleBlocks& validation, Learner* learner,
          StepProgress* progress, Checkpoints* checkpoints)
      : options_(options),
        training_(training),
        validation_(validation),
        learner_(learner),
        progress_(progress),
        checkpoints_(checkpoints),
        watch_(options) {}

  absl::StatusOr<FitResult> Go() {
    Resume();
    for (; head_.pass() < options_.passes && !watch_.stops(); NextPass()) {
      const size_t end = PassEnd();
      const bool pauses = end < training_.blocks();
      if (head_.blocks() < end || !pauses) RETURN_IF_ERROR(LearnPass(end));
      if (pauses) {
        if (learnt_ > 0) seconds_ += progress_->End(learnt_, Note());
        WriteCheckpoint();
        return Result(false);
      }
      RETURN_IF_ERROR(EndPass());
    }
    if (!best_.empty() && !watch_.improved()) {
      RETURN_IF_ERROR(learner_->Restore(best_));
    }
    return Result(true);
  }

 private:
  void Resume();
  absl::Status LearnPass(size_t end);
  std::string Note() const {
    return absl::StrFormat("NE %.5f",
                           learner_->Progress().normalized_entropy());
  }
  absl::Status EndPass();
  void WriteCheckpoint();
  void NextPass() {
    head_.set_pass(head_.pass() + 1);
    head_.set_blocks(0);
    head_.set_examples(0);
    learnt_ = 0;
  }
  // Blocks to learn in this pass from its begin.
  size_t PassEnd() const {
    const uint64_t before = uint64_t{head_.pass()} * training_.blocks();
    if (options_.pause_after_blocks == 0) return training_.blocks();
    const uint64_t left = options_.pause_after_blocks -
                          std::min(options_.pause_after_blocks, before);
    return static_cast<size_t>(std::min<uint64_t>(left, training_.blocks()));
  }
  FitResult Result(bool finished) const {
    FitResult result;
    result.progressive.assign(head_.progressive().begin(),
                              head_.progressive().end());
    result.validation.assign(head_.validation().begin(),
                             head_.validation().end());
    const uint32_t passes = static_cast<uint32_t>(head_.progressive_size());
    result.best_pass =
        watches() ? watch_.best_pass() : std::max(passes, 1u) - 1;
    result.seconds = seconds_;
    result.finished = finished;
    return result;
  }
  bool watches() const { return watch_.on() && validation_.examples() > 0; }

  const FitOptions& options_;
  const ExampleBlocks& training_;
  const ExampleBlocks& validation_;
  Learner* const learner_;
  StepProgress* const progress_;
  Checkpoints* const checkpoints_;  // may be null
  v1::CheckpointHead head_;
  Watch watch_;
  std::string best_;      // state of the best pass, with early stopping
  bool resumed_ = false;  // within the pass that comes
  uint64_t learnt_ = 0;   // examples of this pass, in this call
  double seconds_ = 0;
};

void Fitting::Resume() {
  if (checkpoints_ == nullptr) return;
  const std::optional<Checkpoint> from = checkpoints_->Load();
  if (!from) return;
  ProgressMeter meter;
  absl::Status status = meter.Restore(from->meter);
  if (status.ok()) status = learner_->Restore(from->learner);
  if (!status.ok()) {
    LOG(WARNING) << "checkpoint: " << status.message()
                 << ": training starts anew";
    checkpoints_->Remove();
    return;
  }
  learner_->SetMeter(meter);
  head_ = from->head;
  best_ = std::string(from->best);
  for (const v1::Metrics& m : head_.validation()) watch_.Add(m);
  resumed_ = head_.blocks() > 0;
  LOG(INFO) << "resumed at pass " << head_.pass() + 1 << ", block "
            << head_.blocks() << " of " << training_.blocks();
}

void Fitting::WriteCheckpoint() {
  const std::string meter = learner_->Meter().Save();
  const std::string state = learner_->Save();
  checkpoints_->Write({head_, meter, state, best_});
}

// Up to block `end` of the pass's order.
absl::Status Fitting::LearnPass(size_t end) {
  const bool shuffled =
      head_.pass() > 0 ? options_.shuffle : options_.shuffle_first;
  const uint64_t seed = MixBits(options_.seed ^ kShuffleSalt) + head_.pass();
  std::vector<uint32_t> order = Permutation(training_.blocks(), seed);
  if (!shuffled) std::sort(order.begin(), order.end());
  progress_->Begin(
      absl::StrCat(options_.step, " ", head_.pass() + 1, "/", options_.passes));
  if (!resumed_) learner_->ResetProgress();
  resumed_ = false;
  const double left =
      static_cast<double>(training_.examples() - head_.examples());
  const size_t begin = head_.blocks();
  const auto learn = [&](const ExampleBlock& block) {
    std::vector<uint32_t> rows;
    if (shuffled) {
      rows = Permutation(block.examples(), MixBits(seed) + head_.examples());
    }
    RETURN_IF_ERROR(learner_->Update(block, rows));
    head_.set_blocks(head_.blocks() + 1);
    head_.set_examples(head_.examples() + block.examples());
    learnt_ += block.examples();
    progress_->Update(static_cast<double>(learnt_) / left, learnt_, Note());
    if (checkpoints_ == nullptr) return absl::OkStatus();
    if (checkpoints_->Due()) WriteCheckpoint();
    checkpoints_->Learnt();
    return absl::OkStatus();
  };
  return training_.ForEach(
      absl::MakeConstSpan(order).subspan(begin, end - begin), learn);
}

absl::Status Fitting::EndPass() {
  *head_.add_progressive() = learner_->Progress();
  std::string note = Note();
  if (watches()) {
    ASSIGN_OR_RETURN(v1::Metrics metrics, Validate(validation_, *learner_));
    absl::StrAppend(&note, absl::StrFormat(", validation AUC %.5f logloss %.5f",
                                           metrics.auc(), metrics.logloss()));
    watch_.Add(metrics);
    *head_.add_validation() = std::move(metrics);
    if (watch_.improved() && options_.early_stopping.patience() > 0) {
      best_ = learner_->Save();
    }
    if (watch_.lowers_rate()) learner_->ScaleRate(kPlateauFactor);
  }
  seconds_ += progress_->End(learnt_, note);
  return absl::OkStatus();
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
                              StepProgress* progress,
                              Checkpoints* checkpoints) {
  return Fitting(options, training, validation, learner, progress, checkpoints)
      .Go();
}

}  // namespace adrank
