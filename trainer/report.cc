#include "trainer/report.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "trainer/step_progress.h"
#include "trainer/windows.h"

namespace adrank {
namespace {

using v1::Interval;
using v1::Metrics;
using v1::TrainingReport;

// Of one slice name in the text; the JSON has them all.
constexpr int kShownSlices = 8;

std::string Number(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.5f", value) : "-";
}

void AppendRow(absl::string_view name, double candidate, const double* live,
               const Interval* delta, std::string* out) {
  absl::StrAppendFormat(out, "  %-14s %12s", name, Number(candidate));
  if (live != nullptr) {
    absl::StrAppendFormat(out, " %12s", Number(*live));
    if (delta != nullptr) {
      absl::StrAppendFormat(out, "  %+.5f [%+.5f, %+.5f]", delta->estimate(),
                            delta->low(), delta->high());
    } else {
      absl::StrAppendFormat(out, "  %+.5f", candidate - *live);
    }
  }
  *out += "\n";
}

void AppendQuality(const TrainingReport& report, std::string* out) {
  const Metrics& c = report.candidate();
  absl::StrAppendFormat(out,
                        "\nevaluation: %s examples, %s clicks, CTR %.5f\n"
                        "  %-14s %12s",
                        WithCommas(c.examples()), WithCommas(c.clicks()),
                        c.ctr(), "",
                        report.verdict() == TrainingReport::EVALUATED
                            ? absl::StrCat("live v", report.incumbent_version())
                            : "candidate");
  const Metrics* live = report.has_incumbent() ? &report.incumbent() : nullptr;
  if (live != nullptr) {
    absl::StrAppendFormat(out, " %12s  %s",
                          absl::StrCat("live v", report.incumbent_version()),
                          "difference [95 %]");
  }
  *out += "\n";
  const auto row = [&](absl::string_view name, double (Metrics::*get)() const,
                       const Interval* delta) {
    const double live_value = live != nullptr ? (live->*get)() : 0;
    AppendRow(name, (c.*get)(), live != nullptr ? &live_value : nullptr, delta,
              out);
  };
  row("AUC", &Metrics::auc, &report.delta_auc());
  row("GAUC", &Metrics::gauc, nullptr);
  row("logloss", &Metrics::logloss, &report.delta_logloss());
  row("NE", &Metrics::normalized_entropy, &report.delta_ne());
  row("calibration", &Metrics::calibration_ratio, nullptr);
  row("ECE", &Metrics::ece, nullptr);
}

void AppendWindows(const TrainingReport& report, absl::TimeZone zone,
                   std::string* out) {
  struct Line {
    const char* name;
    int64_t begin, end;
    uint64_t examples;
  };
  for (const Line& line :
       {Line{"training", report.train_begin_ms(), report.train_end_ms(),
             report.training_examples()},
        Line{"calibration", report.train_end_ms(), report.calibration_end_ms(),
             report.calibration_examples()},
        Line{"evaluation", report.calibration_end_ms(),
             report.evaluation_end_ms(), report.candidate().examples()}}) {
    absl::StrAppendFormat(out, "  %-12s %s to %s %14s examples\n", line.name,
                          FormatTime(line.begin, zone),
                          FormatTime(line.end, zone),
                          WithCommas(line.examples));
  }
}

void AppendJoin(const v1::JoinCounts& join, std::string* out) {
  absl::StrAppend(
      out, "  decisions ", WithCommas(join.decisions()), ", ads served ",
      WithCommas(join.served_ads()), ", unseen ", WithCommas(join.unseen_ads()),
      ", without snapshot ", WithCommas(join.missing_snapshots()),
      "\n  impressions ", WithCommas(join.impressions()), ": joined ",
      WithCommas(join.joined_impressions()), ", orphan ",
      WithCommas(join.orphan_impressions()), ", test ",
      WithCommas(join.test_impressions()), "\n  clicks ",
      WithCommas(join.clicks()), ": joined ", WithCommas(join.joined_clicks()),
      ", late ", WithCommas(join.late_clicks()), ", without impression ",
      WithCommas(join.clicks_without_impression()), ", orphan ",
      WithCommas(join.orphan_clicks()), ", test ",
      WithCommas(join.test_clicks()), "\n  repeated reports ",
      WithCommas(join.duplicate_events()), "\n");
}

void AppendModel(const TrainingReport& report, std::string* out) {
  absl::StrAppend(out, "\nmodel: ", WithCommas(report.vocabulary_rows()),
                  " rows, ", WithCommas(report.nonzero_weights()),
                  " weights not 0, ", WithCommas(report.bundle_bytes()),
                  " bytes");
  if (report.new_ids() + report.expired_ids() > 0) {
    absl::StrAppend(out, "; ids: ", WithCommas(report.new_ids()), " new, ",
                    WithCommas(report.expired_ids()), " expired");
  }
  if (report.parent_version() > 0) {
    absl::StrAppend(out, ", continued from version ", report.parent_version());
  }
  *out += "\n";
  for (int pass = 0; pass < report.progressive_size(); ++pass) {
    const Metrics& m = report.progressive(pass);
    absl::StrAppendFormat(
        out, "  pass %d, predicted before learnt: NE %s, AUC %s\n", pass + 1,
        Number(m.normalized_entropy()), Number(m.auc()));
  }
  if (report.fingerprints_checked() > 0) {
    absl::StrAppend(out, "  feature rows as served: ",
                    WithCommas(report.fingerprints_checked()), " checked, ",
                    WithCommas(report.fingerprints_differing()), " differ\n");
  }
}

void AppendMemory(const v1::MemoryReport& memory, std::string* out) {
  const auto mib = [](uint64_t bytes) { return WithCommas(bytes >> 20); };
  uint64_t peak = 0;
  for (const auto& [step, bytes] : memory.peak_resident_bytes()) {
    peak = std::max(peak, bytes);
  }
  absl::StrAppend(out, "\nmemory: at most ", mib(peak), " MiB of ",
                  mib(memory.budget_bytes()), "; ids ",
                  mib(memory.id_table_bytes() + memory.filter_bytes()),
                  ", examples ", mib(memory.example_memory_bytes()), " and ",
                  mib(memory.example_disk_bytes()), " on disk, model ",
                  mib(memory.model_bytes()), ", evaluation ",
                  mib(memory.evaluation_bytes()), "\n");
}

void AppendSlices(const TrainingReport& report, std::string* out) {
  std::map<std::string, int> shown;
  for (const v1::Slice& slice : report.slices()) {
    const int n = shown[slice.name()]++;
    if (n == 0) {
      absl::StrAppendFormat(out, "\n%-28s %10s %8s %8s %8s %8s%s\n",
                            absl::StrCat("slice ", slice.name()), "examples",
                            "CTR", "AUC", "NE", "calibr.",
                            report.has_incumbent() ? "  live NE" : "");
    }
    if (n >= kShownSlices) continue;
    const Metrics& m = slice.candidate();
    absl::StrAppendFormat(
        out, "  %-26s %10s %8s %8s %8s %8s", slice.value().substr(0, 26),
        WithCommas(m.examples()), Number(m.ctr()), Number(m.auc()),
        Number(m.normalized_entropy()), Number(m.calibration_ratio()));
    if (report.has_incumbent()) {
      absl::StrAppend(out, "  ",
                      Number(slice.incumbent().normalized_entropy()));
    }
    *out += "\n";
  }
  for (const auto& [name, n] : shown) {
    if (n > kShownSlices) {
      absl::StrAppend(out, "  (", n - kShownSlices, " more values of ", name,
                      " in the JSON report)\n");
    }
  }
}

// Values of the samples in `text`, by what stands before them.
std::map<std::string, double> ParseSamples(absl::string_view text) {
  std::map<std::string, double> samples;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value;
    if (space != line.npos &&
        absl::SimpleAtod(line.substr(space + 1), &value)) {
      samples[std::string(line.substr(0, space))] = value;
    }
  }
  return samples;
}

// Builds the text, one family after the other.
class MetricsWriter {
 public:
  MetricsWriter(const std::string& model, absl::string_view previous)
      : model_(model), previous_(ParseSamples(previous)) {}

