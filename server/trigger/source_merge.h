// From the candidates of each source to those of a request.
#ifndef ADRANK_SERVER_TRIGGER_SOURCE_MERGE_H_
#define ADRANK_SERVER_TRIGGER_SOURCE_MERGE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/common.pb.h"
#include "proto/server_config.pb.h"

namespace adrank {

// An ad that matched and was not vetoed.
struct AdMatch {
  static constexpr uint32_t kNoKeyword = 0xffffffffu;
  uint32_t ad = 0;  // AdIndex::ad()
  v1::MatchType match_type = v1::MATCH_TYPE_TARGETING;
  uint32_t keyword = kNoKeyword;  // AdIndex::keyword()
  // Cosine with the request's vector, where the ad is among the nearest; for
  // MODEL the product of the model's vectors.
  float similarity = 0;
  int64_t bid_micros = 0;  // the keyword's, else the ad group's
  double value = 0;        // AdIndex::ValueOf the ad and the bid
};

// Candidates that each source may have before the others. An ad that several
// sources found counts as one's: keyword, embedding, model, targeting.
struct SourceQuota {
  uint32_t keyword = 0;
  uint32_t embedding = 0;
  uint32_t targeting = 0;
  uint32_t model = 0;

  // InvalidArgument, naming the field, when they are more than max_candidates.
  static absl::StatusOr<SourceQuota> Create(const v1::TriggerConfig& config,
                                            uint32_t max_candidates);
  uint64_t sum() const {
    return uint64_t{keyword} + embedding + targeting + model;
  }
};

// What each source found, best first; no ad twice in one list.
struct SourceLists {
  absl::Span<const AdMatch> keyword, embedding, targeting, model;
};

// Storage that is used again; one a thread.
struct MergeScratch {
  std::vector<AdMatch> ads;  // found, each once
  std::vector<uint8_t> taken;
  std::vector<uint32_t> slots;  // open addressing into ads, a power of 2
  std::vector<AdMatch> rest;
};

// Writes at most `limit` matches to *out, each ad once, in the order of
// `better`, and returns how many ads there are in all lists.
//
// First each source gives the best of its list up to its quota (in proportion,
// when the quotas are more than `limit`), passing over ads that are taken. What
// room is left goes to the best of all that remain, by `better`. An ad that
// several sources found is reported by the strongest evidence: keyword, vector,
// model, targeting; with its similarity if it was found by vector.
size_t MergeSources(
    const SourceLists& lists, const SourceQuota& quota, size_t limit,
    absl::FunctionRef<bool(const AdMatch&, const AdMatch&)> better,
    MergeScratch* scratch, std::vector<AdMatch>* out);

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_SOURCE_MERGE_H_
