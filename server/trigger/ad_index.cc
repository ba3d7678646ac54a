// Hot path (Retrieve): no allocation after warm-up, no locks, no logging.
#include "server/trigger/ad_index.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace adrank {
namespace {

constexpr absl::string_view kVetoNames[kVetoes] = {
    "status", "schedule", "blocked", "negative_keyword"};

void Filter(Veto veto, uint32_t ads, Retrieval* out) {
  out->filtered += ads;
  out->filtered_by[static_cast<size_t>(veto)] += ads;
}

// Best bid first; then the order of ids, which is that of the numbers.
bool Better(const AdMatch& a, const AdMatch& b) {
  return a.bid_micros != b.bid_micros ? a.bid_micros > b.bid_micros
                                      : a.ad < b.ad;
}

void KeepBest(size_t limit, Retrieval* out) {
  std::vector<AdMatch>& matches = out->matches;
  if (matches.size() > limit) {
    out->truncated = true;
    std::nth_element(matches.begin(), matches.begin() + limit, matches.end(),
                     Better);
    matches.resize(limit);
  }
  std::sort(matches.begin(), matches.end(), Better);
}

bool Blocks(const RetrieveRequest& request, absl::string_view advertiser) {
  return request.blocked_advertisers != nullptr &&
         std::find(request.blocked_advertisers->begin(),
                   request.blocked_advertisers->end(),
                   advertiser) != request.blocked_advertisers->end();
}

std::string Named(absl::string_view type, absl::string_view id) {
  return absl::StrCat(type, " \"", id, "\"");
}

std::string Utc(int64_t ms) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixMillis(ms),
                          absl::UTCTimeZone());
}

}  // namespace

absl::string_view VetoName(Veto veto) {
  return kVetoNames[static_cast<size_t>(veto)];
}

absl::string_view AdIndex::keyword(uint32_t i) const {
  return i == AdMatch::kNoKeyword ? absl::string_view() : keyword_texts_[i];
}

std::optional<uint32_t> AdIndex::Find(absl::string_view ad_id) const {
  const auto it = by_id_.find(ad_id);
  if (it == by_id_.end()) return std::nullopt;
  return it->second;
}

std::optional<uint32_t> AdIndex::FindAdvertiser(absl::string_view id) const {
  const auto it = advertiser_by_id_.find(id);
  if (it == advertiser_by_id_.end()) return std::nullopt;
  return it->second;
}

void AdIndex::Retrieve(const RetrieveRequest& request, size_t limit,
                       RetrieveScratch* scratch, Retrieval* out) const {
  out->matches.clear();
  out->matched = out->filtered = 0;
  std::fill(std::begin(out->filtered_by), std::end(out->filtered_by), 0);
  out->truncated = false;
  out->reason = v1::NO_AD_REASON_UNSPECIFIED;
  if (stats_.servable_ads == 0) {
    out->reason = v1::NO_AD_REASON_EMPTY_CATALOG;
    return;
  }
  targeting_.Resolve(*request.context, &scratch->context);
  keywords_.Resolve(request.context->query(), &scratch->query);
  ResolveBlocked(request, &scratch->blocked);
  for (const GroupEntry& group : groups_) {
    AdMatch match;
    if (!MatchGroup(group, scratch, &match)) continue;
    AddGroup(group, match, request.context->time_ms(), *scratch, out);
  }
  if (out->matches.empty()) {
    out->reason = out->matched == 0 ? v1::NO_AD_REASON_NO_MATCH
                                    : v1::NO_AD_REASON_ALL_FILTERED;
  }
  KeepBest(limit, out);
}

void AdIndex::ResolveBlocked(const RetrieveRequest& request,
                             std::vector<uint8_t>* blocked) const {
  blocked->assign(advertisers_.size(), 0);
  if (request.blocked_advertisers == nullptr) return;
  for (const std::string& id : *request.blocked_advertisers) {
    const auto it = advertiser_by_id_.find(id);
    if (it != advertiser_by_id_.end()) (*blocked)[it->second] = 1;
  }
}

// Cheapest test first; targeting is remembered for the request.
bool AdIndex::MatchGroup(const GroupEntry& group, RetrieveScratch* scratch,
                         AdMatch* match) const {
  const bool has_keywords = group.positives_begin != group.positives_end;
  if (has_keywords && scratch->query.signature == 0) return false;
  const CampaignEntry& campaign = campaigns_[group.campaign];
  if (!targeting_.Matches(campaign.targeting, &scratch->context) ||
      !targeting_.Matches(group.targeting, &scratch->context)) {
    return false;
  }
  match->bid_micros = group.bid_micros;
  if (!has_keywords) return true;
  for (uint32_t i = group.positives_begin; i < group.positives_end; ++i) {
    const PositiveKeyword& k = positives_[i];
    if (!keywords_.Matches(k.tokens, k.type, scratch->query)) continue;
    match->match_type = k.type;
    match->keyword = k.text;
    match->bid_micros = k.bid_micros;
    return true;
  }
  return false;
}

const AdIndex::NegativeKeyword* AdIndex::FindNegative(
    const GroupEntry& group, const ResolvedQuery& query,
    bool* of_campaign) const {
  const CampaignEntry& campaign = campaigns_[group.campaign];
  const auto find = [&](uint32_t begin,
                        uint32_t end) -> const NegativeKeyword* {
    for (uint32_t i = begin; i < end; ++i) {
      const NegativeKeyword& k = negatives_[i];
      if (keywords_.Matches(k.tokens, k.type, query)) return &k;
    }
    return nullptr;
  };
  *of_campaign = true;
  if (const NegativeKeyword* k =
          find(campaign.negatives_begin, campaign.negatives_end)) {
    return k;
  }
  *of_campaign = false;
  return find(group.negatives_begin, group.negatives_end);
}

