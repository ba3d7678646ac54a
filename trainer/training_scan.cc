// Hot path: no allocation after warm-up, no logging.
#include "trainer/training_scan.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "trainer/ad_cache.h"
#include "trainer/expiry.h"
#include "trainer/labelled_decision.h"
#include "trainer/ordered_scan.h"

namespace adrank {
namespace {

// Of one worker; an ad with some dozens of features is about 1 KB.
constexpr size_t kCachedAds = 1 << 15;

// RowPart of a row, as handles.
struct RowPart {
  FeatureBatch features;          // one row
  std::vector<uint32_t> handles;  // [entries]

  void Clear() {
    features.Clear();
    handles.clear();
  }
};

struct CachedAd {
  bool missing = false;
  RowPart part;
  // Examples that used it and that the table does not know of yet.
  uint32_t examples = 0;
};

// Whether an entry before `e` of the same field has the same id: a row counts
// once for an id.
bool Repeats(const FeatureBatch& row, size_t e) {
  for (size_t k = e; k-- > 0 && row.fields[k] == row.fields[e];) {
    if (row.ids[k] == row.ids[e]) return true;
  }
  return false;
}

// The examples of one batch of records, end to end.
struct RawRows {
  std::vector<uint32_t> handles;
  std::vector<float> values;
  std::vector<uint16_t> fields;
  std::vector<size_t> ends;  // [rows]
  std::vector<uint8_t> labels;
  bool all_ones = true;
  int64_t first_ms = 0, last_ms = 0;  // of decisions with rows
  int64_t scanned_ms = 0;             // last record
  size_t counted = 0;                 // rows, by a worker that only counts

  void Clear() {
    handles.clear();
    values.clear();
    fields.clear();
    ends.clear();
    labels.clear();
    counted = 0;
    all_ones = true;
  }
  void Append(const RowPart& part) {
    handles.insert(handles.end(), part.handles.begin(), part.handles.end());
    const std::vector<float>& v = part.features.values;
    values.insert(values.end(), v.begin(), v.end());
    for (float x : v) all_ones &= x == 1.0f;
    fields.insert(fields.end(), part.features.fields.begin(),
                  part.features.fields.end());
  }
  void EndRow(bool label) {
    ends.push_back(handles.size());
    labels.push_back(label ? 1 : 0);
  }
};

// Fills either `ids` and rows, or `filter` alone; the other is null.
class Worker {
 public:
  Worker(EventLogReader* reader, const FeatureExtractor& extractor,
         const TrainingScanOptions& options, IdTable* ids, IdFilter* filter)
      : reader_(reader),
        extractor_(extractor),
        options_(options),
        table_(ids),
        filter_(filter),
        ids_(ids),
        labelled_(options.labels),
        present_(extractor.field_names().size()),
        ads_(kCachedAds, [this](CachedAd* ad) { FlushAd(ad); }) {}

  absl::Status Process(const RecordBatch& batch, RawRows* out) {
    out->Clear();
    ads_.Rotate();
    for (size_t i = 0; i < batch.size(); ++i) {
      const JoinedRecord record = batch.record(i);
      out->scanned_ms = static_cast<int64_t>(record.id.ms);
      RETURN_IF_ERROR(labelled_.Read(record));
      if (labelled_.examples().empty()) continue;
      StartDay(DayOf(out->scanned_ms));
      RETURN_IF_ERROR(Keep(record.id));
      if (kept_.empty()) continue;
      if (filter_ != nullptr) out->counted += kept_.size();
      if (out->ends.empty()) out->first_ms = out->scanned_ms;
      out->last_ms = out->scanned_ms;
      Pack(out);
    }
    return absl::OkStatus();
  }

  // Adds this worker's counts, once, at the end.
  void Finish(TrainingRows* rows) {
    ads_.Clear();
    ids_.Flush();
    AddCounts(labelled_.counts(), &rows->join);
    rows->seen += seen_;
    rows->seen_clicks += seen_clicks_;
    for (size_t f = 0; f < present_.size(); ++f) {
      rows->present[f] += present_[f];
    }
  }

 private:
  // Counts that are kept back are of one day.
  void StartDay(uint16_t day) {
    if (day == day_) return;
    ads_.Clear();
    ids_.SetDay(day);
    day_ = day;
  }

