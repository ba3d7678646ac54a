#include "trainer/search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "trainer/checkpoint.h"
#include "trainer/config.h"
#include "trainer/fit.h"
#include "trainer/make_learner.h"
#include "trainer/report.h"

namespace adrank {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// A trial under way.
struct Candidate {
  const TrialPlan* plan;
  v1::SearchTrial row;
  bool finished = false;  // nothing is left to learn

  // More is better; undefined is worst.
  double Value(v1::EarlyStopping::Metric metric) const {
    const double value =
        metric == v1::EarlyStopping::LOGLOSS ? -row.logloss() : row.auc();
    return std::isnan(value) ? -std::numeric_limits<double>::infinity() : value;
  }
};

class PackedSearch {
 public:
  PackedSearch(const v1::SearchConfig& search,
               const std::vector<TrialPlan>& plans, const PackedLog& packed,
               const std::string& scratch, StepProgress* progress)
      : search_(search),
        packed_(packed),
        scratch_(scratch),
        progress_(progress) {
    for (size_t i = 0; i < plans.size(); ++i) {
      Candidate& c = candidates_.emplace_back(Candidate{&plans[i], {}});
      c.row.set_trial(static_cast<uint32_t>(i + 1));
      c.row.mutable_values()->Assign(plans[i].values.begin(),
                                     plans[i].values.end());
    }
  }

  absl::StatusOr<v1::SearchReport> Go() {
    RETURN_IF_ERROR(files::MakeDirectories(scratch_));
    const auto clean =
        absl::MakeCleanup([this] { files::RemoveAll(scratch_).IgnoreError(); });
    // Those that are still in come first, the best first.
    size_t in = candidates_.size();
    for (uint32_t rung = 0; rung < search_.rungs(); ++rung) {
      if (rung > 0) in = Survivors(in, search_);
      for (size_t i = 0; i < in; ++i) {
        if (!candidates_[i].finished) {
          RETURN_IF_ERROR(Advance(rung, &candidates_[i]));
        }
        candidates_[i].row.set_rung(rung + 1);
      }
      std::sort(candidates_.begin(), candidates_.begin() + in,
                [&](const Candidate& a, const Candidate& b) {
                  const double x = a.Value(search_.metric());
                  const double y = b.Value(search_.metric());
                  return x != y ? x > y : a.row.trial() < b.row.trial();
                });
    }
    return Report();
  }

 private:
  absl::Status Advance(uint32_t rung, Candidate* candidate);
  v1::SearchReport Report();

  const v1::SearchConfig& search_;
  const PackedLog& packed_;
  const std::string scratch_;
  StepProgress* const progress_;
  std::vector<Candidate> candidates_;
};

// Learns what the rung adds and judges the trial.
absl::Status PackedSearch::Advance(uint32_t rung, Candidate* candidate) {
  const absl::Time begin = Clock::Real()->Now();
  v1::SearchTrial& row = candidate->row;
  const v1::TrainerConfig& config = candidate->plan->config;
  FitOptions options = FitOptionsOf(config);
  const uint64_t blocks = packed_.training.blocks();
  options.pause_after_blocks =
      RungBlocks(blocks * options.passes, rung, search_);
  options.step = absl::StrFormat("trial %d/%d, rung %d/%d, pass", row.trial(),
                                 candidates_.size(), rung + 1, search_.rungs());
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Learner> learner,
      MakeLearner(config, packed_.fields, packed_.rows, packed_.training));
  CheckpointOptions keep;
  keep.path = files::Join(scratch_, absl::StrCat("trial", row.trial()));
  keep.fingerprint = row.trial();
  keep.every = absl::InfiniteDuration();
  Checkpoints checkpoints(std::move(keep));
  ASSIGN_OR_RETURN(const FitResult result,
                   Fit(options, packed_.training, packed_.validation,
                       learner.get(), progress_, &checkpoints));
  candidate->finished = result.finished;
  if (result.finished) checkpoints.Remove();
  row.set_passes(result.finished
                     ? static_cast<double>(result.progressive.size())
                     : static_cast<double>(options.pause_after_blocks) /
                           blocks);
  const absl::Status finite = learner->CheckFinite();
  if (finite.ok()) {
    ASSIGN_OR_RETURN(const v1::Metrics metrics,
                     Validate(packed_.validation, *learner));
    row.set_auc(metrics.auc());
    row.set_logloss(metrics.logloss());
    row.set_normalized_entropy(metrics.normalized_entropy());
  } else {
    row.set_auc(kNan);
    row.set_logloss(kNan);
    row.set_normalized_entropy(kNan);
    row.set_verdict(absl::StrCat("failed: ", finite.message()));
    candidate->finished = true;
  }
  row.set_seconds(row.seconds() +
                  absl::ToDoubleSeconds(Clock::Real()->Now() - begin));
  LOG(INFO) << absl::StrFormat(
      "trial %d/%d, rung %d/%d: validation AUC %.5f logloss %.5f (%s)",
      row.trial(), candidates_.size(), rung + 1, search_.rungs(), row.auc(),
      row.logloss(), absl::StrJoin(row.values(), ", "));
  return absl::OkStatus();
}

