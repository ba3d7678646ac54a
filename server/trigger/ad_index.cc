// What AdIndex tells about single ads. Retrieve is in ad_index_retrieve.cc.
#include "server/trigger/ad_index.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/hash.h"
#include "base/log.h"
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
    if (std::find(ids.begin(), ids.end(), ad.id) != ids.end()) {
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
  if (base_ == nullptr) return texts_.text(keyword_texts_[i]);
  const auto first = static_cast<uint32_t>(base_->keyword_texts_.size());
  return i < first ? base_->keyword(i) : texts_.text(keyword_texts_[i - first]);
}

std::string AdIndex::SnapshotBytes(uint32_t i) const {
  const Place place = PlaceOf(i);
  const IndexedAd ad = place.part->LocalAd(place.local);
  std::string bytes;
  bytes.reserve(512);
  // Each has an id: an empty one would not be written.
  AdTexts::AppendField(v1::AdSnapshot::kAdIdFieldNumber, ad.id, &bytes);
  AdTexts::AppendField(v1::AdSnapshot::kAdGroupIdFieldNumber, ad.group_id,
                       &bytes);
  AdTexts::AppendField(v1::AdSnapshot::kCampaignIdFieldNumber, ad.campaign_id,
                       &bytes);
  AdTexts::AppendField(v1::AdSnapshot::kAdvertiserIdFieldNumber,
                       ad.advertiser_id, &bytes);
  place.part->texts_.AppendAttributes(place.part->ads_[place.local].text,
                                      &bytes);
  return bytes;
}

v1::AdSnapshot AdIndex::Snapshot(uint32_t i) const {
  v1::AdSnapshot snapshot;
  CHECK(snapshot.ParseFromString(SnapshotBytes(i)));
  return snapshot;
}

std::optional<uint32_t> AdIndex::LocalAdOf(absl::string_view id) const {
  return by_id_.Find(id,
                     [this](uint32_t i) { return texts_.id(ads_[i].text); });
}

std::optional<uint32_t> AdIndex::LocalGroupOf(absl::string_view id) const {
  return group_by_id_.Find(
      id, [this](uint32_t i) { return texts_.text(groups_[i].id); });
}

std::optional<uint32_t> AdIndex::LocalCampaignOf(absl::string_view id) const {
  return campaign_by_id_.Find(
      id, [this](uint32_t i) -> absl::string_view { return campaigns_[i].id; });
}

std::optional<uint32_t> AdIndex::LocalAdvertiserOf(absl::string_view id) const {
  return advertiser_by_id_.Find(id, [this](uint32_t i) -> absl::string_view {
    return advertisers_[i].id;
  });
}

std::optional<uint32_t> AdIndex::Find(absl::string_view ad_id) const {
  const std::optional<uint32_t> own = LocalAdOf(ad_id);
  if (base_ == nullptr) return own;
  if (own.has_value()) return ad_numbers_[*own];
  const std::optional<uint32_t> in_base = base_->LocalAdOf(ad_id);
  if (!in_base.has_value() || Dead(base_->ads_[*in_base])) return std::nullopt;
  return in_base;
}

std::optional<uint32_t> AdIndex::FindGroup(absl::string_view id) const {
  if (const auto own = LocalGroupOf(id)) return groups_[*own].number;
  return base_ == nullptr ? std::nullopt : base_->FindGroup(id);
}

std::optional<uint32_t> AdIndex::FindCampaign(absl::string_view id) const {
  if (const auto own = LocalCampaignOf(id)) return campaigns_[*own].number;
  return base_ == nullptr ? std::nullopt : base_->FindCampaign(id);
}

std::optional<uint32_t> AdIndex::FindAdvertiser(absl::string_view id) const {
  if (const auto own = LocalAdvertiserOf(id)) return advertisers_[*own].number;
  return base_ == nullptr ? std::nullopt : base_->FindAdvertiser(id);
}

absl::string_view AdIndex::group_id(uint32_t i) const {
  if (base_ == nullptr) return texts_.text(groups_[i].id);
  const auto it = group_locals_.find(i);
  return it == group_locals_.end() ? base_->group_id(i)
                                   : texts_.text(groups_[it->second].id);
}

AdIndex::Bytes AdIndex::bytes() const {
  const auto of = [](const auto& v) { return v.capacity() * sizeof(v[0]); };
  Bytes bytes;
  bytes.texts = texts_.bytes() + of(keyword_texts_);
  bytes.entries = of(ads_) + of(groups_) + of(group_ads_) + of(payments_) +
                  of(tags_) + by_id_.bytes() + group_by_id_.bytes() +
                  of(ad_numbers_) + of(new_ad_ranks_);
  for (const AdTags& t : tags_) {
    bytes.entries += of(t.labels) + of(t.categories);
  }
  bytes.targeting = targeting_.bytes() + of(documents_) + targeted_.bytes() +
                    vector_targeted_.bytes();
  bytes.keywords = of(positives_) + of(negatives_) + keyword_index_.bytes() +
                   negatives_index_.bytes();
  bytes.vectors = vectors_.bytes();
  return bytes;
}

bool AdIndex::MatchTargeting(const GroupEntry& group,
                             ResolvedContext* context) const {
  return targeting_.Matches(campaigns_[group.campaign].targeting, context) &&
         targeting_.Matches(group.targeting, context);
}

bool AdIndex::AnyKeywordMatches(const GroupEntry& group,
                                const RetrieveScratch::Part& part) const {
  if (!group.has_positives()) return true;
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
  if (!ads_[local].enabled || !group.enabled || !campaign.enabled) {
    return Veto::kStatus;
  }
  if (time_ms < campaign.start_ms ||
      (campaign.end_ms != 0 && time_ms >= campaign.end_ms)) {
    return Veto::kSchedule;
  }
  if (Blocks(request, advertisers_[campaign.advertiser].id) ||
      BlocksTags(request, LocalAd(local))) {
    return Veto::kBlocked;
  }
  if (request.terms == nullptr) return std::nullopt;
  if (request.terms->Closed(campaign.number)) return Veto::kBudget;
  if (request.terms->Capped(ad, group.number, campaign.number)) {
    return Veto::kFrequencyCap;
  }
  return std::nullopt;
}

std::string AdIndex::WhyStatus(const AdEntry& ad) const {
  const GroupEntry& group = GroupOf(ad);
  const CampaignEntry& campaign = campaigns_[group.campaign];
  const AdvertiserEntry& advertiser = advertisers_[campaign.advertiser];
  const std::string entity =
      !advertiser.enabled     ? Named("advertiser", advertiser.id)
      : !campaign.own_enabled ? Named("campaign", campaign.id)
      : !group.enabled        ? Named("ad_group", texts_.text(group.id))
                              : Named("ad", texts_.id(ad.text));
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
    return absl::StrCat(Named("ad", texts_.id(ads_[local].text)),
                        " or one of its categories is blocked by the request");
  }
  if (*veto == Veto::kBudget) {
    return absl::StrCat(Named("campaign", campaign.id), " has no budget left");
  }
  if (*veto == Veto::kFrequencyCap) {
    return absl::StrCat("a frequency cap of ",
                        Named("ad", texts_.id(ads_[local].text)),
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
                      Named("ad_group", texts_.text(group.id)));
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
        "not matched: no keyword of ", Named("ad_group", texts_.text(group.id)),
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
    return absl::StrCat(
        Named("negative keyword", texts_.text(keyword_texts_[k->text])), " of ",
        of_campaign ? Named("campaign", campaign.id)
                    : Named("ad_group", texts_.text(group.id)));
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