  struct Kept {
    CachedAd* ad;
    uint32_t placement;
    uint32_t position;
    bool clicked;
  };

  // Fills kept_ with the decision's examples that have a snapshot and are not
  // sampled away, those of one placement together.
  absl::Status Keep(const DecisionId& id) {
    kept_.clear();
    const uint64_t hash = HashDecision(id, options_.seed);
    for (const LabelledAd& example : labelled_.examples()) {
      const v1::ServedAd& served = labelled_.served(example);
      ASSIGN_OR_RETURN(CachedAd* const ad, Ad(served.ad_hash()));
      if (ad->missing) {
        labelled_.CountMissingSnapshot();
        continue;
      }
      ++seen_;
      seen_clicks_ += example.clicked;
      if (!example.clicked && options_.negative_keep_rate < 1 &&
          ToUnit(MixBits(hash + served.position())) >=
              options_.negative_keep_rate) {
        continue;
      }
      kept_.push_back({ad, served.placement_index(), LoggedPosition(served),
                       example.clicked});
    }
    return absl::OkStatus();
  }

  // Rows of kept_, in order.
  void Pack(RawRows* out) {
    for (size_t begin = 0; begin < kept_.size();) {
      size_t end = begin + 1;
      while (end < kept_.size() &&
             kept_[end].placement == kept_[begin].placement) {
        ++end;
      }
      context_.Clear();
      extractor_.ExtractContext(labelled_.decision().context(),
                                labelled_.placement(kept_[begin].placement),
                                &context_.features);
      Intern(static_cast<uint32_t>(end - begin), &context_);
      for (; begin < end; ++begin) PackRow(kept_[begin], out);
    }
  }

  void PackRow(const Kept& kept, RawRows* out) {
    crosses_.Clear();
    extractor_.ExtractCrosses(context_.features, 0, kept.ad->part.features, 0,
                              kept.position, &crosses_.features);
    Intern(1, &crosses_);
    ++kept.ad->examples;
    if (filter_ != nullptr) return;
    out->Append(context_);
    out->Append(kept.ad->part);
    out->Append(crosses_);
    out->EndRow(kept.clicked);
  }

  // Handles of the part's features, counted for `examples` rows.
  void Intern(uint32_t examples, RowPart* part) {
    const FeatureBatch& row = part->features;
    for (size_t e = 0; e < row.ids.size(); ++e) {
      if (e == 0 || row.fields[e] != row.fields[e - 1]) {
        present_[row.fields[e]] += examples;
      }
      const uint32_t count = Repeats(row, e) ? 0 : examples;
      if (filter_ != nullptr) {
        filter_->Add(row.ids[e], count);
      } else {
        part->handles.push_back(ids_.Intern(row.ids[e], row.fields[e], count));
      }
    }
  }

  absl::StatusOr<CachedAd*> Ad(const std::string& hash) {
    static CachedAd* const kMissing = new CachedAd{true, {}, 0};
    if (hash.size() != 16) return kMissing;
    return ads_.FindOrRead(
        reader_, hash, [this](const v1::AdSnapshot& snapshot, CachedAd* ad) {
          extractor_.ExtractAd(snapshot, &ad->part.features);
          if (filter_ != nullptr) return;
          const FeatureBatch& row = ad->part.features;
          for (size_t e = 0; e < row.ids.size(); ++e) {
            ad->part.handles.push_back(
                ids_.Intern(row.ids[e], row.fields[e], 0));
          }
        });
  }

  void FlushAd(CachedAd* ad) {
    if (ad->examples == 0) return;
    const FeatureBatch& row = ad->part.features;
    for (size_t e = 0; e < row.ids.size(); ++e) {
      if (e == 0 || row.fields[e] != row.fields[e - 1]) {
        present_[row.fields[e]] += ad->examples;
      }
      if (Repeats(row, e)) continue;
      if (filter_ != nullptr) {
        filter_->Add(row.ids[e], ad->examples);
      } else {
        table_->AddExamples(ad->part.handles[e], ad->examples, day_);
      }
    }
    ad->examples = 0;
  }

