// Hot path: no allocation after warm-up (but for tokens of non-ASCII text), no
// locks, no logging.
#include "features/feature_extractor.h"

#include <cstring>
#include <utility>

#include "base/rng.h"
#include "base/status_macros.h"
#include "features/compiled_spec.h"

namespace adrank {
namespace {

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

void ClearRanges(const CompiledSpec& c, Scratch* scratch) {
  scratch->ranges.assign(c.resolved.fields.size(), Range());
}

void AddCrosses(const std::vector<CrossPlan>& crosses,
                const PartBatches& batches, const Scratch& scratch,
                FeatureBatch* out) {
  for (const CrossPlan& cross : crosses) {
    ForEachCrossEntry(cross, batches, scratch.ranges,
                      [&](uint64_t id, float value, uint32_t, uint32_t,
                          uint32_t) { out->Add(cross.index, id, value); });
  }
}

void AddContextRow(const CompiledSpec& c, const v1::Context& context,
                   absl::string_view placement, Scratch* scratch,
                   FeatureBatch* out) {
  RowSink sink{out};
  c.AddContextFields(context, placement, scratch, &sink);
  AddCrosses(c.context_crosses, {out, nullptr, nullptr}, *scratch, out);
  out->EndRow();
}

void AddAdRow(const CompiledSpec& c, const v1::AdSnapshot& ad, Scratch* scratch,
              FeatureBatch* out) {
  RowSink sink{out};
  c.AddAdFields(ad, scratch, &sink);
  AddCrosses(c.ad_crosses, {nullptr, out, nullptr}, *scratch, out);
  out->EndRow();
}

// REQUIRES: scratch->ranges has those of the context's and the ad's rows.
void AddCrossRow(const CompiledSpec& c, const FeatureBatch& contexts,
                 const FeatureBatch& ads, uint32_t position, Scratch* scratch,
                 FeatureBatch* out) {
  RowSink sink{out};
  c.AddPositionFields(position, scratch, &sink);
  AddCrosses(c.mixed_crosses, {&contexts, &ads, out}, *scratch, out);
  out->EndRow();
}

// Entries of a row are ordered by field, and fields come before crosses.
void FindRanges(const FeatureBatch& batch, size_t row, Scratch* scratch) {
  std::vector<Range>& ranges = scratch->ranges;
  const uint32_t end = batch.offsets[row + 1];
  size_t last = ranges.size();
  for (uint32_t e = batch.offsets[row]; e < end; ++e) {
    const size_t field = batch.fields[e];
    if (field >= ranges.size()) break;
    if (field != last) ranges[field].begin = e;
    ranges[field].end = e + 1;
    last = field;
  }
}

// Entries first, so that the chain from entry to entry is one rotation, one xor
// and one multiplication.
uint64_t AddToFingerprint(const FeatureBatch& batch, size_t row, uint64_t h) {
  const uint32_t end = batch.offsets[row + 1];
  for (uint32_t e = batch.offsets[row]; e < end; ++e) {
    uint32_t value_bits;
    static_assert(sizeof(value_bits) == sizeof(batch.values[e]));
    std::memcpy(&value_bits, &batch.values[e], sizeof(value_bits));
    const uint64_t rest =
        static_cast<uint64_t>(batch.fields[e]) << 32 | value_bits;
    const uint64_t entry = MixBits(batch.ids[e] + rest * 0xd6e8feb86659fd93ull);
    h = (h << 23 | h >> 41);
    h = (h ^ entry) * 0x9e3779b97f4a7c15ull;
  }
  return h;
}

}  // namespace

FeatureExtractor::FeatureExtractor(std::unique_ptr<const CompiledSpec> compiled)
    : compiled_(std::move(compiled)) {}

FeatureExtractor::~FeatureExtractor() = default;

absl::StatusOr<std::unique_ptr<const FeatureExtractor>>
FeatureExtractor::Create(const v1::FeatureSpec& spec,
                         bool allow_unlearnt_bins) {
  ASSIGN_OR_RETURN(std::unique_ptr<const CompiledSpec> compiled,
                   CompiledSpec::Compile(spec, allow_unlearnt_bins));
  return std::unique_ptr<const FeatureExtractor>(
      new FeatureExtractor(std::move(compiled)));
}

const v1::FeatureSpec& FeatureExtractor::spec() const {
  return compiled_->spec;
}

const std::vector<std::string>& FeatureExtractor::field_names() const {
  return compiled_->names;
}

void FeatureExtractor::ExtractContext(const v1::Context& context,
                                      absl::string_view placement,
                                      FeatureBatch* out) const {
  Scratch& scratch = ThreadScratch();
  ClearRanges(*compiled_, &scratch);
  AddContextRow(*compiled_, context, placement, &scratch, out);
}

void FeatureExtractor::ExtractAd(const v1::AdSnapshot& ad,
                                 FeatureBatch* out) const {
  Scratch& scratch = ThreadScratch();
  ClearRanges(*compiled_, &scratch);
  AddAdRow(*compiled_, ad, &scratch, out);
}

void FeatureExtractor::ExtractCrosses(const FeatureBatch& contexts,
                                      size_t context_row,
                                      const FeatureBatch& ads, size_t ad_row,
                                      uint32_t position,
                                      FeatureBatch* out) const {
  Scratch& scratch = ThreadScratch();
  ClearRanges(*compiled_, &scratch);
  FindRanges(contexts, context_row, &scratch);
  FindRanges(ads, ad_row, &scratch);
  AddCrossRow(*compiled_, contexts, ads, position, &scratch, out);
}

void FeatureExtractor::Extract(const v1::Context& context,
                               absl::string_view placement,
                               absl::Span<const v1::AdSnapshot* const> ads,
                               absl::Span<const uint32_t> positions,
                               RequestFeatures* out) const {
  Scratch& scratch = ThreadScratch();
  ClearRanges(*compiled_, &scratch);
  out->Clear();
  AddContextRow(*compiled_, context, placement, &scratch, &out->context);
  for (size_t i = 0; i < ads.size(); ++i) {
    AddAdRow(*compiled_, *ads[i], &scratch, &out->ads);
    AddCrossRow(*compiled_, out->context, out->ads,
                positions.empty() ? kServingPosition : positions[i], &scratch,
                &out->crosses);
  }
}

uint64_t FeatureExtractor::Fingerprint(const RequestFeatures& features,
                                       size_t i) {
  uint64_t h = 0x27d4eb2f165667c5ull;  // any constant, frozen
  h = AddToFingerprint(features.context, 0, h);
  h = AddToFingerprint(features.ads, i, h);
  h = AddToFingerprint(features.crosses, i, h);
  h = MixBits(h);
  return h == 0 ? 1 : h;
}

}  // namespace adrank
