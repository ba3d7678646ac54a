// The one matrix type: sparse rows of hashed features.
#ifndef ADRANK_FEATURES_FEATURE_BATCH_H_
#define ADRANK_FEATURES_FEATURE_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace adrank {

// CSR. Entry e of row r: offsets[r] <= e < offsets[r + 1]. Within a row,
// entries are in the order of the spec's fields (then crosses), and within a
// field in the order of the message's values; sums over a row run in this
// order, so that a logit has one value.
struct FeatureBatch {
  // Feature ids: Hash64 of field and value; never 0.
  std::vector<uint64_t> ids;
  // 1 for categorical features of SUM pooling, 1/n for MEAN, else the number.
  std::vector<float> values;
  // Index into FeatureExtractor::field_names().
  std::vector<uint16_t> fields;
  // [rows + 1]
  std::vector<uint32_t> offsets = {0};

  size_t rows() const { return offsets.size() - 1; }

  void Add(uint16_t field, uint64_t id, float value) {
    ids.push_back(id);
    values.push_back(value);
    fields.push_back(field);
  }
  // Ends the row that the Adds since the last call form (possibly empty).
  void EndRow() { offsets.push_back(static_cast<uint32_t>(ids.size())); }

  // Keeps the capacity.
  void Clear() {
    ids.clear();
    values.clear();
    fields.clear();
    offsets.assign(1, 0);
  }
};

// Features of one request and its candidates, in the parts that are shared
// differently: the full row of candidate i is context row 0, then ads row i,
// then crosses row i.
struct RequestFeatures {
  // One row: fields (and crosses of fields) of context, query, user, time,
  // placement.
  FeatureBatch context;
  // One row a candidate: fields and crosses of the ad alone. May come
  // precomputed with the catalogue.
  FeatureBatch ads;
  // One row a candidate: crosses of both sides, and `position` fields.
  FeatureBatch crosses;

  size_t candidates() const { return ads.rows(); }
  void Clear() {
    context.Clear();
    ads.Clear();
    crosses.Clear();
  }
};

}  // namespace adrank

#endif  // ADRANK_FEATURES_FEATURE_BATCH_H_