  void Family(absl::string_view name, absl::string_view type,
              absl::string_view help) {
    name_ = std::string(name);
    absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ",
                    type, "\n");
  }
  // `labels` is "" or ",key=\"value\"".
  void Sample(absl::string_view labels, double value) {
    if (!std::isfinite(value)) return;
    absl::StrAppend(&text_, Key(labels), " ", absl::StrFormat("%.15g", value),
                    "\n");
  }
  double Previous(absl::string_view labels) const {
    const auto it = previous_.find(Key(labels));
    return it == previous_.end() ? 0 : it->second;
  }
  // A family of one sample; keeps the previous value when `value` is null.
  void Gauge(absl::string_view name, absl::string_view help,
             const double* value) {
    name_ = std::string(name);
    if (value == nullptr && previous_.count(Key("")) == 0) return;
    Family(name, "gauge", help);
    Sample("", value != nullptr ? *value : Previous(""));
  }
  std::string Text() && { return std::move(text_); }

 private:
  std::string Key(absl::string_view labels) const {
    return absl::StrCat(name_, "{model=\"", model_, "\"", labels, "}");
  }
  const std::string model_;
  const std::map<std::string, double> previous_;
  std::string name_;
  std::string text_;
};

void AddOutcomes(absl::string_view outcome, MetricsWriter* out) {
  out->Family("adrank_publish_gate_total", "counter",
              "Training runs by how they ended.");
  for (absl::string_view name :
       {"published", "kept", "nothing_to_train", "failed"}) {
    const std::string label = absl::StrCat(",verdict=\"", name, "\"");
    out->Sample(label, out->Previous(label) + (name == outcome ? 1 : 0));
  }
}

