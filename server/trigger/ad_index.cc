// What AdIndex tells about single ads. Retrieve is in ad_index_retrieve.cc.
#include "server/trigger/ad_index.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace adrank {
namespace {

constexpr absl::string_view kVetoNames[kVetoes] = {
    "status",           "schedule", "blocked",
    "negative_keyword", "budget",   "frequency_cap"};

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

bool AdIndex::MatchTargeting(const GroupEntry& group,
                             ResolvedContext* context) const {
  return targeting_.Matches(campaigns_[group.campaign].targeting, context) &&
         targeting_.Matches(group.targeting, context);
}

bool AdIndex::AnyKeywordMatches(const GroupEntry& group,
                                const ResolvedQuery& query) const {
  if (group.positives_begin == group.positives_end) return true;
  for (uint32_t i = group.positives_begin; i < group.positives_end; ++i) {
    const PositiveKeyword& k = positives_[i];
    if (keywords_.Matches(k.tokens, k.type, query)) return true;
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
  if (request.terms == nullptr) return std::nullopt;
  if (request.terms->Closed(group.campaign)) return Veto::kBudget;
  if (request.terms->Capped(ad, ads_[ad].group, group.campaign)) {
    return Veto::kFrequencyCap;
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
  if (*veto == Veto::kBudget) {
    return absl::StrCat(Named("campaign", campaign.id), " has no budget left");
  }
  if (*veto == Veto::kFrequencyCap) {
    return absl::StrCat("a frequency cap of ",
                        Named("ad", ads_[ad].snapshot.ad_id()),
                        ", its ad group or its campaign is reached");
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
  if (!AnyKeywordMatches(group, scratch.query)) {
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