  EventLogReader* const reader_;
  const FeatureExtractor& extractor_;
  const TrainingScanOptions& options_;
  IdTable* const table_;
  IdFilter* const filter_;
  IdCache ids_;
  LabelledDecision labelled_;
  uint16_t day_ = 0;
  std::vector<uint64_t> present_;
  uint64_t seen_ = 0;
  uint64_t seen_clicks_ = 0;
  std::vector<Kept> kept_;
  RowPart context_, crosses_;
  AdCache<CachedAd> ads_;
};

// Appends the batch's rows to rows->raw.
absl::Status MergeInto(const RawRows& batch, TrainingRows* rows) {
  if (batch.ends.empty()) return absl::OkStatus();
  if (rows->raw.examples() == 0) rows->first_ms = batch.first_ms;
  rows->last_ms = batch.last_ms;
  size_t begin = 0;
  for (size_t r = 0; r < batch.ends.size(); ++r) {
    const size_t n = batch.ends[r] - begin;
    const auto values =
        batch.all_ones ? absl::Span<const float>()
                       : absl::MakeConstSpan(batch.values).subspan(begin, n);
    RETURN_IF_ERROR(
        rows->raw.Add(absl::MakeConstSpan(batch.handles).subspan(begin, n),
                      values, batch.labels[r] != 0, 1, 0,
                      absl::MakeConstSpan(batch.fields).subspan(begin, n)));
    begin = batch.ends[r];
  }
  return absl::OkStatus();
}

// `merge` gets the batches in order; then the workers' counts go to *rows.
absl::Status Scan(EventLogReader* reader, const FeatureExtractor& extractor,
                  const TrainingScanOptions& options, IdTable* ids,
                  IdFilter* filter, TrainingRows* rows,
                  const OrderedScan<RawRows>::Merge& merge) {
  rows->present.assign(extractor.field_names().size(), 0);
  std::vector<std::unique_ptr<Worker>> workers;
  for (uint32_t t = 0; t < options.threads; ++t) {
    workers.push_back(
        std::make_unique<Worker>(reader, extractor, options, ids, filter));
  }
  auto cursor = reader->Join(options.begin_ms, options.end_ms);
  RETURN_IF_ERROR(OrderedScan<RawRows>::Run(
      cursor.get(), workers.size(),
      [&](size_t w, const RecordBatch& batch, RawRows* out) {
        return workers[w]->Process(batch, out);
      },
      merge));
  for (auto& worker : workers) worker->Finish(rows);
  return absl::OkStatus();
}

double Done(const TrainingScanOptions& options, int64_t scanned_ms) {
  return static_cast<double>(scanned_ms - options.begin_ms) /
         std::max(1.0, static_cast<double>(options.end_ms - options.begin_ms));
}

}  // namespace

absl::StatusOr<uint64_t> CountIds(EventLogReader* reader,
                                  const FeatureExtractor& extractor,
                                  const TrainingScanOptions& options,
                                  IdFilter* filter, StepProgress* progress) {
  TrainingRows rows;
  uint64_t counted = 0;
  RETURN_IF_ERROR(Scan(
      reader, extractor, options, nullptr, filter, &rows, [&](RawRows* batch) {
        counted += batch->counted;
        progress->Update(Done(options, batch->scanned_ms), counted);
        return absl::OkStatus();
      }));
  return counted;
}

absl::StatusOr<TrainingRows> ScanTraining(EventLogReader* reader,
                                          const FeatureExtractor& extractor,
                                          const TrainingScanOptions& options,
                                          IdTable* ids,
                                          StepProgress* progress) {
  TrainingRows rows;
  rows.raw = ExampleBlocks(options.blocks);
  RETURN_IF_ERROR(Scan(
      reader, extractor, options, ids, nullptr, &rows, [&](RawRows* batch) {
        progress->Update(Done(options, batch->scanned_ms), rows.raw.examples());
        return MergeInto(*batch, &rows);
      }));
  if (ids->overflowed()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the training window has more feature ids than fit the memory for "
        "them (",
        ids->size(),
        " did): raise max_memory_bytes, "
        "vocabulary.filter_bytes or min_count"));
  }
  RETURN_IF_ERROR(rows.raw.Finish());
  return rows;
}

}  // namespace adrank
