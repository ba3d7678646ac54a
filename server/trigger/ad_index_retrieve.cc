// AdIndex::Retrieve.
// Hot path: no allocation after warm-up, no locks, no logging.
#include <algorithm>

#include "server/trigger/ad_index.h"
#include "server/trigger/sort_distinct.h"

namespace adrank {
namespace {

void Filter(Veto veto, uint32_t ads, Retrieval* out) {
  out->filtered += ads;
  out->filtered_by[static_cast<size_t>(veto)] += ads;
}

// Whether budgets or caps keep an ad out that nothing else does; counts it.
bool FilterByTerms(const AdmissionTerms* terms, uint32_t ad, uint32_t group,
                   uint32_t campaign, Retrieval* out) {
  if (terms == nullptr) return false;
  if (terms->Closed(campaign)) {
    Filter(Veto::kBudget, 1, out);
    out->closed_campaigns.push_back(campaign);
    return true;
  }
  if (!terms->Capped(ad, group, campaign)) return false;
  Filter(Veto::kFrequencyCap, 1, out);
  return true;
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

}  // namespace

// An ad that budgets or caps kept out had passed all else.
v1::NoAdReason EmptyReason(const Retrieval& retrieval) {
  if (retrieval.matched == 0) return v1::NO_AD_REASON_NO_MATCH;
  const uint32_t budget =
      retrieval.filtered_by[static_cast<size_t>(Veto::kBudget)];
  const uint32_t cap =
      retrieval.filtered_by[static_cast<size_t>(Veto::kFrequencyCap)];
  if (budget == 0 && cap == 0) return v1::NO_AD_REASON_ALL_FILTERED;
  return budget >= cap ? v1::NO_AD_REASON_BUDGET
                       : v1::NO_AD_REASON_FREQUENCY_CAP;
}

void AdIndex::Retrieve(const RetrieveRequest& request, size_t limit,
                       RetrieveScratch* scratch, Retrieval* out) const {
  out->matches.clear();
  out->matched = out->filtered = 0;
  std::fill(std::begin(out->filtered_by), std::end(out->filtered_by), 0);
  out->truncated = false;
  out->closed_campaigns.clear();
  out->reason = v1::NO_AD_REASON_UNSPECIFIED;
  if (stats_.servable_ads == 0) {
    out->reason = v1::NO_AD_REASON_EMPTY_CATALOG;
    return;
  }
  targeting_.Resolve(*request.context, &scratch->context);
  keywords_.Resolve(request.context->query(), &scratch->query);
  ResolveBlocked(request, &scratch->blocked);
  scratch->terms = request.terms;
  scratch->negatives = negatives_index_.MatchesAny(keywords_, scratch->query,
                                                   &scratch->keywords);
  const int64_t time_ms = request.context->time_ms();
  RetrieveByKeyword(time_ms, scratch, out);
  const bool by_keyword = !out->matches.empty();
  RetrieveTargeted(time_ms, limit, scratch, out);
  // Nothing was cut short then: the counts are those of all ads.
  if (out->matches.empty()) out->reason = EmptyReason(*out);
  if (by_keyword) return KeepBest(limit, out);
  // In order already.
  out->truncated = out->matches.size() > limit;
  if (out->truncated) out->matches.resize(limit);
}

void AdIndex::ResolveBlocked(const RetrieveRequest& request,
                             std::vector<uint32_t>* blocked) const {
  blocked->clear();
  if (request.blocked_advertisers == nullptr) return;
  for (const std::string& id : *request.blocked_advertisers) {
    const auto it = advertiser_by_id_.find(id);
    if (it != advertiser_by_id_.end()) blocked->push_back(it->second);
  }
  std::sort(blocked->begin(), blocked->end());
}

// Keywords are numbered by group, and in a group so that the first match is
// the one to report: ascending, each group's first is its own.
void AdIndex::RetrieveByKeyword(int64_t time_ms, RetrieveScratch* scratch,
                                Retrieval* out) const {
  std::vector<uint32_t>& found = scratch->positives;
  keyword_index_.Match(keywords_, scratch->query, &scratch->keywords, &found);
  SortDistinct(0, static_cast<uint32_t>(positives_.size()), &scratch->bitmap,
               &found);
  uint32_t previous = AdMatch::kNoKeyword;
  for (const uint32_t i : found) {
    const PositiveKeyword& k = positives_[i];
    if (k.group == previous) continue;
    previous = k.group;
    const GroupEntry& group = groups_[k.group];
    if (!MatchTargeting(group, &scratch->context)) continue;
    AdMatch match;
    match.match_type = k.type;
    match.keyword = k.text;
    match.bid_micros = k.bid_micros;
    AddGroup(k.group, match, time_ms, *scratch, out);
  }
}

void AdIndex::RetrieveTargeted(int64_t time_ms, size_t limit,
                               RetrieveScratch* scratch, Retrieval* out) const {
  const PredicateSet& predicates = targeting_.predicates();
  // One more than the limit tells whether there are more.
  const size_t wanted = std::min(limit, documents_.size()) + 1;
  const size_t end = out->matches.size() + wanted;
  targeted_.Start(scratch->context, wanted, &scratch->walk);
  while (targeted_.Next(predicates, scratch->context, &scratch->walk)) {
    for (const uint32_t i : scratch->walk.found) {
      if (!AddDocument(documents_[i], time_ms, end, scratch, out)) return;
    }
  }
}

bool AdIndex::AddDocument(const Document& document, int64_t time_ms,
                          size_t limit, RetrieveScratch* scratch,
                          Retrieval* out) const {
  const GroupEntry& group = groups_[document.group];
  if (document.scanned && !MatchTargeting(group, &scratch->context))
    return true;
  ++out->matched;
  if (!document.enabled) {
    Filter(Veto::kStatus, 1, out);
    return true;
  }
  if (!document.plain || !scratch->blocked.empty()) {
    if (const auto veto = VetoGroup(group, time_ms, *scratch)) {
      Filter(*veto, 1, out);
      return true;
    }
  }
  if (FilterByTerms(scratch->terms, document.ad, document.group,
                    document.campaign, out)) {
    return true;
  }
  AdMatch& match = out->matches.emplace_back();
  match.ad = document.ad;
  match.bid_micros = document.bid_micros;
  return out->matches.size() < limit;
}

std::optional<Veto> AdIndex::VetoGroup(const GroupEntry& group, int64_t time_ms,
                                       const RetrieveScratch& scratch) const {
  const CampaignEntry& campaign = campaigns_[group.campaign];
  if (!group.enabled || !campaign.enabled) return Veto::kStatus;
  if (time_ms < campaign.start_ms ||
      (campaign.end_ms != 0 && time_ms >= campaign.end_ms)) {
    return Veto::kSchedule;
  }
  if (std::binary_search(scratch.blocked.begin(), scratch.blocked.end(),
                         campaign.advertiser)) {
    return Veto::kBlocked;
  }
  bool of_campaign;
  if (scratch.negatives &&
      FindNegative(group, scratch.query, &of_campaign) != nullptr) {
    return Veto::kNegativeKeyword;
  }
  return std::nullopt;
}

void AdIndex::AddGroup(uint32_t number, const AdMatch& match, int64_t time_ms,
                       const RetrieveScratch& scratch, Retrieval* out) const {
  const GroupEntry& group = groups_[number];
  const uint32_t enabled = group.ads_end - group.ads_begin;
  out->matched += enabled + group.paused_ads;
  Filter(Veto::kStatus, group.paused_ads, out);
  if (enabled == 0) return;
  if (const auto veto = VetoGroup(group, time_ms, scratch)) {
    Filter(*veto, enabled, out);
    return;
  }
  for (uint32_t i = group.ads_begin; i < group.ads_end; ++i) {
    if (FilterByTerms(scratch.terms, group_ads_[i], number, group.campaign,
                      out)) {
      continue;
    }
    out->matches.push_back(match);
    out->matches.back().ad = group_ads_[i];
  }
}

}  // namespace adrank
