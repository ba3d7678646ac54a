#include "trainer/name_features.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace adrank {
namespace {

// A field that no spec has: it has no out-of-vocabulary row.
constexpr uint16_t kNoField = 0xffff;

}  // namespace

std::vector<FeatureName> NameFeatures(const ModelBundle& model,
                                      absl::Span<const SampledRow> sample,
                                      std::vector<FeatureName> before) {
  const FeatureExtractor& extractor = model.extractor();
  const auto known = [&](uint64_t id) {
    return model.vocabulary().Row(kNoField, id) != kNoRow;
  };
  absl::flat_hash_map<uint64_t, FeatureName> names;
  RequestFeatures features;
  for (const SampledRow& row : sample) {
    const v1::AdSnapshot* const ads[] = {&row.ad};
    extractor.Extract(row.context, row.placement, ads, {row.position},
                      &features);
    std::vector<std::string> texts;  // made when an id is met first
    size_t entry = 0;
    for (const FeatureBatch* part :
         {&features.context, &features.ads, &features.crosses}) {
      for (const uint64_t id : part->ids) {
        const size_t e = entry++;
        if (!known(id)) continue;
        FeatureName& name = names[id];
        ++name.rows;
        if (name.id != 0) continue;
        if (texts.empty()) {
          texts = extractor.Describe(row.context, row.placement, row.ad,
                                     row.position);
        }
        name.id = id;
        name.text = texts[e];
      }
    }
  }
  for (FeatureName& old : before) {
    if (known(old.id)) names.try_emplace(old.id, std::move(old));
  }
  std::vector<FeatureName> out;
  for (auto& [id, name] : names) out.push_back(std::move(name));
  std::sort(out.begin(), out.end(),
            [](const FeatureName& a, const FeatureName& b) {
              return a.rows != b.rows ? a.rows > b.rows : a.id < b.id;
            });
  if (out.size() > kMaxFeatureNames) out.resize(kMaxFeatureNames);
  return out;
}

}  // namespace adrank
