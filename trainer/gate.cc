#include "trainer/gate.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adrank {
namespace {

// Collects sentences about bounds that hold and bounds that do not.
class Bounds {
 public:
  // Every comparison that involves a NaN is false, so that it refuses.
  void Check(bool holds, std::string holding, std::string failing) {
    (holds ? held_ : failed_)
        .push_back(holds ? std::move(holding) : std::move(failing));
  }
  GateDecision Result() && {
    if (failed_.empty()) return {true, std::move(held_)};
    return {false, std::move(failed_)};
  }

 private:
  std::vector<std::string> held_, failed_;
};

void CheckData(const v1::GateConfig& config, const v1::Metrics& candidate,
               Bounds* bounds) {
  for (auto [name, have, need] :
       {std::tuple("examples", candidate.examples(), config.min_examples()),
        std::tuple("clicks", candidate.clicks(), config.min_clicks())}) {
    bounds->Check(
        have >= need,
        absl::StrFormat("the evaluation window has %d %s, at least %d are "
                        "needed",
                        have, name, need),
        absl::StrFormat("the evaluation window has only %d %s; %d are needed "
                        "(gate.min_%s)",
                        have, name, need, name));
  }
}

void CheckQuality(const v1::GateConfig& config, const v1::Metrics& candidate,
                  Bounds* bounds) {
  const double ne = candidate.normalized_entropy();
  bounds->Check(
      std::isfinite(ne) && ne < config.max_ne(),
      absl::StrFormat("normalized entropy %.5f is below %.5f", ne,
                      config.max_ne()),
      absl::StrFormat("normalized entropy %.5f is not below %.5f (gate.max_ne)",
                      ne, config.max_ne()));
  const double ratio = candidate.calibration_ratio();
  const std::string range = absl::StrFormat(
      "[%.4f, %.4f]", config.min_calibration(), config.max_calibration());
  bounds->Check(
      ratio >= config.min_calibration() && ratio <= config.max_calibration(),
      absl::StrFormat("calibration ratio %.4f is in %s", ratio, range),
      absl::StrFormat("calibration ratio %.4f is not in %s "
                      "(gate.min_calibration, gate.max_calibration)",
                      ratio, range));
}

void CheckIncumbent(const v1::GateConfig& config,
                    const v1::TrainingReport& report, Bounds* bounds) {
  const double incumbent = report.incumbent().normalized_entropy();
  const double candidate = report.candidate().normalized_entropy();
  const double increase = (candidate - incumbent) / incumbent;
  const std::string change = absl::StrFormat(
      "NE changes from %.5f (live version %d) to %.5f, by %+.3f %%", incumbent,
      report.incumbent_version(), candidate, 100 * increase);
  const double tolerated = 100 * config.max_ne_increase();
  // An incumbent whose NE is not a number is no bound: anything finite beats
  // it.
  bounds->Check(
      !std::isfinite(incumbent) || increase <= config.max_ne_increase(),
      absl::StrFormat("%s; up to %+.3f %% is tolerated", change, tolerated),
      absl::StrFormat("%s; more than the tolerated %+.3f %% "
                      "(gate.max_ne_increase)",
                      change, tolerated));
  const v1::Interval& delta = report.delta_ne();
  const std::string interval = absl::StrFormat(
      "the 95 %% interval of the change of NE is [%+.6f, %+.6f]", delta.low(),
      delta.high());
  bounds->Check(!(delta.low() > 0),
                absl::StrCat(interval, ", not wholly above 0"),
                absl::StrCat(interval,
                             ", wholly above 0: significantly worse than the "
                             "live model"));
}

}  // namespace

GateDecision Decide(const v1::GateConfig& config,
                    const v1::TrainingReport& report) {
  Bounds bounds;
  CheckData(config, report.candidate(), &bounds);
  CheckQuality(config, report.candidate(), &bounds);
  if (report.has_incumbent()) CheckIncumbent(config, report, &bounds);
  if (config.max_bundle_bytes() > 0) {
    bounds.Check(
        report.bundle_bytes() <= config.max_bundle_bytes(),
        absl::StrFormat("the bundle has %d of at most %d bytes",
                        report.bundle_bytes(), config.max_bundle_bytes()),
        absl::StrFormat("the bundle has %d bytes, more than %d "
                        "(gate.max_bundle_bytes)",
                        report.bundle_bytes(), config.max_bundle_bytes()));
  }
  return std::move(bounds).Result();
}

}  // namespace adrank
