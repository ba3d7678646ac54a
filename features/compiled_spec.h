// Hot path: no allocation after warm-up (but for tokens of non-ASCII text), no
// locks, no logging.
//
// A FeatureSpec made ready for extraction. Inside of FeatureExtractor.
#ifndef ADRANK_FEATURES_COMPILED_SPEC_H_
#define ADRANK_FEATURES_COMPILED_SPEC_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "features/attribute_table.h"
#include "features/feature_batch.h"
#include "features/feature_id.h"
#include "features/field_values.h"
#include "features/spec_check.h"
#include "proto/common.pb.h"
#include "proto/feature_spec.pb.h"

namespace adrank {

// Entries of one cross in one row; the first combinations are kept. Bounds what
// a request with many tags and tokens can cost.
inline constexpr uint32_t kMaxCrossValues = 1024;

struct CrossPlan {
  uint64_t start = 0;
  uint16_t index = 0;
  int size = 0;  // 2 or 3
  uint16_t fields[3] = {0, 0, 0};
  Part parts[3] = {Part::kContext, Part::kContext, Part::kContext};
};

// Entries of one field within a batch.
struct Range {
  uint32_t begin = 0;
  uint32_t end = 0;
};

// Working memory of a thread.
struct Scratch {
  std::vector<const v1::Attribute*> attributes;
  TokenScratch tokens;
  // By field. A field lives in one part, so that the ranges of a context row
  // stay while ads come and go.
  std::vector<Range> ranges;
};

// The batches that hold the fields of each Part.
struct PartBatches {
  const FeatureBatch* context;
  const FeatureBatch* ad;
  const FeatureBatch* cross;
  const FeatureBatch& of(Part part) const {
    return part == Part::kContext ? *context : part == Part::kAd ? *ad : *cross;
  }
};

inline uint32_t EntryCount(const FeatureBatch& batch) {
  return static_cast<uint32_t>(batch.ids.size());
}

// Constant after Compile; thread-safe.
struct CompiledSpec {
  v1::FeatureSpec spec;
  ResolvedSpec resolved;
  std::vector<std::string> names;  // fields, then crosses
  absl::TimeZone zone;
  AttributeTable context_attributes;
  AttributeTable ad_attributes;
  // In the spec's order; position fields are of the cross part.
  std::vector<FieldPlan> context_fields;
  std::vector<FieldPlan> ad_fields;
  std::vector<FieldPlan> position_fields;
  std::vector<CrossPlan> context_crosses;
  std::vector<CrossPlan> ad_crosses;
  std::vector<CrossPlan> mixed_crosses;

  // InvalidArgument as FeatureExtractor::Create.
  static absl::StatusOr<std::unique_ptr<const CompiledSpec>> Compile(
      const v1::FeatureSpec& spec, bool allow_unlearnt_bins);

