#include "trainer/report.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
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
constexpr int kShownFields = 12;

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
  row("PR-AUC", &Metrics::pr_auc, nullptr);
  row("logloss", &Metrics::logloss, &report.delta_logloss());
  row("NE", &Metrics::normalized_entropy, &report.delta_ne());
  row("calibration", &Metrics::calibration_ratio, nullptr);
  row("ECE", &Metrics::ece, nullptr);
  if (report.has_calibration_interval()) {
    absl::StrAppendFormat(out, "  calibration, 95 %%: [%s, %s]\n",
                          Number(report.calibration_interval().low()),
                          Number(report.calibration_interval().high()));
  }
  if (live != nullptr) {
    absl::StrAppendFormat(out, "  score shift (PSI): %s\n",
                          Number(report.psi()));
  }
}

void AppendReliability(const TrainingReport& report, std::string* out) {
  if (report.reliability().empty()) return;
  absl::StrAppendFormat(out, "\n%-14s %10s %10s %10s  %s\n", "reliability",
                        "examples", "mean pctr", "CTR", "[95 %]");
  for (int b = 0; b < report.reliability_size(); ++b) {
    const v1::ReliabilityBin& bin = report.reliability(b);
    absl::StrAppendFormat(
        out, "  %-12s %10s %10s %10s  [%s, %s]%s\n",
        absl::StrCat("part ", b + 1, "/", report.reliability_size()),
        WithCommas(bin.examples()), Number(bin.mean_pctr()),
        Number(bin.ctr().estimate()), Number(bin.ctr().low()),
        Number(bin.ctr().high()),
        bin.mean_pctr() < bin.ctr().low()    ? "  low"
        : bin.mean_pctr() > bin.ctr().high() ? "  high"
                                             : "");
  }
}

// By how much a field moved, for the order of the table.
double Moved(const v1::FieldDrift& field) {
  const double before = std::isfinite(field.live_coverage())
                            ? field.live_coverage()
                            : field.training_coverage();
  const double rarer = std::fabs(before - field.evaluation_coverage());
  const double unknown = std::fabs(field.oov() - field.live_oov());
  return std::max(std::isfinite(rarer) ? rarer : 0,
                  std::isfinite(unknown) ? unknown : 0);
}

void AppendDrift(const TrainingReport& report, std::string* out) {
  if (report.drift().empty()) return;
  std::vector<const v1::FieldDrift*> fields;
  for (const v1::FieldDrift& field : report.drift()) fields.push_back(&field);
  std::stable_sort(fields.begin(), fields.end(),
                   [](const v1::FieldDrift* a, const v1::FieldDrift* b) {
                     return Moved(*a) > Moved(*b);
                   });
  absl::StrAppendFormat(out, "\n%-28s %9s %9s %9s %9s %9s\n",
                        "field: share that has it,", "training", "evaluat.",
                        "live", "unknown", "live");
  int shown = 0;
  for (const v1::FieldDrift* field : fields) {
    if (++shown > kShownFields) break;
    absl::StrAppendFormat(
        out, "  %-26s %9s %9s %9s %9s %9s\n", field->field().substr(0, 26),
        Number(field->training_coverage()),
        Number(field->evaluation_coverage()), Number(field->live_coverage()),
        Number(field->oov()), Number(field->live_oov()));
  }
  if (report.drift_size() > kShownFields) {
    absl::StrAppend(out, "  (", report.drift_size() - kShownFields,
                    " fields that moved less in the JSON report)\n");
  }
}

void AppendImportance(const TrainingReport& report, std::string* out) {
  if (report.importance().empty()) return;
  absl::StrAppendFormat(out, "\n%-28s %9s %9s %9s  fields\n",
                        "shuffled source: it costs,", "NE", "+-", "AUC");
  int shown = 0;
  for (const v1::FeatureImportance& i : report.importance()) {
    if (++shown > kShownFields) break;
    absl::StrAppendFormat(out, "  %-26s %9s %9s %9s  %s\n",
                          i.source().substr(0, 26), Number(i.ne_increase()),
                          Number(2 * i.ne_error()), Number(i.auc_decrease()),
                          absl::StrJoin(i.fields(), " ").substr(0, 40));
  }
  if (report.importance_size() > kShownFields) {
    absl::StrAppend(out, "  (", report.importance_size() - kShownFields,
                    " sources that matter less in the JSON report)\n");
  }
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
      WithCommas(join.duplicate_events()), ", implausible dates ",
      WithCommas(join.skewed_events()), "\n");
}

