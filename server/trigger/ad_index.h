// The trigger's immutable snapshot of the catalogue: which ads may answer a
// request.
#ifndef ADRANK_SERVER_TRIGGER_AD_INDEX_H_
#define ADRANK_SERVER_TRIGGER_AD_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/repeated_field.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"
#include "server/admission.h"
#include "server/trigger/conjunction_index.h"
#include "server/trigger/keyword_index.h"
#include "server/trigger/keyword_set.h"
#include "server/trigger/targeting.h"
#include "storage/event_log.h"

namespace adrank {

// An ad of the catalogue with what it inherits.
struct IndexedAd {
  v1::AdSnapshot snapshot;
  // What the log stores of it; computed once, shared by all decisions.
  std::shared_ptr<const EncodedAd> encoded;
  std::string landing_url;
  int64_t bid_micros = 0;                   // the ad group's
  v1::BidType bid_type = v1::BID_TYPE_CPC;  // the ad group's; never UNSPECIFIED
  float quality = 1;
  double conversion_rate = 1;  // the ad group's
  // Hash64 of each, sorted.
  std::vector<uint64_t> labels;
  std::vector<uint64_t> categories;
  uint32_t group = 0;       // AdIndex's own numbers
  uint32_t campaign = 0;    // below AdIndexStats::campaigns
  uint32_t advertiser = 0;  // below AdIndexStats::advertisers
};

// Why an ad that matched is not a candidate.
enum class Veto : uint8_t {
  kStatus,    // the ad or a parent is paused
  kSchedule,  // outside [start_time, end_time) of the campaign
  kBlocked,   // the request blocks the advertiser
  kNegativeKeyword,
  kBudget,        // the campaign's is spent or promised
  kFrequencyCap,  // the user has seen the ad, its group or campaign enough
};
inline constexpr size_t kVetoes = 6;
// "status", "schedule", "blocked", "negative_keyword", "budget",
// "frequency_cap": labels of metrics.
absl::string_view VetoName(Veto veto);

// An ad that matched and was not vetoed.
struct AdMatch {
  static constexpr uint32_t kNoKeyword = 0xffffffffu;
  uint32_t ad = 0;  // AdIndex::ad()
  v1::MatchType match_type = v1::MATCH_TYPE_TARGETING;
  uint32_t keyword = kNoKeyword;  // AdIndex::keyword()
  int64_t bid_micros = 0;         // the keyword's, else the ad group's
};

struct RetrieveRequest {
  // time_ms is the moment asked about (not 0).
  const v1::Context* context = nullptr;
  // Null: none.
  const google::protobuf::RepeatedPtrField<std::string>* blocked_advertisers =
      nullptr;
  // What budgets and caps say. Null: nothing.
  const AdmissionTerms* terms = nullptr;
};

struct Retrieval {
  // Best first: bid descending, then ad id ascending.
  std::vector<AdMatch> matches;
  // Ads whose targeting and keywords match; of them vetoed. An ad that several
  // vetoes hit is counted once, under the first in the enum's order. Exact
  // unless truncated; else the search ended early, and they count what it had
  // met by then: lower bounds, with matched - filtered > matches.size().
  uint32_t matched = 0;
  uint32_t filtered = 0;
  uint32_t filtered_by[kVetoes] = {};
  // More than `limit` ads matched without a veto; matches has the best. Exact.
  bool truncated = false;
  // Campaigns of ads filtered by kBudget, in no order, repeated.
  std::vector<uint32_t> closed_campaigns;
  // Why matches is empty; UNSPECIFIED when it is not. BUDGET or FREQUENCY_CAP
  // when an ad that passed all else was kept out by that.
  v1::NoAdReason reason = v1::NO_AD_REASON_UNSPECIFIED;
};

// What `reason` is of counts that are exact.
v1::NoAdReason EmptyReason(const Retrieval& retrieval);

// Per-request storage that is used again; one a thread.
struct RetrieveScratch {
  ResolvedContext context;
  ResolvedQuery query;
  std::vector<uint32_t> blocked;          // advertisers, sorted
  const AdmissionTerms* terms = nullptr;  // of the request
  ConjunctionIndex::Walk walk;
  KeywordIndex::Scratch keywords;
  std::vector<uint32_t> positives;  // that match the query
  std::vector<uint64_t> bitmap;     // all zero between uses
  bool negatives = false;           // some negative keyword matches the query
};

struct AdIndexStats {
  uint64_t advertisers = 0;
  uint64_t campaigns = 0;
  uint64_t ad_groups = 0;
  uint64_t ads = 0;
  // They and all their parents are enabled (schedules aside).
  uint64_t servable_ads = 0;
};

// An ad answers a request when the targeting of its campaign and of its ad
// group is true and, if the ad group has positive keywords, one of them matches
// the query; unless it is vetoed: by a negative keyword of the ad group (of its
// own match type) or of the campaign (as BROAD), by the status of the ad or a
// parent, by the campaign's schedule, by the request's blocked advertisers, by
// a spent budget, by a frequency cap. Of
// several keywords that match, the reported one is the first by (EXACT, PHRASE,
// BROAD), then the highest bid, then the catalogue's order.
//
// Ads of groups without positive keywords are documents of a ConjunctionIndex
// in the order of matches, and the search ends with the first that is beyond
// the limit; those that are paused come after all others, so they cost nothing
// until everything else has been seen. A pair of targetings with more than
// kMaxConjunctions is looked at by every request, and evaluated. Groups with
// positive keywords are found by a KeywordIndex, all that match the query;
// their targeting is evaluated then. Immutable and thread-safe.
class AdIndex {
 public:
  // InvalidArgument, naming the entity, for a repeated id, an unknown parent,
  // an expression over its limits, or an ad group whose bid is not positive.
  static absl::StatusOr<std::shared_ptr<const AdIndex>> Build(
      const v1::Catalog& catalog, int64_t version);
  // Of no ads, version 0.
  static std::shared_ptr<const AdIndex> Empty();

