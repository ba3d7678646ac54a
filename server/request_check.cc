#include "server/request_check.h"

#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "features/text.h"
#include "server/rank/auction.h"

namespace adrank {
namespace {

// 9999-12-31T23:59:59.999Z.
constexpr int64_t kMaxTimeMs = 253402300799999;

// Paths are put together on the way out of an error only.
absl::Status Wrong(const absl::AlphaNum& path, const absl::AlphaNum& reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", reason));
}

absl::Status Under(const absl::AlphaNum& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(path, ".", status.message()));
}

std::string At(absl::string_view list, int i) {
  return absl::StrCat(list, "[", i, "]");
}

absl::Status CheckSize(absl::string_view field, uint64_t size, uint64_t limit) {
  if (size <= limit) return absl::OkStatus();
  return Wrong(field, absl::StrCat(size, " exceeds the limit of ", limit));
}

absl::Status CheckText(absl::string_view field, const std::string& text,
                       size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Wrong(field, absl::StrCat(text.size(), " bytes exceed the limit of ",
                                     max_bytes));
  }
  if (!IsValidUtf8(text)) return Wrong(field, "not valid UTF-8");
  return absl::OkStatus();
}

absl::Status CheckId(absl::string_view field, const std::string& id) {
  if (id.empty()) return Wrong(field, "empty");
  return CheckText(field, id, kMaxIdBytes);
}

absl::Status CheckMicros(absl::string_view field, int64_t micros) {
  if (micros < 0) return Wrong(field, absl::StrCat(micros, " is negative"));
  if (micros > kMaxBidMicros) {
    return Wrong(field,
                 absl::StrCat(micros, " exceeds the limit of ", kMaxBidMicros));
  }
  return absl::OkStatus();
}

absl::Status CheckAttribute(const v1::Attribute& attribute) {
  RETURN_IF_ERROR(CheckId("name", attribute.name()));
  RETURN_IF_ERROR(CheckSize("text", attribute.text_size(), kMaxValues));
  RETURN_IF_ERROR(CheckSize("number", attribute.number_size(), kMaxValues));
  for (int i = 0; i < attribute.text_size(); ++i) {
    const std::string& text = attribute.text(i);
    if (text.size() <= kMaxTextBytes && IsValidUtf8(text)) continue;
    return CheckText(At("text", i), text, kMaxTextBytes);
  }
  for (int i = 0; i < attribute.number_size(); ++i) {
    if (std::isfinite(attribute.number(i))) continue;
    return Wrong(At("number", i), "not finite");
  }
  return absl::OkStatus();
}

using Attributes = google::protobuf::RepeatedPtrField<v1::Attribute>;

absl::Status RepeatedName(int i, int first, absl::string_view name) {
  return Wrong(absl::StrCat(At("attributes", i), ".name"),
               absl::StrCat("\"", name, "\" repeats attributes[", first, "]"));
}

absl::Status CheckNamesDiffer(const Attributes& attributes) {
  // Names mostly differ in their first word: below this many, comparing all
  // pairs costs less than filling a table.
  constexpr int kFew = 48;
  if (attributes.size() <= kFew) {
    for (int i = 1; i < attributes.size(); ++i) {
      const std::string& name = attributes[i].name();
      for (int j = 0; j < i; ++j) {
        if (name == attributes[j].name()) return RepeatedName(i, j, name);
      }
    }
    return absl::OkStatus();
  }
  absl::flat_hash_map<absl::string_view, int> first;
  for (int i = 0; i < attributes.size(); ++i) {
    const auto [it, added] = first.emplace(attributes[i].name(), i);
    if (!added) return RepeatedName(i, it->second, it->first);
  }
  return absl::OkStatus();
}

absl::Status CheckAttributes(const Attributes& attributes,
                             const RequestLimits& limits) {
  RETURN_IF_ERROR(
      CheckSize("attributes", attributes.size(), limits.max_attributes));
  for (int i = 0; i < attributes.size(); ++i) {
    const absl::Status status = CheckAttribute(attributes[i]);
    if (!status.ok()) return Under(At("attributes", i), status);
  }
  return CheckNamesDiffer(attributes);
}