void AppendDelay(const TrainingReport& report, absl::TimeZone zone,
                 std::string* out) {
  if (!report.has_click_delay()) return;
  const v1::ClickDelay& delay = report.click_delay();
  absl::StrAppendFormat(
      out,
      "  click delay of %s clicks: p50 %.1f s, p90 %.1f s, p99 %.1f s\n"
      "  %.4g of them within %.1f s: decisions from %s on are left out\n",
      WithCommas(delay.clicks()), delay.p50_s(), delay.p90_s(), delay.p99_s(),
      delay.quantile(), delay.quantile_s(),
      FormatTime(delay.ripe_end_ms(), zone));
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
        out, "  pass %d, predicted before learnt: NE %s, AUC %s", pass + 1,
        Number(m.normalized_entropy()), Number(m.auc()));
    if (pass < report.validation_size()) {
      const Metrics& v = report.validation(pass);
      absl::StrAppendFormat(
          out, "; validation: logloss %s, AUC %s%s", Number(v.logloss()),
          Number(v.auc()),
          report.best_pass() == static_cast<uint32_t>(pass) + 1 ? " (kept)"
                                                                : "");
    }
    *out += "\n";
  }
  if (report.has_storage_loss()) {
    const v1::StorageLoss& loss = report.storage_loss();
    absl::StrAppendFormat(
        out,
        "  embeddings as stored against fp32: logit within %.2g (99.9 %%), "
        "%.2g (all); AUC %+.6f, logloss %+.6f\n",
        loss.p999_logit_change(), loss.max_logit_change(), loss.delta_auc(),
        loss.delta_logloss());
  }
  if (report.golden().candidates() > 0) {
    const v1::GoldenCheck& golden = report.golden();
    absl::StrAppendFormat(out,
                          "  golden requests: %d with %d candidates, %.2f us a "
                          "candidate",
                          golden.requests(), golden.candidates(),
                          golden.score_micros());
    if (report.has_incumbent()) {
      absl::StrAppendFormat(out, ", pctr changes by up to %.5f",
                            golden.largest_change());
    }
    *out += "\n";
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

// For a label's value in Prometheus text.
std::string Escaped(absl::string_view text) {
  return absl::StrReplaceAll(text,
                             {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}});
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

// Bounded by the spec's fields. Nothing is kept of the run before.
void AddDrift(const TrainingReport& report, MetricsWriter* out) {
  if (report.drift().empty()) return;
  struct Gauge {
    const char* name;
    const char* help;
    double (v1::FieldDrift::*get)() const;
  };
  for (const Gauge& gauge :
       {Gauge{"adrank_trainer_field_coverage",
              "Share of the examples of the evaluation window with the field.",
              &v1::FieldDrift::evaluation_coverage},
        {"adrank_trainer_field_oov",
         "Share of the field's values that the candidate does not know.",
         &v1::FieldDrift::oov}}) {
    out->Family(gauge.name, "gauge", gauge.help);
    for (const v1::FieldDrift& field : report.drift()) {
      out->Sample(absl::StrCat(",field=\"", Escaped(field.field()), "\""),
                  (field.*gauge.get)());
    }
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
  gauge("adrank_trainer_candidate_pr_auc",
        "Average precision of the last candidate.", r.candidate().pr_auc());
  gauge("adrank_trainer_candidate_ece",
        "Expected calibration error of the last candidate.",
        r.candidate().ece());
  gauge("adrank_trainer_candidate_psi",
        "Population stability index of the last candidate's pctrs against the "
        "live model's.",
        r.psi());
  gauge("adrank_trainer_candidate_score_microseconds",
        "CPU time of a candidate's features and score, on golden requests.",
        r.golden().score_micros());
  gauge("adrank_trainer_skewed_events", "Events with implausible dates.",
        static_cast<double>(r.join().skewed_events()));
  gauge("adrank_trainer_click_delay_seconds",
        "Quantile of the click delay that decides which labels are ripe.",
        r.click_delay().quantile_s());
  AddDrift(r, out);
  gauge("adrank_trainer_published_version",
        "Version that was live after the last run.",
        static_cast<double>(r.version() > 0 ? r.version()
                                            : r.incumbent_version()));
}

}  // namespace

absl::StatusOr<std::string> ReportJson(
    const google::protobuf::Message& report) {
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
    AppendDelay(report, zone, &out);
  }
  if (report.vocabulary_rows() > 0) AppendModel(report, &out);
  if (report.has_memory()) AppendMemory(report.memory(), &out);
  if (report.has_candidate()) AppendQuality(report, &out);
  AppendReliability(report, &out);
  AppendDrift(report, &out);
  AppendImportance(report, &out);
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