// Candidates are in their order: each rung has sorted those that were in.
v1::SearchReport PackedSearch::Report() {
  v1::SearchReport report;
  for (const v1::SearchParameter& p : search_.parameters()) {
    report.add_paths(p.path());
  }
  for (size_t i = 0; i < candidates_.size(); ++i) {
    v1::SearchTrial& row = candidates_[i].row;
    if (row.verdict().empty()) {
      const bool last = row.rung() == search_.rungs();
      row.set_verdict(!last ? "stopped" : i == 0 ? "best" : "finished");
    }
    *report.add_trials() = std::move(row);
  }
  return report;
}

// The names, then a row of cells a trial.
std::vector<std::vector<std::string>> Cells(const v1::SearchReport& report) {
  std::vector<std::vector<std::string>> cells(1);
  cells[0].push_back("trial");
  cells[0].insert(cells[0].end(), report.paths().begin(), report.paths().end());
  for (const char* name :
       {"rung", "passes", "auc", "logloss", "ne", "seconds", "verdict"}) {
    cells[0].push_back(name);
  }
  for (const v1::SearchTrial& t : report.trials()) {
    std::vector<std::string>& row = cells.emplace_back();
    row.push_back(absl::StrCat(t.trial()));
    row.insert(row.end(), t.values().begin(), t.values().end());
    for (std::string cell :
         {absl::StrCat(t.rung()), absl::StrFormat("%.4g", t.passes()),
          absl::StrFormat("%.6f", t.auc()),
          absl::StrFormat("%.6f", t.logloss()),
          absl::StrFormat("%.6f", t.normalized_entropy()),
          absl::StrFormat("%.1f", t.seconds()), t.verdict()}) {
      row.push_back(std::move(cell));
    }
  }
  return cells;
}

absl::Status WriteFiles(const v1::TrainerConfig& written,
                        const v1::SearchReport& report,
                        const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string json, ReportJson(report));
  RETURN_IF_ERROR(
      files::WriteAtomically(files::Join(dir, kSearchReportFile), json));
  RETURN_IF_ERROR(files::WriteAtomically(files::Join(dir, kSearchTableFile),
                                         SearchTable(report)));
  const v1::SearchTrial& best = report.trials(0);
  if (best.verdict() != "best") return absl::OkStatus();
  ASSIGN_OR_RETURN(
      const v1::TrainerConfig config,
      WithValues(written, {best.values().begin(), best.values().end()}));
  return files::WriteAtomically(files::Join(dir, kBestConfigFile),
                                PrintTextProto(config));
}

}  // namespace

absl::StatusOr<v1::SearchReport> SearchPacked(
    const v1::SearchConfig& search, const std::vector<TrialPlan>& plans,
    const PackedLog& packed, const std::string& scratch,
    StepProgress* progress) {
  return PackedSearch(search, plans, packed, scratch, progress).Go();
}

absl::StatusOr<v1::SearchReport> RunSearch(const v1::TrainerConfig& written,
                                           StepProgress* progress) {
  ASSIGN_OR_RETURN(const std::vector<TrialPlan> plans, PlanTrials(written));
  ASSIGN_OR_RETURN(const v1::TrainerConfig config, ResolveConfig(written));
  const std::string dir = files::Join(config.model_dir(), config.model_name());
  v1::SearchReport report;
  ASSIGN_OR_RETURN(
      const v1::TrainingReport packing,
      PackLog(config, progress, [&](const PackedLog& packed) -> absl::Status {
        ASSIGN_OR_RETURN(report,
                         SearchPacked(config.search(), plans, packed,
                                      files::Join(dir, ".search"), progress));
        return absl::OkStatus();
      }));
  report.set_model_name(config.model_name());
  *report.mutable_reasons() = packing.reasons();
  if (!report.trials().empty()) {
    RETURN_IF_ERROR(WriteFiles(written, report, dir));
  }
  return report;
}

std::string SearchTable(const v1::SearchReport& report) {
  std::string text;
  for (const std::vector<std::string>& row : Cells(report)) {
    absl::StrAppend(&text, absl::StrJoin(row, "\t"), "\n");
  }
  return text;
}

std::string SearchText(const v1::SearchReport& report) {
  const std::vector<std::vector<std::string>> cells = Cells(report);
  std::vector<size_t> widths(cells[0].size(), 0);
  for (const auto& row : cells) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const auto& row : cells) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      absl::StrAppendFormat(&text, "%*s  ", static_cast<int>(widths[i]),
                            row[i]);
    }
    absl::StrAppend(&text, row.back(), "\n");
  }
  return text;
}

}  // namespace adrank