absl::Status CheckContext(const v1::Context& context,
                          const RequestLimits& limits) {
  if (context.time_ms() < 0 || context.time_ms() > kMaxTimeMs) {
    return Wrong("time_ms", absl::StrCat(context.time_ms(), " not in [0, ",
                                         kMaxTimeMs, "]"));
  }
  RETURN_IF_ERROR(CheckText("user_id", context.user_id(), kMaxIdBytes));
  RETURN_IF_ERROR(CheckText("query", context.query(), limits.max_query_bytes));
  return CheckAttributes(context.attributes(), limits);
}

absl::Status CheckSnapshot(const v1::AdSnapshot& ad,
                           const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckId("ad_id", ad.ad_id()));
  RETURN_IF_ERROR(CheckText("ad_group_id", ad.ad_group_id(), kMaxIdBytes));
  RETURN_IF_ERROR(CheckText("campaign_id", ad.campaign_id(), kMaxIdBytes));
  RETURN_IF_ERROR(CheckText("advertiser_id", ad.advertiser_id(), kMaxIdBytes));
  return CheckAttributes(ad.attributes(), limits);
}

absl::Status CheckCandidate(const v1::Candidate& c, bool needs_bid,
                            const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckMicros("bid_micros", c.bid_micros()));
  if (!c.has_ad()) return CheckId("ad_id", c.ad_id());
  RETURN_IF_ERROR(Under("ad", CheckSnapshot(c.ad(), limits)));
  if (!c.ad_id().empty() && c.ad_id() != c.ad().ad_id()) {
    return Wrong("ad_id", absl::StrCat("differs from ad.ad_id \"",
                                       c.ad().ad_id(), "\""));
  }
  if (needs_bid && c.bid_micros() == 0) {
    return Wrong("bid_micros", "required with ad");
  }
  return absl::OkStatus();
}

using Candidates = google::protobuf::RepeatedPtrField<v1::Candidate>;

absl::Status CheckCandidates(const Candidates& candidates, bool needs_bid,
                             const RequestLimits& limits) {
  RETURN_IF_ERROR(
      CheckSize("candidates", candidates.size(), limits.max_candidates));
  for (int i = 0; i < candidates.size(); ++i) {
    const absl::Status status =
        CheckCandidate(candidates[i], needs_bid, limits);
    if (!status.ok()) return Under(At("candidates", i), status);
  }
  return absl::OkStatus();
}

absl::Status CheckCandidatesDiffer(const Candidates& candidates) {
  absl::flat_hash_map<absl::string_view, int> first;
  for (int i = 0; i < candidates.size(); ++i) {
    const v1::Candidate& c = candidates[i];
    const std::string& id = c.has_ad() ? c.ad().ad_id() : c.ad_id();
    const auto [it, added] = first.emplace(id, i);
    if (added) continue;
    return Wrong(
        absl::StrCat(At("candidates", i), ".ad_id"),
        absl::StrCat("\"", id, "\" repeats candidates[", it->second, "]"));
  }
  return absl::OkStatus();
}

using Placements = google::protobuf::RepeatedPtrField<v1::Placement>;