void AddReport(const TrainingReport* report, MetricsWriter* out) {
  const auto gauge = [&](absl::string_view name, absl::string_view help,
                         double value) {
    out->Gauge(name, help, report != nullptr ? &value : nullptr);
  };
  static const TrainingReport kNone;
  const TrainingReport& r = report != nullptr ? *report : kNone;
  double seconds = 0;
  for (const auto& [step, s] : r.seconds()) seconds += s;
  gauge("adrank_trainer_last_run_seconds", "Time the last run took.", seconds);
  gauge("adrank_trainer_examples", "Examples the last run learnt from.",
        static_cast<double>(r.training_examples()));
  gauge("adrank_trainer_orphan_clicks", "Clicks without decision.",
        static_cast<double>(r.join().orphan_clicks()));
  gauge("adrank_trainer_joined_clicks", "Clicks joined in time.",
        static_cast<double>(r.join().joined_clicks()));
  gauge("adrank_trainer_fingerprints_checked",
        "Served feature rows that were recomputed.",
        static_cast<double>(r.fingerprints_checked()));
  gauge("adrank_trainer_fingerprints_differing",
        "Served feature rows that differ from the recomputed ones.",
        static_cast<double>(r.fingerprints_differing()));
  gauge("adrank_trainer_candidate_ne",
        "Normalized entropy of the last candidate.",
        r.candidate().normalized_entropy());
  gauge("adrank_trainer_candidate_auc", "AUC of the last candidate.",
        r.candidate().auc());
  gauge("adrank_trainer_candidate_calibration_ratio",
        "Sum of pctr over clicks of the last candidate.",
        r.candidate().calibration_ratio());
  gauge("adrank_trainer_published_version",
        "Version that was live after the last run.",
        static_cast<double>(r.version() > 0 ? r.version()
                                            : r.incumbent_version()));
}

}  // namespace

absl::StatusOr<std::string> ReportJson(const TrainingReport& report) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(report, &json, options);
  if (!status.ok()) {
    return absl::InternalError(
        absl::StrCat("report as JSON: ", status.message().ToString()));
  }
  return json;
}

std::string ReportText(const TrainingReport& report, absl::TimeZone zone) {
  std::string out;
  absl::StrAppend(&out, "model ", report.model_name(), ": ");
  switch (report.verdict()) {
    case TrainingReport::PUBLISHED:
      absl::StrAppend(&out, "PUBLISHED version ", report.version(), "\n");
      break;
    case TrainingReport::KEPT:
      absl::StrAppend(&out, "NOT PUBLISHED, ",
                      report.incumbent_version() > 0
                          ? absl::StrCat("version ", report.incumbent_version(),
                                         " stays live")
                          : "no version is live",
                      "\n");
      break;
    case TrainingReport::EVALUATED:
      absl::StrAppend(&out, "EVALUATED version ", report.incumbent_version(),
                      ", which stays live\n");
      break;
    default:
      absl::StrAppend(&out, "NOTHING TO TRAIN\n");
  }
  for (const std::string& reason : report.reasons()) {
    absl::StrAppend(&out, "  - ", reason, "\n");
  }
  for (const std::string& note : report.notes()) {
    absl::StrAppend(&out, "  note: ", note, "\n");
  }
  if (report.train_end_ms() > 0) {
    absl::StrAppend(&out, "\nwindows\n");
    AppendWindows(report, zone, &out);
  }
  if (report.has_join()) {
    absl::StrAppend(&out, "\njoin\n");
    AppendJoin(report.join(), &out);
  }
  if (report.vocabulary_rows() > 0) AppendModel(report, &out);
  if (report.has_memory()) AppendMemory(report.memory(), &out);
  if (report.has_candidate()) AppendQuality(report, &out);
  AppendSlices(report, &out);
  return out;
}

absl::string_view OutcomeName(TrainingReport::Verdict verdict) {
  switch (verdict) {
    case TrainingReport::PUBLISHED:
      return "published";
    case TrainingReport::KEPT:
      return "kept";
    case TrainingReport::NOTHING_TO_TRAIN:
      return "nothing_to_train";
    case TrainingReport::EVALUATED:
      return "evaluated";
    default:
      return "failed";
  }
}

std::string MetricsText(const std::string& model_name,
                        const TrainingReport* report,
                        absl::string_view previous, absl::Time now) {
  MetricsWriter out(model_name, previous);
  const TrainingReport::Verdict verdict =
      report != nullptr ? report->verdict()
                        : TrainingReport::VERDICT_UNSPECIFIED;
  const double seconds = static_cast<double>(absl::ToUnixMillis(now)) / 1000.0;
  AddOutcomes(OutcomeName(verdict), &out);
  out.Gauge("adrank_trainer_last_run_timestamp_seconds",
            "When the last run ended.", &seconds);
  out.Gauge("adrank_trainer_last_success_timestamp_seconds",
            "When a model was last published.",
            verdict == TrainingReport::PUBLISHED ? &seconds : nullptr);
  AddReport(report, &out);
  return std::move(out).Text();
}

}  // namespace adrank