  // Each adds the fields of one part and notes their ranges.
  // REQUIRES: scratch->ranges has one element per field.
  template <typename Sink>
  void AddContextFields(const v1::Context& context, absl::string_view placement,
                        Scratch* scratch, Sink* sink) const;
  template <typename Sink>
  void AddAdFields(const v1::AdSnapshot& ad, Scratch* scratch,
                   Sink* sink) const;
  template <typename Sink>
  void AddPositionFields(uint32_t position, Scratch* scratch, Sink* sink) const;
};

// Calls on_entry(id, value, i, j, k) for the product of the components' values,
// the last component fastest, at most kMaxCrossValues times; i, j, k are the
// components' entries in their batches (k = 0 for a cross of two). on_entry may
// add to a batch that is read from.
template <typename OnEntry>
void ForEachCrossEntry(const CrossPlan& cross, const PartBatches& batches,
                       const std::vector<Range>& field_ranges,
                       const OnEntry& on_entry) {
  // By index, not by pointer: on_entry may grow the batch it reads from.
  Range ranges[3];
  for (int i = 0; i < cross.size; ++i) {
    ranges[i] = field_ranges[cross.fields[i]];
    if (ranges[i].begin == ranges[i].end) return;
  }
  const FeatureBatch& a = batches.of(cross.parts[0]);
  const FeatureBatch& b = batches.of(cross.parts[1]);
  const FeatureBatch& c = batches.of(cross.parts[2]);
  uint32_t left = kMaxCrossValues;
  for (uint32_t i = ranges[0].begin; i < ranges[0].end; ++i) {
    const uint64_t state_a = CrossNext(cross.start, a.ids[i]);
    for (uint32_t j = ranges[1].begin; j < ranges[1].end; ++j) {
      const uint64_t state_b = CrossNext(state_a, b.ids[j]);
      const float value_b = a.values[i] * b.values[j];
      if (cross.size == 2) {
        on_entry(CrossEnd(state_b), value_b, i, j, 0u);
        if (--left == 0) return;
        continue;
      }
      for (uint32_t k = ranges[2].begin; k < ranges[2].end; ++k) {
        on_entry(CrossEnd(CrossNext(state_b, c.ids[k])), value_b * c.values[k],
                 i, j, k);
        if (--left == 0) return;
      }
    }
  }
}

template <typename Sink>
void CompiledSpec::AddContextFields(const v1::Context& context,
                                    absl::string_view placement,
                                    Scratch* scratch, Sink* sink) const {
  context_attributes.Locate(context.attributes(), &scratch->attributes);
  for (const FieldPlan& plan : context_fields) {
    Range& range = scratch->ranges[plan.index];
    range.begin = EntryCount(*sink->batch);
    switch (plan.source) {
      case SourceKind::kContextAttribute:
        if (const v1::Attribute* a = scratch->attributes[plan.slot]) {
          AddAttributeField(plan, *a, &scratch->tokens, sink);
        }
        break;
      case SourceKind::kUserId:
        AddTextField(plan, context.user_id(), &scratch->tokens, sink);
        break;
      case SourceKind::kQuery:
        AddTextField(plan, context.query(), &scratch->tokens, sink);
        break;
      case SourceKind::kPlacement:
        AddTextField(plan, placement, &scratch->tokens, sink);
        break;
      default:
        AddTimeField(plan, zone, context.time_ms(), sink);
    }
    range.end = EntryCount(*sink->batch);
  }
}

template <typename Sink>
void CompiledSpec::AddAdFields(const v1::AdSnapshot& ad, Scratch* scratch,
                               Sink* sink) const {
  ad_attributes.Locate(ad.attributes(), &scratch->attributes);
  for (const FieldPlan& plan : ad_fields) {
    Range& range = scratch->ranges[plan.index];
    range.begin = EntryCount(*sink->batch);
    switch (plan.source) {
      case SourceKind::kAdAttribute:
        if (const v1::Attribute* a = scratch->attributes[plan.slot]) {
          AddAttributeField(plan, *a, &scratch->tokens, sink);
        }
        break;
      case SourceKind::kAdId:
        AddTextField(plan, ad.ad_id(), &scratch->tokens, sink);
        break;
      case SourceKind::kAdGroupId:
        AddTextField(plan, ad.ad_group_id(), &scratch->tokens, sink);
        break;
      case SourceKind::kCampaignId:
        AddTextField(plan, ad.campaign_id(), &scratch->tokens, sink);
        break;
      default:
        AddTextField(plan, ad.advertiser_id(), &scratch->tokens, sink);
    }
    range.end = EntryCount(*sink->batch);
  }
}

template <typename Sink>
void CompiledSpec::AddPositionFields(uint32_t position, Scratch* scratch,
                                     Sink* sink) const {
  for (const FieldPlan& plan : position_fields) {
    Range& range = scratch->ranges[plan.index];
    range.begin = EntryCount(*sink->batch);
    // Positions count from 1; 0 is "not known".
    if (position > 0) AddNumberField(plan, position, sink);
    range.end = EntryCount(*sink->batch);
  }
}

}  // namespace adrank

#endif  // ADRANK_FEATURES_COMPILED_SPEC_H_
