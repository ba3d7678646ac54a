// What a request must satisfy before any work is done for it.
#ifndef ADRANK_SERVER_REQUEST_CHECK_H_
#define ADRANK_SERVER_REQUEST_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/ranking_service.pb.h"
#include "proto/server_config.pb.h"

namespace adrank {

// LimitsConfig with its defaults filled in.
struct RequestLimits {
  uint32_t max_candidates = 2000;
  uint32_t max_slots = 64;
  uint32_t max_attributes = 256;
  uint32_t max_query_bytes = 2048;
  uint32_t deadline_ms = 50;
  uint32_t max_events = 1000;
  uint32_t max_message_bytes = 4 << 20;

  // InvalidArgument naming the field when out of range.
  static absl::StatusOr<RequestLimits> Create(const v1::LimitsConfig& config);
};

// Longest id (of a user, request, placement, ad...) and attribute name, bytes.
inline constexpr size_t kMaxIdBytes = 128;
// Longest text of an attribute, bytes; and values of one attribute.
inline constexpr size_t kMaxTextBytes = 1024;
inline constexpr int kMaxValues = 1024;
// Advertisers, ads and categories that one request may block, each.
inline constexpr int kMaxBlocked = 1000;
// Components of a query_embedding.
inline constexpr int kMaxEmbedding = 2048;
// Ads that one ExplainRequest may name.
inline constexpr int kMaxExplained = 100;

// OK, or InvalidArgument "<field path>: <what is wrong with which value>" of
// the first field that is wrong, for example
//   context.attributes[3].number[0]: not finite
//   candidates: 2001 exceeds the limit of 2000
absl::Status CheckRequest(const v1::RankRequest& request,
                          const RequestLimits& limits);
absl::Status CheckRequest(const v1::PredictRequest& request,
                          const RequestLimits& limits);
// A query_embedding has as many components as the ads' vectors, `dims`; any
// number when no ad has one (0).
absl::Status CheckQueryEmbedding(const v1::RankRequest& request, size_t dims);
// Paths of the inner request begin with "request.".
absl::Status CheckRequest(const v1::ExplainRequest& request,
                          const RequestLimits& limits);
absl::Status CheckQueryEmbedding(const v1::ExplainRequest& request,
                                 size_t dims);

}  // namespace adrank

#endif  // ADRANK_SERVER_REQUEST_CHECK_H_