absl::Status CheckPlacements(const Placements& placements,
                             const RequestLimits& limits) {
  // Each has a slot.
  RETURN_IF_ERROR(CheckSize("placements", placements.size(), limits.max_slots));
  uint64_t slots = 0;
  for (int i = 0; i < placements.size(); ++i) {
    const v1::Placement& p = placements[i];
    const std::string path = At("placements", i);
    RETURN_IF_ERROR(Under(path, CheckId("id", p.id())));
    RETURN_IF_ERROR(
        Under(path, CheckMicros("reserve_micros", p.reserve_micros())));
    for (int j = 0; j < i; ++j) {
      if (placements[j].id() != p.id()) continue;
      return Wrong(
          absl::StrCat(path, ".id"),
          absl::StrCat("\"", p.id(), "\" repeats placements[", j, "]"));
    }
    slots += p.count() == 0 ? 1 : p.count();
    if (slots > limits.max_slots) {
      return Wrong(absl::StrCat(path, ".count"),
                   absl::StrCat(slots, " slots so far exceed the limit of ",
                                limits.max_slots));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckIds(
    absl::string_view field,
    const google::protobuf::RepeatedPtrField<std::string>& ids, int limit) {
  RETURN_IF_ERROR(CheckSize(field, ids.size(), limit));
  for (int i = 0; i < ids.size(); ++i) {
    if (!CheckId("", ids[i]).ok()) return CheckId(At(field, i), ids[i]);
  }
  return absl::OkStatus();
}

absl::Status CheckEmbedding(const v1::RankRequest& request) {
  const auto& vector = request.query_embedding();
  if (vector.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(CheckSize("query_embedding", vector.size(), kMaxEmbedding));
  bool zero = true;
  for (int i = 0; i < vector.size(); ++i) {
    if (!std::isfinite(vector[i])) {
      return Wrong(At("query_embedding", i), "not finite");
    }
    zero = zero && vector[i] == 0;
  }
  if (!zero) return absl::OkStatus();
  return Wrong("query_embedding",
               "all components are 0: no direction; leave it empty");
}

absl::StatusOr<uint32_t> Limit(absl::string_view field, uint32_t value,
                               uint32_t fallback, uint32_t max) {
  if (value == 0) return fallback;
  if (value <= max) return value;
  return Wrong(absl::StrCat("limits.", field),
               absl::StrCat(value, " not in [0, ", max, "]"));
}

}  // namespace

absl::StatusOr<RequestLimits> RequestLimits::Create(const v1::LimitsConfig& c) {
  RequestLimits l;
  ASSIGN_OR_RETURN(l.max_candidates, Limit("max_candidates", c.max_candidates(),
                                           l.max_candidates, 1000000));
  ASSIGN_OR_RETURN(l.max_slots,
                   Limit("max_slots", c.max_slots(), l.max_slots, 255));
  ASSIGN_OR_RETURN(l.max_attributes, Limit("max_attributes", c.max_attributes(),
                                           l.max_attributes, 65536));
  ASSIGN_OR_RETURN(l.max_query_bytes,
                   Limit("max_query_bytes", c.max_query_bytes(),
                         l.max_query_bytes, 1 << 20));
  ASSIGN_OR_RETURN(l.deadline_ms, Limit("deadline_ms", c.deadline_ms(),
                                        l.deadline_ms, 3600 * 1000));
  ASSIGN_OR_RETURN(l.max_events,
                   Limit("max_events", c.max_events(), l.max_events, 1000000));
  ASSIGN_OR_RETURN(l.max_message_bytes,
                   Limit("max_message_bytes", c.max_message_bytes(),
                         l.max_message_bytes, 1 << 30));
  return l;
}

absl::Status CheckRequest(const v1::RankRequest& request,
                          const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckText("request_id", request.request_id(), kMaxIdBytes));
  RETURN_IF_ERROR(Under("context", CheckContext(request.context(), limits)));
  RETURN_IF_ERROR(CheckPlacements(request.placements(), limits));
  RETURN_IF_ERROR(CheckCandidates(request.candidates(), true, limits));
  RETURN_IF_ERROR(CheckCandidatesDiffer(request.candidates()));
  RETURN_IF_ERROR(CheckIds("blocked_advertiser_ids",
                           request.blocked_advertiser_ids(), kMaxBlocked));
  RETURN_IF_ERROR(CheckEmbedding(request));
  RETURN_IF_ERROR(
      CheckIds("blocked_ad_ids", request.blocked_ad_ids(), kMaxBlocked));
  RETURN_IF_ERROR(CheckIds("blocked_categories", request.blocked_categories(),
                           kMaxBlocked));
  return CheckSize("max_candidates", request.max_candidates(),
                   limits.max_candidates);
}

absl::Status CheckQueryEmbedding(const v1::RankRequest& request, size_t dims) {
  const auto size = static_cast<size_t>(request.query_embedding_size());
  if (size == 0 || dims == 0 || size == dims) return absl::OkStatus();
  return Wrong("query_embedding",
               absl::StrCat(size, " components, the ads' vectors have ", dims));
}

absl::Status CheckRequest(const v1::PredictRequest& request,
                          const RequestLimits& limits) {
  RETURN_IF_ERROR(Under("context", CheckContext(request.context(), limits)));
  RETURN_IF_ERROR(
      CheckText("placement_id", request.placement_id(), kMaxIdBytes));
  return CheckCandidates(request.candidates(), false, limits);
}

absl::Status CheckRequest(const v1::ExplainRequest& request,
                          const RequestLimits& limits) {
  RETURN_IF_ERROR(Under("request", CheckRequest(request.request(), limits)));
  return CheckIds("ad_ids", request.ad_ids(), kMaxExplained);
}

absl::Status CheckQueryEmbedding(const v1::ExplainRequest& request,
                                 size_t dims) {
  return Under("request", CheckQueryEmbedding(request.request(), dims));
}

}  // namespace adrank
