// What AdIndex tells about single ads. Retrieve is in ad_index_retrieve.cc.
#include "server/trigger/ad_index.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/hash.h"
#include "features/text.h"

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

// The ad itself, or one of its categories.
bool BlocksTags(const RetrieveRequest& request, const IndexedAd& ad) {
  if (request.blocked_ads != nullptr) {
    const auto& ids = *request.blocked_ads;
    if (std::find(ids.begin(), ids.end(), ad.snapshot.ad_id()) != ids.end()) {
      return true;
    }
  }
  if (request.blocked_categories == nullptr || ad.tags == nullptr) return false;
  const std::vector<uint64_t>& own = ad.tags->categories;
  return !own.empty() &&
         std::any_of(request.blocked_categories->begin(),
                     request.blocked_categories->end(),
                     [&](const std::string& category) {
                       return std::binary_search(own.begin(), own.end(),
                                                 Hash64(category));
                     });
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

std::string AdIndex::normalizer_id() const {
  return absl::StrCat(NormalizerId(), by_stems() ? "/snowball-2.2.0-" : "",
                      options_.stemmer_language);
}

absl::string_view AdIndex::keyword(uint32_t i) const {
  if (i == AdMatch::kNoKeyword) return absl::string_view();
  if (base_ == nullptr) return keyword_texts_[i];
  const auto first = static_cast<uint32_t>(base_->keyword_texts_.size());
  return i < first ? base_->keyword_texts_[i] : keyword_texts_[i - first];
}

std::optional<uint32_t> AdIndex::Find(absl::string_view ad_id) const {
  const auto it = by_id_.find(ad_id);
  if (base_ == nullptr) {
    if (it == by_id_.end()) return std::nullopt;
    return it->second;
  }
  if (it != by_id_.end()) return ad_numbers_[it->second];
  const auto in_base = base_->by_id_.find(ad_id);
  if (in_base == base_->by_id_.end() || Dead(base_->ads_[in_base->second])) {
    return std::nullopt;
  }
  return in_base->second;
}

std::optional<uint32_t> AdIndex::FindGroup(absl::string_view id) const {
  const auto it = group_by_id_.find(id);
  if (it != group_by_id_.end()) return groups_[it->second].number;
  return base_ == nullptr ? std::nullopt : base_->FindGroup(id);
}

std::optional<uint32_t> AdIndex::FindCampaign(absl::string_view id) const {
  const auto it = campaign_by_id_.find(id);
  if (it != campaign_by_id_.end()) return campaigns_[it->second].number;
  return base_ == nullptr ? std::nullopt : base_->FindCampaign(id);
}

std::optional<uint32_t> AdIndex::FindAdvertiser(absl::string_view id) const {
  const auto it = advertiser_by_id_.find(id);
  if (it != advertiser_by_id_.end()) return advertisers_[it->second].number;
  return base_ == nullptr ? std::nullopt : base_->FindAdvertiser(id);
}

const std::string& AdIndex::group_id(uint32_t i) const {
  if (base_ == nullptr) return groups_[i].id;
  const auto it = group_locals_.find(i);
  return it == group_locals_.end() ? base_->group_id(i)
                                   : groups_[it->second].id;
}

bool AdIndex::MatchTargeting(const GroupEntry& group,
                             ResolvedContext* context) const {
  return targeting_.Matches(campaigns_[group.campaign].targeting, context) &&
         targeting_.Matches(group.targeting, context);
}

bool AdIndex::AnyKeywordMatches(const GroupEntry& group,
                                const RetrieveScratch::Part& part) const {
  if (group.positives_begin == group.positives_end) return true;
  for (uint32_t i = group.positives_begin; i < group.positives_end; ++i) {
    if (TypeOfMatch(positives_[i], part) != v1::MATCH_TYPE_UNSPECIFIED) {
      return true;
    }
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
  const Place place = PlaceOf(ad);
  return place.part->VetoOfLocal(place.local, ad, request);
}

std::optional<Veto> AdIndex::VetoOfLocal(uint32_t local, uint32_t ad,
                                         const RetrieveRequest& request) const {
  const GroupEntry& group = GroupOf(ads_[local]);
  const CampaignEntry& campaign = campaigns_[group.campaign];
  const int64_t time_ms = request.context->time_ms();
  if (!ad_enabled_[local] || !group.enabled || !campaign.enabled) {
    return Veto::kStatus;
  }
  if (time_ms < campaign.start_ms ||
      (campaign.end_ms != 0 && time_ms >= campaign.end_ms)) {
    return Veto::kSchedule;
  }
  if (Blocks(request, advertisers_[campaign.advertiser].id) ||
      BlocksTags(request, ads_[local])) {
    return Veto::kBlocked;
  }
  if (request.terms == nullptr) return std::nullopt;
  if (request.terms->Closed(campaign.number)) return Veto::kBudget;
  if (request.terms->Capped(ad, group.number, campaign.number)) {
    return Veto::kFrequencyCap;
  }
  return std::nullopt;
}

std::string AdIndex::WhyStatus(const IndexedAd& ad) const {
  const GroupEntry& group = GroupOf(ad);
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
  const Place place = PlaceOf(ad);
  return place.part->WhyNotLocal(place.local, ad, request);
}

std::string AdIndex::WhyNotLocal(uint32_t local, uint32_t ad,
                                 const RetrieveRequest& request) const {
  const std::optional<Veto> veto = VetoOfLocal(local, ad, request);
  if (!veto.has_value()) return "";
  if (*veto == Veto::kStatus) return WhyStatus(ads_[local]);
  const CampaignEntry& campaign = campaigns_[GroupOf(ads_[local]).campaign];
  if (*veto == Veto::kBlocked) {
    const std::string& advertiser = advertisers_[campaign.advertiser].id;
    if (Blocks(request, advertiser)) {
      return absl::StrCat(Named("advertiser", advertiser),
                          " is blocked by the request");
    }
    return absl::StrCat(Named("ad", ads_[local].snapshot.ad_id()),
                        " or one of its categories is blocked by the request");
  }
  if (*veto == Veto::kBudget) {
    return absl::StrCat(Named("campaign", campaign.id), " has no budget left");
  }
  if (*veto == Veto::kFrequencyCap) {
    return absl::StrCat("a frequency cap of ",
                        Named("ad", ads_[local].snapshot.ad_id()),
                        ", its ad group or its campaign is reached");
  }
  const bool early = request.context->time_ms() < campaign.start_ms;
  return absl::StrCat(Named("campaign", campaign.id),
                      early ? " starts " : " ended ",
                      Utc(early ? campaign.start_ms : campaign.end_ms));
}

std::string AdIndex::WhyTargeting(const GroupEntry& group,
                                  const ResolvedContext& context) const {
  const CampaignEntry& campaign = campaigns_[group.campaign];
  std::string why = targeting_.FirstFailure(campaign.targeting, context);
  if (!why.empty()) {
    return absl::StrCat("not matched: targeting ", why, " of ",
                        Named("campaign", campaign.id));
  }
  why = targeting_.FirstFailure(group.targeting, context);
  if (why.empty()) return "";
  return absl::StrCat("not matched: targeting ", why, " of ",
                      Named("ad_group", group.id));
}

std::string AdIndex::WhyNot(absl::string_view ad_id,
                            const RetrieveRequest& request) const {
  const std::optional<uint32_t> ad = Find(ad_id);
  if (!ad.has_value()) {
    return absl::StrCat(Named("ad", ad_id), " is not in the catalogue");
  }
  if (std::string why = WhyNotNamed(*ad, request); !why.empty()) return why;
  const Place place = PlaceOf(*ad);
  if (place.part != this) return place.part->WhyNot(ad_id, request);
  const GroupEntry& group = GroupOf(ads_[place.local]);
  const CampaignEntry& campaign = campaigns_[group.campaign];
  RetrieveScratch scratch;
  StemQuery(request.context->query(), &scratch);
  RetrieveScratch::Part& part = scratch.parts[0];
  ResolvePart(request, &scratch, &part);
  if (std::string why = WhyTargeting(group, part.context); !why.empty()) {
    return why;
  }
  if (!AnyKeywordMatches(group, part)) {
    const std::string& query = request.context->query();
    std::string text = absl::StrCat(
        "not matched: no keyword of ", Named("ad_group", group.id),
        query.empty() ? " matches a request without a query"
                      : absl::StrCat(" matches the ", Named("query", query)));
    if (const auto similarity = SimilarityOf(*ad, request)) {
      absl::StrAppend(&text, ", and its vector (cosine ", *similarity,
                      ") is not among the nearest");
    }
    return text;
  }
  bool of_campaign;
  if (const NegativeKeyword* k =
          FindNegative(group, part.query, &of_campaign)) {
    return absl::StrCat(Named("negative keyword", keyword_texts_[k->text]),
                        " of ",
                        of_campaign ? Named("campaign", campaign.id)
                                    : Named("ad_group", group.id));
  }
  return "";
}

void AdIndex::MatchedAttributes(uint32_t ad, const RetrieveRequest& request,
                                const RetrieveScratch& scratch,
                                std::vector<std::string>* out) const {
  const auto [part, local] = PlaceOf(ad);
  const ResolvedContext& context = scratch.parts[PartOf(part)].context;
  const GroupEntry& group = part->GroupOf(part->ads_[local]);
  for (const uint32_t expression :
       {part->campaigns_[group.campaign].targeting, group.targeting}) {
    part->targeting_.AppendEvidence(expression, *request.context, context, out);
  }
}

}  // namespace adrank
