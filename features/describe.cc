// FeatureExtractor::Describe: the rows again, with words.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "features/compiled_spec.h"
#include "features/feature_extractor.h"

namespace adrank {
namespace {

// One part of the row with the texts of its entries.
struct DescribedPart {
  FeatureBatch batch;
  std::vector<std::string> texts;
  DescriptionSink sink() { return {&batch, &texts}; }
};

std::string Label(const ResolvedField& field) {
  switch (field.kind) {
    case v1::Field::LOG_SQUARE_BIN:
    case v1::Field::QUANTILE_BIN:
      return absl::StrCat(field.name, ":bin");
    case v1::Field::LOG1P:
      return absl::StrCat(field.name, ":log1p");
    default:
      return field.name;
  }
}

std::string CrossLabel(const CompiledSpec& c, const CrossPlan& cross) {
  std::vector<std::string> labels;
  for (int i = 0; i < cross.size; ++i) {
    labels.push_back(Label(c.resolved.fields[cross.fields[i]]));
  }
  return absl::StrJoin(labels, " x ");
}

void SayFields(const CompiledSpec& c, const DescribedPart& part,
               std::vector<std::string>* out) {
  for (size_t e = 0; e < part.texts.size(); ++e) {
    const ResolvedField& field = c.resolved.fields[part.batch.fields[e]];
    out->push_back(absl::StrCat(Label(field), "=", part.texts[e]));
  }
}

// `parts` by Part.
void SayCrosses(const CompiledSpec& c, const std::vector<CrossPlan>& crosses,
                const DescribedPart (&parts)[3], const Scratch& scratch,
                std::vector<std::string>* out) {
  for (const CrossPlan& cross : crosses) {
    const std::string label = CrossLabel(c, cross);
    ForEachCrossEntry(
        cross, {&parts[0].batch, &parts[1].batch, &parts[2].batch},
        scratch.ranges,
        [&](uint64_t, float, uint32_t i, uint32_t j, uint32_t k) {
          const uint32_t entries[3] = {i, j, k};
          std::vector<std::string> texts;
          for (int n = 0; n < cross.size; ++n) {
            const size_t part = static_cast<size_t>(cross.parts[n]);
            texts.push_back(parts[part].texts[entries[n]]);
          }
          out->push_back(absl::StrCat(label, "=", absl::StrJoin(texts, " x ")));
        });
  }
}

}  // namespace

std::vector<std::string> FeatureExtractor::Describe(const v1::Context& context,
                                                    absl::string_view placement,
                                                    const v1::AdSnapshot& ad,
                                                    uint32_t position) const {
  const CompiledSpec& c = *compiled_;
  Scratch scratch;
  scratch.ranges.resize(c.resolved.fields.size());
  DescribedPart parts[3];  // by Part
  DescriptionSink context_sink = parts[0].sink();
  c.AddContextFields(context, placement, &scratch, &context_sink);
  DescriptionSink ad_sink = parts[1].sink();
  c.AddAdFields(ad, &scratch, &ad_sink);
  DescriptionSink cross_sink = parts[2].sink();
  c.AddPositionFields(position, &scratch, &cross_sink);

  std::vector<std::string> out;
  SayFields(c, parts[0], &out);
  SayCrosses(c, c.context_crosses, parts, scratch, &out);
  SayFields(c, parts[1], &out);
  SayCrosses(c, c.ad_crosses, parts, scratch, &out);
  SayFields(c, parts[2], &out);
  SayCrosses(c, c.mixed_crosses, parts, scratch, &out);
  return out;
}

}  // namespace adrank