  int64_t version() const { return version_; }
  const AdIndexStats& stats() const { return stats_; }

  // Ads are numbered 0.. in the order of their ids.
  size_t size() const { return ads_.size(); }
  const IndexedAd& ad(uint32_t i) const { return ads_[i]; }
  // As written in the catalogue; empty for kNoKeyword.
  absl::string_view keyword(uint32_t i) const;
  std::optional<uint32_t> Find(absl::string_view ad_id) const;
  std::optional<uint32_t> FindAdvertiser(absl::string_view id) const;
  // REQUIRES: i < stats().campaigns, stats().ad_groups.
  const std::string& campaign_id(uint32_t i) const { return campaigns_[i].id; }
  const std::string& group_id(uint32_t i) const { return groups_[i].id; }
  // REQUIRES: i < stats().advertisers.
  int64_t advertiser_reserve(uint32_t i) const {
    return advertisers_[i].reserve_micros;
  }

  // Up to `limit` matches. Clears *out first.
  void Retrieve(const RetrieveRequest& request, size_t limit,
                RetrieveScratch* scratch, Retrieval* out) const;

  // The first of status, schedule, blocked, budget, cap that vetoes an ad which
  // the caller named (its targeting and keywords are not asked).
  std::optional<Veto> VetoOfNamed(uint32_t ad,
                                  const RetrieveRequest& request) const;

  // Why Retrieve would not return the ad, as a sentence that names the entity
  // and the condition; empty when it would (limit aside). Order: status,
  // schedule, blocked, budget, cap, campaign targeting, ad group targeting,
  // keywords, negatives. Slow. Examples:
  //   ad "a1" is not in the catalogue
  //   campaign "c1" is paused
  //   campaign "c1" ended 2026-01-01T00:00:00Z
  //   not matched: targeting in_set(country) of ad_group "g1"
  //   not matched: no keyword of ad_group "g1" matches the query "shoes"
  //   negative keyword "free" of campaign "c1"
  std::string WhyNot(absl::string_view ad_id,
                     const RetrieveRequest& request) const;
  // The part of WhyNot that VetoOfNamed is about; empty when there is none.
  std::string WhyNotNamed(uint32_t ad, const RetrieveRequest& request) const;

