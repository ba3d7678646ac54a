#include "features/boundary_sampler.h"

#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/status_macros.h"
#include "features/field_values.h"
#include "features/spec_check.h"
#include "features/transforms.h"

namespace adrank {
namespace {

// Algorithm R (Vitter 1985): after n numbers each is kept with chance size / n.
struct Reservoir {
  int field = 0;  // of the spec
  Source source;
  int bins = 0;
  uint32_t max_values = 0;
  uint64_t seen = 0;
  std::vector<double> kept;

  void Add(double v, size_t max_sample, Rng* rng) {
    ++seen;
    if (kept.size() < max_sample) {
      kept.push_back(v);
    } else if (const uint64_t place = rng->Below(seen); place < max_sample) {
      kept[place] = v;
    }
  }
};

const v1::Attribute* FindAttribute(
    const google::protobuf::RepeatedPtrField<v1::Attribute>& attributes,
    const std::string& name) {
  for (const v1::Attribute& attribute : attributes) {
    if (attribute.name() == name) return &attribute;
  }
  return nullptr;
}

}  // namespace

struct BoundarySampler::State {
  v1::FeatureSpec spec;
  size_t max_sample;
  Rng rng;
  std::vector<Reservoir> reservoirs;
};

BoundarySampler::BoundarySampler(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

BoundarySampler::~BoundarySampler() = default;

absl::StatusOr<std::unique_ptr<BoundarySampler>> BoundarySampler::Create(
    const v1::FeatureSpec& spec, uint64_t seed, size_t max_sample) {
  ASSIGN_OR_RETURN(const ResolvedSpec resolved,
                   ResolveSpec(spec, /*allow_unlearnt_bins=*/true));
  auto state =
      std::unique_ptr<State>(new State{spec, max_sample, Rng(seed), {}});
  for (size_t i = 0; i < resolved.fields.size(); ++i) {
    const ResolvedField& field = resolved.fields[i];
    if (field.kind != v1::Field::QUANTILE_BIN || !field.boundaries.empty()) {
      continue;
    }
    Reservoir reservoir;
    reservoir.field = static_cast<int>(i);
    reservoir.source = field.source;
    reservoir.bins = field.num_bins;
    reservoir.max_values = field.max_values;
    state->reservoirs.push_back(std::move(reservoir));
  }
  return std::unique_ptr<BoundarySampler>(
      new BoundarySampler(std::move(state)));
}

bool BoundarySampler::needed() const { return !state_->reservoirs.empty(); }

void BoundarySampler::Add(const v1::Context& context, const v1::AdSnapshot& ad,
                          uint32_t position) {
  for (Reservoir& reservoir : state_->reservoirs) {
    if (reservoir.source.kind == SourceKind::kPosition) {
      if (position > 0) {
        reservoir.Add(position, state_->max_sample, &state_->rng);
      }
      continue;
    }
    const v1::Attribute* attribute =
        FindAttribute(reservoir.source.kind == SourceKind::kAdAttribute
                          ? ad.attributes()
                          : context.attributes(),
                      reservoir.source.attribute);
    if (attribute == nullptr) continue;
    uint32_t count = 0;
    ForEachNumber(*attribute, [&](double v) {
      reservoir.Add(v, state_->max_sample, &state_->rng);
      return ++count < reservoir.max_values;
    });
  }
}

v1::FeatureSpec BoundarySampler::Learn() const {
  v1::FeatureSpec learnt = state_->spec;
  for (const Reservoir& reservoir : state_->reservoirs) {
    v1::Field* field = learnt.mutable_fields(reservoir.field);
    for (double b : LearnBoundaries(reservoir.kept, reservoir.bins)) {
      field->add_boundaries(b);
    }
  }
  return learnt;
}

}  // namespace adrank