std::optional<Veto> AdIndex::VetoGroup(const GroupEntry& group, int64_t time_ms,
                                       const RetrieveScratch& scratch) const {
  const CampaignEntry& campaign = campaigns_[group.campaign];
  if (!group.enabled || !campaign.enabled) return Veto::kStatus;
  if (time_ms < campaign.start_ms ||
      (campaign.end_ms != 0 && time_ms >= campaign.end_ms)) {
    return Veto::kSchedule;
  }
  if (scratch.blocked[campaign.advertiser]) return Veto::kBlocked;
  bool of_campaign;
  if (scratch.query.signature != 0 &&
      FindNegative(group, scratch.query, &of_campaign) != nullptr) {
    return Veto::kNegativeKeyword;
  }
  return std::nullopt;
}

void AdIndex::AddGroup(const GroupEntry& group, const AdMatch& match,
                       int64_t time_ms, const RetrieveScratch& scratch,
                       Retrieval* out) const {
  const uint32_t enabled = group.ads_end - group.ads_begin;
  out->matched += enabled + group.paused_ads;
  Filter(Veto::kStatus, group.paused_ads, out);
  if (enabled == 0) return;
  if (const auto veto = VetoGroup(group, time_ms, scratch)) {
    Filter(*veto, enabled, out);
    return;
  }
  for (uint32_t i = group.ads_begin; i < group.ads_end; ++i) {
    out->matches.push_back(match);
    out->matches.back().ad = group_ads_[i];
  }
}

std::optional<Veto> AdIndex::VetoOfNamed(uint32_t ad,
                                         const RetrieveRequest& request) const {
  const GroupEntry& group = groups_[ads_[ad].group];
  const CampaignEntry& campaign = campaigns_[group.campaign];
  const int64_t time_ms = request.context->time_ms();
  if (!ad_enabled_[ad] || !group.enabled || !campaign.enabled) {
    return Veto::kStatus;
  }
  if (time_ms < campaign.start_ms ||
      (campaign.end_ms != 0 && time_ms >= campaign.end_ms)) {
    return Veto::kSchedule;
  }
  if (Blocks(request, advertisers_[campaign.advertiser].id)) {
    return Veto::kBlocked;
  }
  return std::nullopt;
}

std::string AdIndex::WhyStatus(const IndexedAd& ad) const {
  const GroupEntry& group = groups_[ad.group];
  const CampaignEntry& campaign = campaigns_[group.campaign];
  const AdvertiserEntry& advertiser = advertisers_[campaign.advertiser];
  const std::string entity =
      !advertiser.enabled     ? Named("advertiser", advertiser.id)
      : !campaign.own_enabled ? Named("campaign", campaign.id)
      : !group.enabled        ? Named("ad_group", group.id)
                              : Named("ad", ad.snapshot.ad_id());
  return absl::StrCat(entity, " is paused");
}

std::string AdIndex::WhyNotNamed(uint32_t ad,
                                 const RetrieveRequest& request) const {
  const std::optional<Veto> veto = VetoOfNamed(ad, request);
  if (!veto.has_value()) return "";
  if (*veto == Veto::kStatus) return WhyStatus(ads_[ad]);
  const CampaignEntry& campaign = campaigns_[groups_[ads_[ad].group].campaign];
  if (*veto == Veto::kBlocked) {
    return absl::StrCat(
        Named("advertiser", advertisers_[campaign.advertiser].id),
        " is blocked by the request");
  }
  const bool early = request.context->time_ms() < campaign.start_ms;
  return absl::StrCat(Named("campaign", campaign.id),
                      early ? " starts " : " ended ",
                      Utc(early ? campaign.start_ms : campaign.end_ms));
}

std::string AdIndex::WhyNot(absl::string_view ad_id,
                            const RetrieveRequest& request) const {
  const std::optional<uint32_t> ad = Find(ad_id);
  if (!ad.has_value()) {
    return absl::StrCat(Named("ad", ad_id), " is not in the catalogue");
  }
  if (std::string why = WhyNotNamed(*ad, request); !why.empty()) return why;
  const GroupEntry& group = groups_[ads_[*ad].group];
  const CampaignEntry& campaign = campaigns_[group.campaign];
  RetrieveScratch scratch;
  targeting_.Resolve(*request.context, &scratch.context);
  keywords_.Resolve(request.context->query(), &scratch.query);
  std::string why =
      targeting_.FirstFailure(campaign.targeting, scratch.context);
  if (!why.empty()) {
    return absl::StrCat("not matched: targeting ", why, " of ",
                        Named("campaign", campaign.id));
  }
  why = targeting_.FirstFailure(group.targeting, scratch.context);
  if (!why.empty()) {
    return absl::StrCat("not matched: targeting ", why, " of ",
                        Named("ad_group", group.id));
  }
  AdMatch match;
  if (!MatchGroup(group, &scratch, &match)) {
    const std::string& query = request.context->query();
    return absl::StrCat(
        "not matched: no keyword of ", Named("ad_group", group.id),
        query.empty() ? " matches a request without a query"
                      : absl::StrCat(" matches the ", Named("query", query)));
  }
  bool of_campaign;
  if (const NegativeKeyword* k =
          FindNegative(group, scratch.query, &of_campaign)) {
    return absl::StrCat(Named("negative keyword", keyword_texts_[k->text]),
                        " of ",
                        of_campaign ? Named("campaign", campaign.id)
                                    : Named("ad_group", group.id));
  }
  return "";
}

}  // namespace adrank
