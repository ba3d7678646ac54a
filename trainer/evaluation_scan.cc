// Hot path: no allocation after warm-up, no logging.
#include "trainer/evaluation_scan.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/hash.h"
#include "base/status_macros.h"
#include "trainer/ad_cache.h"
#include "trainer/labelled_decision.h"
#include "trainer/ordered_scan.h"

namespace adrank {
namespace {

constexpr size_t kCachedAds = 1 << 15;

struct CachedAd {
  bool missing = false;
  // One row each; empty where not wanted.
  FeatureBatch candidate, incumbent, slices;
};

// A bundle and what one worker needs to ask it.
struct Scorer {
  const ModelBundle* bundle = nullptr;
  FeatureBatch CachedAd::*ad = nullptr;
  RequestFeatures features;
  PredictScratch scratch;
  std::vector<float> logits, pctrs;
};

struct BatchRows {
  CalibrationRows calibration;
  EvaluationRows evaluation;  // `decision` counts from the batch's first
  int64_t scanned_ms = 0;
};

template <typename T>
void AppendTo(const std::vector<T>& from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

void Clear(BatchRows* out) {
  out->calibration.logits.clear();
  out->calibration.labels.clear();
  out->calibration.slices.clear();
  EvaluationRows& e = out->evaluation;
  e.logits.clear();
  e.incumbent_pctr.clear();
  e.slices.clear();
  e.labels.clear();
  e.groups.clear();
  e.decision.clear();
  e.ads.clear();
  e.slice_ends.clear();
  e.slice_values.clear();
  e.decisions.clear();
}

bool UsesPosition(const FeatureExtractor& extractor) {
  const auto& fields = extractor.spec().fields();
  return std::any_of(fields.begin(), fields.end(), [](const v1::Field& f) {
    return f.source() == "position";
  });
}

class Worker {
 public:
  Worker(EventLogReader* reader, const ModelBundle& candidate,
         const ModelBundle* incumbent, const FeatureExtractor* slices,
         const EvaluationScanOptions& options)
      : reader_(reader),
        slices_(slices),
        options_(options),
        labelled_(options.labels),
        ads_(kCachedAds) {
    candidate_.bundle = &candidate;
    candidate_.ad = &CachedAd::candidate;
    incumbent_.bundle = incumbent;
    incumbent_.ad = &CachedAd::incumbent;
    fields_.resize(candidate.extractor().field_names().size());
    position_matters_ =
        incumbent != nullptr && UsesPosition(incumbent->extractor());
  }

  absl::Status Process(const RecordBatch& batch, BatchRows* out) {
    Clear(out);
    ads_.Rotate();
    for (size_t i = 0; i < batch.size(); ++i) {
      const JoinedRecord record = batch.record(i);
      out->scanned_ms = static_cast<int64_t>(record.id.ms);
      RETURN_IF_ERROR(labelled_.Read(record));
      if (labelled_.examples().empty()) continue;
      RETURN_IF_ERROR(FindAds());
      if (seen_.empty()) continue;
      const Window window = options_.windows.Of(out->scanned_ms);
      if (window == Window::kCalibration) {
        ForEachPlacement([&](size_t begin, size_t end) {
          Calibrate(begin, end, &out->calibration);
        });
      } else if (window == Window::kEvaluation) {
        out->evaluation.decisions.push_back(record.id);
        group_ = Group(record.id);
        ForEachPlacement([&](size_t begin, size_t end) {
          Evaluate(begin, end, &out->evaluation);
        });
      }
    }
    return absl::OkStatus();
  }

  void Finish(EvaluationData* data) const {
    AddCounts(labelled_.counts(), &data->join);
    for (size_t f = 0; f < fields_.size(); ++f) {
      data->fields[f].present += fields_[f].present;
      data->fields[f].features += fields_[f].features;
      data->fields[f].unknown += fields_[f].unknown;
    }
    data->fingerprints_checked += checked_;
    data->fingerprints_differing += differing_;
  }

 private:
  struct Seen {
    CachedAd* ad;
    const v1::ServedAd* served;
    LabelledAd example;
  };

  absl::Status FindAds() {
    seen_.clear();
    for (const LabelledAd& example : labelled_.examples()) {
      const v1::ServedAd& served = labelled_.served(example);
      ASSIGN_OR_RETURN(CachedAd* const ad, Ad(served.ad_hash()));
      if (ad == nullptr || ad->missing) {
        labelled_.CountMissingSnapshot();
        continue;
      }
      seen_.push_back({ad, &served, example});
    }
    return absl::OkStatus();
  }

  // Null when the hash is none.
  absl::StatusOr<CachedAd*> Ad(const std::string& hash) {
    if (hash.size() != 16) return nullptr;
    return ads_.FindOrRead(
        reader_, hash, [this](const v1::AdSnapshot& snapshot, CachedAd* ad) {
          candidate_.bundle->extractor().ExtractAd(snapshot, &ad->candidate);
          if (incumbent_.bundle != nullptr) {
            incumbent_.bundle->extractor().ExtractAd(snapshot, &ad->incumbent);
          }
          if (slices_ != nullptr) slices_->ExtractAd(snapshot, &ad->slices);
        });
  }

  // Runs of seen_ that share a placement, and so a context row.
  template <typename Visit>
  void ForEachPlacement(Visit visit) {
    for (size_t begin = 0; begin < seen_.size();) {
      size_t end = begin + 1;
      while (end < seen_.size() && seen_[end].served->placement_index() ==
                                       seen_[begin].served->placement_index()) {
        ++end;
      }
      placement_ = labelled_.placement(seen_[begin].served->placement_index());
      visit(begin, end);
      begin = end;
    }
  }

  // Fills the scorer's features, logits and pctrs for seen_[begin, end).
  void Score(size_t begin, size_t end, Scorer* scorer) {
    const FeatureExtractor& extractor = scorer->bundle->extractor();
    RequestFeatures& features = scorer->features;
    features.Clear();
    extractor.ExtractContext(labelled_.decision().context(), placement_,
                             &features.context);
    for (size_t i = begin; i < end; ++i) {
      AppendRow(seen_[i].ad->*scorer->ad, 0, &features.ads);
      extractor.ExtractCrosses(features.context, 0, features.ads, i - begin,
                               LoggedPosition(*seen_[i].served),
                               &features.crosses);
    }
    scorer->logits.resize(end - begin);
    scorer->pctrs.resize(end - begin);
    scorer->bundle->Predict(features, &scorer->scratch,
                            absl::MakeSpan(scorer->logits),
                            absl::MakeSpan(scorer->pctrs));
  }

  // Fills the columns that both windows have.
  template <typename Rows>
  void ScoreCandidate(size_t begin, size_t end, Rows* out) {
    Score(begin, end, &candidate_);
    AppendTo(candidate_.logits, &out->logits);
    if (!options_.calibration_slice) return;
    for (size_t i = begin; i < end; ++i) {
      out->slices.push_back(
          options_.calibration_slice->Slice(candidate_.features, i - begin));
    }
  }

  void Calibrate(size_t begin, size_t end, CalibrationRows* out) {
    ScoreCandidate(begin, end, out);
    for (size_t i = begin; i < end; ++i) {
      out->labels.push_back(seen_[i].example.clicked ? 1 : 0);
    }
  }

  void Evaluate(size_t begin, size_t end, EvaluationRows* out) {
    ScoreCandidate(begin, end, out);
    CountFields(end - begin);
    if (incumbent_.bundle != nullptr) {
      Score(begin, end, &incumbent_);
      AppendTo(incumbent_.pctrs, &out->incumbent_pctr);
      CheckFingerprints(begin, end);
    }
    for (size_t i = begin; i < end; ++i) {
      out->labels.push_back(seen_[i].example.clicked ? 1 : 0);
      out->groups.push_back(group_);
      out->decision.push_back(static_cast<uint32_t>(out->decisions.size() - 1));
      out->ads.push_back(static_cast<uint16_t>(seen_[i].example.ad));
    }
    Slice(begin, end, out);
  }

  // Of the `rows` that the candidate just scored.
  void CountFields(size_t rows) {
    const RequestRows& known = candidate_.scratch.rows;
    const RequestFeatures& features = candidate_.features;
    CountFields(features.context, known.context, rows);
    CountFields(features.ads, known.ads, 1);
    CountFields(features.crosses, known.crosses, 1);
  }

  // A field's entries stand together in a row; each stands for `times` rows.
  void CountFields(const FeatureBatch& batch, const std::vector<uint32_t>& rows,
                   uint64_t times) {
    const auto oov = candidate_.bundle->vocabulary().oov_rows();
    for (size_t r = 0; r < batch.rows(); ++r) {
      for (uint32_t e = batch.offsets[r]; e < batch.offsets[r + 1]; ++e) {
        const uint16_t field = batch.fields[e];
        FieldCounts& counts = fields_[field];
        const bool first =
            e == batch.offsets[r] || field != batch.fields[e - 1];
        const bool unknown =
            rows[e] == kNoRow || (!oov.empty() && rows[e] == oov[field]);
        counts.present += first ? times : 0;
        counts.features += times;
        counts.unknown += unknown ? times : 0;
      }
    }
  }

  // REQUIRES: Score(begin, end, &incumbent_) came before.
  void CheckFingerprints(size_t begin, size_t end) {
    if (labelled_.decision().model_version() !=
        incumbent_.bundle->manifest().version()) {
      return;
    }
    RequestFeatures& features = incumbent_.features;
    if (position_matters_) {
      features.crosses.Clear();
      for (size_t i = begin; i < end; ++i) {
        incumbent_.bundle->extractor().ExtractCrosses(
            features.context, 0, features.ads, i - begin, kServingPosition,
            &features.crosses);
      }
    }
    for (size_t i = begin; i < end; ++i) {
      const uint64_t logged = seen_[i].served->feature_fingerprint();
      if (logged == 0) continue;
      ++checked_;
      differing_ +=
          FeatureExtractor::Fingerprint(features, i - begin) != logged;
    }
  }

  void Slice(size_t begin, size_t end, EvaluationRows* out) {
    if (slices_ == nullptr) return;
    slice_context_.Clear();
    slices_->ExtractContext(labelled_.decision().context(), placement_,
                            &slice_context_);
    for (size_t i = begin; i < end; ++i) {
      slice_crosses_.Clear();
      slices_->ExtractCrosses(slice_context_, 0, seen_[i].ad->slices, 0,
                              LoggedPosition(*seen_[i].served),
                              &slice_crosses_);
      const size_t first = out->slice_values.size();
      for (const FeatureBatch* row :
           {&slice_context_, &seen_[i].ad->slices, &slice_crosses_}) {
        AddSliceValues(*row, first, out);
      }
      out->slice_ends.push_back(out->slice_values.size());
    }
  }

  // A row that names a value twice is in its slice once.
  static void AddSliceValues(const FeatureBatch& row, size_t first,
                             EvaluationRows* out) {
    for (size_t e = 0; e < row.ids.size(); ++e) {
      const bool known = std::any_of(
          out->slice_values.begin() + static_cast<std::ptrdiff_t>(first),
          out->slice_values.end(), [&](const SliceValue& v) {
            return v.slice == row.fields[e] && v.id == row.ids[e];
          });
      if (!known) out->slice_values.push_back({row.fields[e], row.ids[e]});
    }
  }

  uint64_t Group(const DecisionId& id) const {
    const std::string& user = labelled_.decision().context().user_id();
    return options_.group_by_user && !user.empty() ? Hash64(user)
                                                   : HashDecision(id, 0);
  }

  EventLogReader* const reader_;
  const FeatureExtractor* const slices_;
  const EvaluationScanOptions& options_;
  LabelledDecision labelled_;
  AdCache<CachedAd> ads_;
  Scorer candidate_, incumbent_;
  bool position_matters_ = false;
  std::vector<Seen> seen_;
  absl::string_view placement_;
  uint64_t group_ = 0;
  FeatureBatch slice_context_, slice_crosses_;
  std::vector<FieldCounts> fields_;
  uint64_t checked_ = 0, differing_ = 0;
};

void MergeInto(const BatchRows& batch, EvaluationData* data) {
  AppendTo(batch.calibration.logits, &data->calibration.logits);
  AppendTo(batch.calibration.labels, &data->calibration.labels);
  AppendTo(batch.calibration.slices, &data->calibration.slices);
  const EvaluationRows& from = batch.evaluation;
  EvaluationRows& to = data->evaluation;
  const auto first_decision = static_cast<uint32_t>(to.decisions.size());
  const size_t first_value = to.slice_values.size();
  for (uint32_t d : from.decision) to.decision.push_back(first_decision + d);
  for (size_t end : from.slice_ends) to.slice_ends.push_back(first_value + end);
  AppendTo(from.logits, &to.logits);
  AppendTo(from.incumbent_pctr, &to.incumbent_pctr);
  AppendTo(from.slices, &to.slices);
  AppendTo(from.labels, &to.labels);
  AppendTo(from.groups, &to.groups);
  AppendTo(from.ads, &to.ads);
  AppendTo(from.slice_values, &to.slice_values);
  AppendTo(from.decisions, &to.decisions);
}

}  // namespace

uint64_t EvaluationData::bytes() const {
  const auto of = [](const auto&... columns) {
    return (... + (columns.capacity() * sizeof(columns[0])));
  };
  const EvaluationRows& e = evaluation;
  return of(calibration.logits, calibration.labels, calibration.slices,
            e.logits, e.incumbent_pctr, e.slices, e.labels, e.groups,
            e.decision, e.ads, e.slice_ends, e.slice_values, e.decisions);
}

absl::StatusOr<EvaluationData> ScanEvaluation(
    EventLogReader* reader, const ModelBundle& candidate,
    const ModelBundle* incumbent, const FeatureExtractor* slices,
    const EvaluationScanOptions& options, StepProgress* progress) {
  EvaluationData data;
  data.fields.resize(candidate.extractor().field_names().size());
  std::vector<std::unique_ptr<Worker>> workers;
  for (uint32_t t = 0; t < options.threads; ++t) {
    workers.push_back(std::make_unique<Worker>(reader, candidate, incumbent,
                                               slices, options));
  }
  const int64_t begin = options.windows.train_end_ms;
  const double range = std::max(
      1.0, static_cast<double>(options.windows.evaluation_end_ms - begin));
  auto cursor = reader->Join(begin, options.windows.evaluation_end_ms);
  RETURN_IF_ERROR(OrderedScan<BatchRows>::Run(
      cursor.get(), workers.size(),
      [&](size_t w, const RecordBatch& batch, BatchRows* out) {
        return workers[w]->Process(batch, out);
      },
      [&](BatchRows* batch) {
        MergeInto(*batch, &data);
        progress->Update(
            static_cast<double>(batch->scanned_ms - begin) / range,
            data.calibration.labels.size() + data.evaluation.size());
        return absl::OkStatus();
      }));
  for (const auto& worker : workers) worker->Finish(&data);
  return data;
}

}  // namespace adrank
