// A slow and obvious FeatureExtractor, written from the comments of
// proto/feature_spec.proto: the oracle of the fast one.
#ifndef ADRANK_TESTS_FEATURES_TWIN_EXTRACTOR_H_
#define ADRANK_TESTS_FEATURES_TWIN_EXTRACTOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/common.pb.h"
#include "proto/feature_spec.pb.h"

namespace adrank::testing {

struct TwinEntry {
  int field = 0;
  uint64_t id = 0;
  float value = 0;
  std::string text;  // as Describe says it, of a field without its label
};

struct TwinRow {
  std::vector<TwinEntry> context;
  std::vector<TwinEntry> ad;
  std::vector<TwinEntry> cross;
};

// REQUIRES: the spec is valid; times are UTC; crosses name fields only.
TwinRow TwinExtract(const v1::FeatureSpec& spec, const v1::Context& context,
                    const std::string& placement, const v1::AdSnapshot& ad,
                    uint32_t position);

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_FEATURES_TWIN_EXTRACTOR_H_