 private:
  struct CampaignEntry {
    std::string id;
    uint32_t advertiser = 0;
    bool enabled = true;  // with its advertiser
    bool own_enabled = true;
    int64_t start_ms = 0, end_ms = 0;
    uint32_t targeting = TargetingSet::kAlways;
    uint32_t negatives_begin = 0, negatives_end = 0;  // into negatives_
  };
  struct PositiveKeyword {
    uint32_t tokens;  // KeywordSet's number
    uint32_t text;    // keyword()
    v1::MatchType type;
    int64_t bid_micros;
    uint32_t group;
  };
  struct NegativeKeyword {
    uint32_t tokens;
    uint32_t text;
    v1::MatchType type;
  };
  struct GroupEntry {
    std::string id;
    uint32_t campaign = 0;
    bool enabled = true;
    int64_t bid_micros = 0;
    v1::BidType bid_type = v1::BID_TYPE_CPC;
    double conversion_rate = 1;
    uint32_t targeting = TargetingSet::kAlways;
    // Sorted so that the first match is the one to report.
    uint32_t positives_begin = 0, positives_end = 0;
    uint32_t negatives_begin = 0, negatives_end = 0;
    // Ads that are not paused themselves, ascending, into group_ads_.
    uint32_t ads_begin = 0, ads_end = 0;
    uint32_t paused_ads = 0;
  };
  struct AdvertiserEntry {
    std::string id;
    bool enabled = true;
    int64_t reserve_micros = 0;
  };
  // An ad of a group without positive keywords, as far as most requests need
  // to look at it. Better ones first; those that are paused last.
  struct Document {
    int64_t bid_micros;
    uint32_t ad;
    uint32_t group;
    uint32_t campaign;
    bool enabled;  // with its parents
    bool plain;    // no schedule, no negative keywords
    bool scanned;  // its conjunctions are too many: evaluate the targeting
  };
  class Builder;

  AdIndex() = default;
  bool MatchTargeting(const GroupEntry& group, ResolvedContext* context) const;
  void RetrieveByKeyword(int64_t time_ms, RetrieveScratch* scratch,
                         Retrieval* out) const;
  void RetrieveTargeted(int64_t time_ms, size_t limit, RetrieveScratch* scratch,
                        Retrieval* out) const;
  // False when `limit` is exceeded.
  bool AddDocument(const Document& document, int64_t time_ms, size_t limit,
                   RetrieveScratch* scratch, Retrieval* out) const;
  const NegativeKeyword* FindNegative(const GroupEntry& group,
                                      const ResolvedQuery& query,
                                      bool* of_campaign) const;
  std::optional<Veto> VetoGroup(const GroupEntry& group, int64_t time_ms,
                                const RetrieveScratch& scratch) const;
  void AddGroup(uint32_t group, const AdMatch& match, int64_t time_ms,
                const RetrieveScratch& scratch, Retrieval* out) const;
  void ResolveBlocked(const RetrieveRequest& request,
                      std::vector<uint32_t>* blocked) const;
  bool AnyKeywordMatches(const GroupEntry& group,
                         const ResolvedQuery& query) const;
  std::string WhyStatus(const IndexedAd& ad) const;

  int64_t version_ = 0;
  AdIndexStats stats_;
  std::vector<AdvertiserEntry> advertisers_;
  std::vector<CampaignEntry> campaigns_;
  std::vector<GroupEntry> groups_;
  std::vector<IndexedAd> ads_;
  std::vector<uint8_t> ad_enabled_;  // [ads]
  std::vector<uint32_t> group_ads_;
  std::vector<PositiveKeyword> positives_;
  std::vector<NegativeKeyword> negatives_;
  std::vector<std::string> keyword_texts_;
  TargetingSet targeting_;
  KeywordSet keywords_;
  std::vector<Document> documents_;
  ConjunctionIndex targeted_;     // of documents_
  KeywordIndex keyword_index_;    // of positives_
  KeywordIndex negatives_index_;  // of negatives_
  absl::flat_hash_map<std::string, uint32_t> by_id_;
  absl::flat_hash_map<std::string, uint32_t> advertiser_by_id_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_AD_INDEX_H_
