#include "trainer/measure.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "model/portable_math.h"
#include "trainer/metrics.h"

namespace adrank {
namespace {

void MeasureScores(const EvaluationRows& rows, absl::Span<const float> pctr,
                   v1::TrainingReport* report) {
  double largest = 0;
  uint64_t non_finite = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    if (std::isfinite(rows.logits[r]) && std::isfinite(pctr[r])) {
      largest =
          std::max(largest, std::fabs(static_cast<double>(rows.logits[r])));
    } else {
      ++non_finite;
    }
  }
  report->set_largest_logit(largest);
  report->set_non_finite_scores(non_finite);
}

}  // namespace

void MeasureQuality(const v1::EvaluationConfig& config, uint64_t seed,
                    const EvaluationRows& rows, absl::Span<const float> pctr,
                    v1::TrainingReport* report) {
  const int replicates = static_cast<int>(config.bootstrap_replicates());
  const Scored candidate = {pctr, rows.labels, {}, rows.groups};
  *report->mutable_candidate() = ComputeMetrics(candidate);
  *report->mutable_calibration_interval() =
      CalibrationInterval(candidate, replicates, seed);
  for (v1::ReliabilityBin& bin : Reliability(candidate)) {
    *report->add_reliability() = std::move(bin);
  }
  MeasureScores(rows, pctr, report);
  if (rows.incumbent_pctr.empty()) return;
  const Scored live = {rows.incumbent_pctr, rows.labels, {}, rows.groups};
  *report->mutable_incumbent() = ComputeMetrics(live);
  *report->mutable_delta_auc() = DeltaAuc(candidate, live);
  Deltas deltas = BootstrapDeltas(candidate, live, replicates, seed);
  *report->mutable_delta_logloss() = std::move(deltas.logloss);
  *report->mutable_delta_ne() = std::move(deltas.ne);
  report->set_psi(PopulationStabilityIndex(rows.incumbent_pctr, pctr));
}

v1::StorageLoss MeasureStorage(absl::Span<const float> stored,
                               absl::Span<const float> exact,
                               absl::Span<const uint8_t> labels) {
  v1::StorageLoss loss;
  loss.set_examples(labels.size());
  if (labels.empty()) return loss;
  std::vector<float> changes, stored_p, exact_p;
  for (size_t r = 0; r < labels.size(); ++r) {
    changes.push_back(std::fabs(stored[r] - exact[r]));
    stored_p.push_back(Sigmoid(stored[r]));
    exact_p.push_back(Sigmoid(exact[r]));
  }
  std::sort(changes.begin(), changes.end());
  const size_t at = (changes.size() * 999 + 999) / 1000 - 1;
  loss.set_p999_logit_change(changes[at]);
  loss.set_max_logit_change(changes.back());
  const Scored a = {stored_p, labels}, b = {exact_p, labels};
  loss.set_delta_auc(Auc(a) - Auc(b));
  loss.set_delta_logloss(LogLoss(a) - LogLoss(b));
  return loss;
}

}  // namespace adrank
