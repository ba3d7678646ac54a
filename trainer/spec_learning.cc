#include "trainer/spec_learning.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "features/boundary_sampler.h"
#include "trainer/ad_cache.h"
#include "trainer/labelled_decision.h"

namespace adrank {
namespace {

// Separates this sample from that of the negatives.
constexpr uint64_t kBoundarySalt = 0x626f756e64617279;
constexpr size_t kCachedAds = 1 << 14;

bool IsUnlearnt(const v1::Field& field) {
  return field.kind() == v1::Field::QUANTILE_BIN && field.boundaries().empty();
}

bool Equal(const google::protobuf::Message& a,
           const google::protobuf::Message& b) {
  return a.SerializeAsString() == b.SerializeAsString();  // no maps in a spec
}

// Adds the seen ads of one decision.
absl::Status AddTo(BoundarySampler* sampler, EventLogReader* reader,
                   const LabelledDecision& decision,
                   AdCache<v1::AdSnapshot>* ads) {
  for (const LabelledAd& example : decision.examples()) {
    const v1::ServedAd& served = decision.served(example);
    const std::string& hash = served.ad_hash();
    if (hash.size() != 16) continue;
    const v1::AdSnapshot* ad = ads->Find(hash);
    if (ad == nullptr) {
      auto snapshot = reader->GetSnapshot(hash);
      if (absl::IsNotFound(snapshot.status())) continue;
      RETURN_IF_ERROR(snapshot.status());
      ad = ads->Insert(hash,
                       std::make_unique<v1::AdSnapshot>(*std::move(snapshot)));
    }
    sampler->Add(decision.decision().context(), *ad, LoggedPosition(served));
  }
  return absl::OkStatus();
}

}  // namespace

v1::FeatureSpec WithBoundariesOf(const v1::FeatureSpec& incumbent,
                                 v1::FeatureSpec spec) {
  for (v1::Field& field : *spec.mutable_fields()) {
    if (!IsUnlearnt(field)) continue;
    for (const v1::Field& known : incumbent.fields()) {
      v1::Field bare = known;
      bare.clear_boundaries();
      bare.set_min_count(field.min_count());
      if (Equal(bare, field)) *field.mutable_boundaries() = known.boundaries();
    }
  }
  return spec;
}

bool SameFeatures(const v1::FeatureSpec& a, const v1::FeatureSpec& b) {
  const auto bare = [](v1::FeatureSpec spec) {
    for (auto& field : *spec.mutable_fields()) field.clear_min_count();
    for (auto& cross : *spec.mutable_crosses()) cross.clear_min_count();
    return spec;
  };
  return Equal(bare(a), bare(b));
}

bool HasUnlearntBins(const v1::FeatureSpec& spec) {
  return std::any_of(spec.fields().begin(), spec.fields().end(), IsUnlearnt);
}

absl::StatusOr<TimeHistogram> CountExamples(EventLogReader* reader,
                                            int64_t begin_ms, int64_t end_ms,
                                            bool served_is_seen) {
  TimeHistogram histogram;
  auto cursor = reader->Join(begin_ms, end_ms);
  for (; cursor->Valid(); cursor->Next()) {
    const JoinedRecord& record = cursor->record();
    if (!record.has_decision()) continue;
    const auto impressions = static_cast<uint64_t>(
        std::count_if(record.events.begin(), record.events.end(),
                      [](const JoinedEvent& event) {
                        return event.type == v1::EVENT_TYPE_IMPRESSION;
                      }));
    const uint64_t examples = served_is_seen ? record.ads : impressions;
    if (examples > 0) {
      histogram.Add(static_cast<int64_t>(record.id.ms), examples);
    }
  }
  RETURN_IF_ERROR(cursor->status());
  return histogram;
}

absl::StatusOr<v1::FeatureSpec> LearnSpec(EventLogReader* reader,
                                          const v1::FeatureSpec& spec,
                                          int64_t begin_ms, int64_t end_ms,
                                          uint64_t examples,
                                          const LabelOptions& labels,
                                          uint64_t seed) {
  ASSIGN_OR_RETURN(const std::unique_ptr<BoundarySampler> sampler,
                   BoundarySampler::Create(spec, seed));
  const double rate = examples <= kBoundaryExamples
                          ? 1.0
                          : static_cast<double>(kBoundaryExamples) /
                                static_cast<double>(examples);
  LabelledDecision decision(labels);
  AdCache<v1::AdSnapshot> ads(kCachedAds);
  auto cursor = reader->Join(begin_ms, end_ms);
  for (; cursor->Valid(); cursor->Next()) {
    const JoinedRecord& record = cursor->record();
    if (!record.has_decision() ||
        ToUnit(HashDecision(record.id, seed ^ kBoundarySalt)) >= rate) {
      continue;
    }
    ads.Rotate();
    RETURN_IF_ERROR(decision.Read(record));
    RETURN_IF_ERROR(AddTo(sampler.get(), reader, decision, &ads));
  }
  RETURN_IF_ERROR(cursor->status());
  return sampler->Learn();
}

}  // namespace adrank
