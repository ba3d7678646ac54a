// What the trigger is asked, and what it finds.
#ifndef ADRANK_SERVER_TRIGGER_RETRIEVAL_H_
#define ADRANK_SERVER_TRIGGER_RETRIEVAL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/repeated_field.h"
#include "proto/common.pb.h"
#include "server/admission.h"
#include "server/trigger/source_merge.h"

namespace adrank {

class ModelVectors;

// Why an ad that matched is not a candidate.
enum class Veto : uint8_t {
  kStatus,    // the ad or a parent is paused
  kSchedule,  // outside [start_time, end_time) of the campaign
  kBlocked,   // the request blocks the advertiser, the ad or a category
  kNegativeKeyword,
  kBudget,        // the campaign's is spent or promised
  kFrequencyCap,  // the user has seen the ad, its group or campaign enough
};
inline constexpr size_t kVetoes = 6;
// "status", "schedule", "blocked", "negative_keyword", "budget",
// "frequency_cap": labels of metrics.
absl::string_view VetoName(Veto veto);

struct RetrieveRequest {
  // time_ms is the moment asked about (not 0).
  const v1::Context* context = nullptr;
  // Null: none.
  const google::protobuf::RepeatedPtrField<std::string>* blocked_advertisers =
      nullptr;
  // What budgets and caps say. Null: nothing.
  const AdmissionTerms* terms = nullptr;
  // Ads and Ad.categories that may not show. Null: none.
  const google::protobuf::RepeatedPtrField<std::string>* blocked_ads = nullptr;
  const google::protobuf::RepeatedPtrField<std::string>* blocked_categories =
      nullptr;
  // To compare the ads' vectors with. Empty, or AdIndex::vector_dims() finite
  // components that are not all 0.
  absl::Span<const float> vector = {};
  // Of the served bundle and this index, and what it says of the request. Null:
  // the model is not asked.
  const ModelVectors* model = nullptr;
  absl::Span<const float> model_vector = {};
};

struct Retrieval {
  // Best first: AdMatch.value descending, then ad id ascending.
  std::vector<AdMatch> matches;
  // Ads that match by targeting, keyword or vector; of them vetoed. An ad that
  // several vetoes hit is counted once, under the first in the enum's order.
  // Exact unless truncated; else the search ended early, and they count what it
  // had met by then: lower bounds, with matched - filtered > matches.size().
  uint32_t matched = 0;
  uint32_t filtered = 0;
  uint32_t filtered_by[kVetoes] = {};
  // More than `limit` ads matched without a veto; matches has the best. Exact.
  bool truncated = false;
  // Campaigns of ads filtered by kBudget, in no order, repeated.
  std::vector<uint32_t> closed_campaigns;
  // Of those ads the ones that stand before the last match when it is truncated
  // (in their source's list, when there are several sources), in no order.
  // Exact: how the index is put together does not show.
  std::vector<AdMatch> closed;
  // Why matches is empty; UNSPECIFIED when it is not. BUDGET or FREQUENCY_CAP
  // when an ad that passed all else was kept out by that.
  v1::NoAdReason reason = v1::NO_AD_REASON_UNSPECIFIED;

  // As if new, with its storage.
  void Clear();
};

// What `reason` is of counts that are exact.
v1::NoAdReason EmptyReason(const Retrieval& retrieval);

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_RETRIEVAL_H_
