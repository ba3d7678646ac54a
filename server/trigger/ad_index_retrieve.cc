// AdIndex::Retrieve.
// Hot path: no allocation after warm-up, no locks, no logging.
#include <algorithm>

#include "features/text.h"
#include "server/rank/auction_ads.h"
#include "server/trigger/ad_index.h"
#include "server/trigger/ad_index_order.h"
#include "server/trigger/sort_distinct.h"
#include "server/trigger/stemmer.h"

namespace adrank {
namespace {

void Filter(Veto veto, uint32_t ads, Retrieval* out) {
  out->filtered += ads;
  out->filtered_by[static_cast<size_t>(veto)] += ads;
}

// EventBid as micros a click.
double ClickValue(v1::BidType type, int64_t bid_micros, double conversion_rate,
                  double mean_pctr) {
  const auto bid =
      static_cast<double>(EventBid(type, bid_micros, conversion_rate, 1));
  return type == v1::BID_TYPE_CPM ? bid / mean_pctr : bid;
}

// Whether budgets or caps keep an ad out that nothing else does; counts it.
bool FilterByTerms(const AdmissionTerms* terms, const AdMatch& match,
                   uint32_t group, uint32_t campaign, Retrieval* out) {
  if (terms == nullptr) return false;
  if (terms->Closed(campaign)) {
    Filter(Veto::kBudget, 1, out);
    out->closed_campaigns.push_back(campaign);
    out->closed.push_back(match);
    return true;
  }
  if (!terms->Capped(match.ad, group, campaign)) return false;
  Filter(Veto::kFrequencyCap, 1, out);
  return true;
}

}  // namespace

// An ad that budgets or caps kept out had passed all else.
void Retrieval::Clear() {
  matches.clear();
  matched = filtered = 0;
  std::fill(std::begin(filtered_by), std::end(filtered_by), 0);
  truncated = false;
  closed_campaigns.clear();
  closed.clear();
  reason = v1::NO_AD_REASON_UNSPECIFIED;
}

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

double AdIndex::ValueOf(const GroupEntry& group, int64_t bid_micros) const {
  const Payment& payment = payments_[group.payment];
  return ClickValue(payment.bid_type, bid_micros, payment.conversion_rate,
                    options_.mean_pctr);
}

double AdIndex::ValueOf(uint32_t ad, int64_t bid_micros) const {
  const auto [part, local] = PlaceOf(ad);
  const AdEntry& entry = part->ads_[local];
  return part->ValueOf(part->GroupOf(entry), bid_micros) *
         static_cast<double>(entry.quality);
}

void AdIndex::Retrieve(const RetrieveRequest& request, size_t limit,
                       RetrieveScratch* scratch, Retrieval* out) const {
  RetrieveBy(request, true, true, limit, scratch, out);
}

void AdIndex::RetrieveBy(const RetrieveRequest& request, bool keywords,
                         bool targeting, size_t limit, RetrieveScratch* scratch,
                         Retrieval* out) const {
  out->Clear();
  if (stats_.servable_ads == 0) {
    out->reason = v1::NO_AD_REASON_EMPTY_CATALOG;
    return;
  }
  Resolve(request, scratch);
  Search search = {request.context->time_ms(),
                   limit,
                   nullptr,
                   &scratch->parts[PartOf(this)],
                   scratch,
                   out,
                   keywords,
                   targeting};
  bool by_keyword = false;
  size_t middle = 0;
  if (base_ != nullptr) {
    Search of_base = search;
    of_base.dead = &dead_groups_;
    of_base.part = &scratch->parts[0];
    by_keyword = base_->SearchPart(of_base);
    middle = out->matches.size();
  }
  by_keyword = SearchPart(search) || by_keyword;
  // Nothing was cut short then: the counts are those of all ads.
  if (out->matches.empty()) out->reason = EmptyReason(*out);
  std::vector<AdMatch>& matches = out->matches;
  out->truncated = matches.size() > limit;
  if (by_keyword) {
    const Order order(*this);
    if (out->truncated) {
      std::nth_element(matches.begin(), matches.begin() + limit, matches.end(),
                       order);
      matches.resize(limit);
    }
    std::sort(matches.begin(), matches.end(), order);
  } else {
    Merge(middle, scratch, out);
    if (out->truncated) matches.resize(limit);
  }
  if (out->truncated) KeepLostToBudget(out);
}

// What ranks behind the last match was beyond the limit anyway; how many of
// those the search met before its end depends on how the index is put together.
void AdIndex::KeepLostToBudget(Retrieval* out) const {
  const auto beyond = [&, order = Order(*this)](const AdMatch& match) {
    return out->matches.empty() || order(out->matches.back(), match);
  };
  std::vector<AdMatch>& closed = out->closed;
  closed.erase(std::remove_if(closed.begin(), closed.end(), beyond),
               closed.end());
}

// Both halves are in order.
void AdIndex::Merge(size_t middle, RetrieveScratch* scratch,
                    Retrieval* out) const {
  std::vector<AdMatch>& matches = out->matches;
  if (middle == 0 || middle == matches.size()) return;
  scratch->merged.resize(matches.size());
  std::merge(matches.begin(), matches.begin() + middle,
             matches.begin() + middle, matches.end(), scratch->merged.begin(),
             Order(*this));
  matches.swap(scratch->merged);
}

RetrieveScratch::RetrieveScratch() = default;
RetrieveScratch::~RetrieveScratch() = default;
RetrieveScratch::RetrieveScratch(RetrieveScratch&&) = default;
RetrieveScratch& RetrieveScratch::operator=(RetrieveScratch&&) = default;

void AdIndex::StemQuery(absl::string_view query,
                        RetrieveScratch* scratch) const {
  scratch->stemmed = 0;
  if (!by_stems() || query.empty()) return;
  std::unique_ptr<Stemmer>& stemmer = scratch->stemmer;
  if (stemmer == nullptr || stemmer->language() != options_.stemmer_language) {
    // Build checked the language.
    stemmer = *Stemmer::Create(options_.stemmer_language);
  }
  ResolvedQuery& words = scratch->parts[0].stems;
  TokenizeInto(query, &words.normalized, &words.words);
  for (const absl::string_view word : words.words) {
    if (scratch->stems.size() == scratch->stemmed) {
      scratch->stems.emplace_back();
    }
    const absl::string_view stem = stemmer->Stem(word);
    scratch->stems[scratch->stemmed++].assign(stem.data(), stem.size());
  }
}

void AdIndex::Resolve(const RetrieveRequest& request,
                      RetrieveScratch* scratch) const {
  StemQuery(request.context->query(), scratch);
  if (base_ != nullptr) {
    base_->ResolvePart(request, scratch, &scratch->parts[0]);
  }
  ResolvePart(request, scratch, &scratch->parts[PartOf(this)]);
  ResolveBlocked(request, &scratch->blocked);
  scratch->blocked_tags.Set(request.blocked_ads, request.blocked_categories);
  scratch->terms = request.terms;
}

void AdIndex::ResolvePart(const RetrieveRequest& request,
                          RetrieveScratch* scratch,
                          RetrieveScratch::Part* part) const {
  targeting_.Resolve(*request.context, &part->context);
  keywords_.Resolve(request.context->query(), &part->query);
  if (by_stems()) {
    stems_.ResolveWords(scratch->stems, scratch->stemmed, &part->stems);
  }
  part->negatives =
      negatives_index_.MatchesAny(keywords_, part->query, &scratch->keywords);
}

bool AdIndex::Eligible(uint32_t ad, const RetrieveRequest& request,
                       RetrieveScratch* scratch) const {
  const auto [part, local] = PlaceOf(ad);
  const AdEntry& entry = part->ads_[local];
  if (!entry.enabled || (part != this && Dead(entry))) return false;
  const GroupEntry& group = part->GroupOf(entry);
  RetrieveScratch::Part& resolved = scratch->parts[PartOf(part)];
  if (!part->MatchTargeting(group, &resolved.context) ||
      part->VetoGroup(group, request.context->time_ms(), *scratch, resolved)) {
    return false;
  }
  if (BlocksAd(ad, *scratch)) return false;
  const AdmissionTerms* terms = scratch->terms;
  if (terms == nullptr) return true;
  const uint32_t campaign = part->campaigns_[group.campaign].number;
  return !terms->Closed(campaign) && !terms->Capped(ad, group.number, campaign);
}

void AdIndex::ResolveBlocked(const RetrieveRequest& request,
                             std::vector<uint32_t>* blocked) const {
  blocked->clear();
  if (request.blocked_advertisers == nullptr) return;
  for (const std::string& id : *request.blocked_advertisers) {
    if (const auto number = FindAdvertiser(id)) blocked->push_back(*number);
  }
  std::sort(blocked->begin(), blocked->end());
}

bool AdIndex::SearchPart(const Search& search) const {
  const size_t before = search.out->matches.size();
  if (search.keywords) RetrieveByKeyword(search);
  const bool by_keyword = search.out->matches.size() > before;
  if (search.targeting) RetrieveTargeted(search);
  return by_keyword;
}

v1::MatchType AdIndex::TypeOfMatch(const PositiveKeyword& keyword,
                                   const RetrieveScratch::Part& part) const {
  if (!by_stems()) {
    return keywords_.Matches(keyword.tokens, keyword.type, part.query)
               ? keyword.type
               : v1::MATCH_TYPE_UNSPECIFIED;
  }
  // Words that match have stems that do.
  if (!stems_.Matches(keyword.stems, keyword.type, part.stems)) {
    return v1::MATCH_TYPE_UNSPECIFIED;
  }
  if (keyword.type == v1::MATCH_TYPE_BROAD ||
      keywords_.Matches(keyword.tokens, keyword.type, part.query)) {
    return keyword.type;
  }
  return keyword.type == v1::MATCH_TYPE_EXACT ? v1::MATCH_TYPE_NEAR_EXACT
                                              : v1::MATCH_TYPE_NEAR_PHRASE;
}

// Keywords are numbered by group, and in a group by type, then so that the
// first match is the one to report: ascending, each group's first is its own,
// but for one of the same type that matches by its words and not by stems.
void AdIndex::RetrieveByKeyword(const Search& search) const {
  RetrieveScratch* scratch = search.scratch;
  const RetrieveScratch::Part& part = *search.part;
  std::vector<uint32_t>& found = scratch->positives;
  keyword_index_.Match(by_stems() ? stems_ : keywords_,
                       by_stems() ? part.stems : part.query, &scratch->keywords,
                       &found);
  SortDistinct(0, static_cast<uint32_t>(positives_.size()), &scratch->bitmap,
               &found);
  const auto first_text = static_cast<uint32_t>(
      base_ == nullptr ? 0 : base_->keyword_texts_.size());
  for (size_t i = 0, next = 0; i < found.size(); i = next) {
    const PositiveKeyword* best = &positives_[found[i]];
    v1::MatchType type = by_stems() ? TypeOfMatch(*best, part) : best->type;
    for (next = i + 1;
         next < found.size() && positives_[found[next]].group == best->group;
         ++next) {
      const PositiveKeyword& other = positives_[found[next]];
      if (type != best->type && other.type == best->type &&
          TypeOfMatch(other, part) == other.type) {
        best = &other;
        type = other.type;
      }
    }
    if (search.dead != nullptr && Has(*search.dead, best->group)) continue;
    const GroupEntry& group = groups_[best->group];
    if (!MatchTargeting(group, &search.part->context)) continue;
    AdMatch match;
    match.match_type = type;
    match.keyword = first_text + best->text;
    match.bid_micros = best->bid_micros;
    AddGroup(group, match, search);
  }
}

void AdIndex::RetrieveTargeted(const Search& search) const {
  const PredicateSet& predicates = targeting_.predicates();
  ResolvedContext& context = search.part->context;
  ConjunctionIndex::Walk& walk = search.scratch->walk;
  // One more than the limit tells whether there are more.
  const size_t wanted = std::min(search.limit, documents_.size()) + 1;
  const size_t end = search.out->matches.size() + wanted;
  targeted_.Start(context, wanted, &walk);
  while (targeted_.Next(predicates, context, &walk)) {
    for (const uint32_t i : walk.found) {
      if (!AddDocument(documents_[i], end, search)) return;
    }
  }
}

bool AdIndex::AddDocument(const Document& document, size_t end,
                          const Search& search) const {
  if (search.dead != nullptr && Has(*search.dead, document.group)) return true;
  const GroupEntry& group = groups_[document.group];
  Retrieval* out = search.out;
  if (document.scanned && !MatchTargeting(group, &search.part->context))
    return true;
  ++out->matched;
  if (!document.enabled) {
    Filter(Veto::kStatus, 1, out);
    return true;
  }
  const bool blocked = BlocksAd(document.ad, *search.scratch);
  if (blocked || !document.plain || !search.scratch->blocked.empty()) {
    auto veto = VetoGroup(group, search.time_ms, *search.scratch, *search.part);
    if (blocked && veto.value_or(Veto::kBlocked) >= Veto::kBlocked) {
      veto = Veto::kBlocked;
    }
    if (veto.has_value()) {
      Filter(*veto, 1, out);
      return true;
    }
  }
  AdMatch match;
  match.ad = document.ad;
  match.bid_micros = document.bid_micros;
  match.value = document.value;
  const AdmissionTerms* terms = search.scratch->terms;
  if (terms != nullptr &&
      FilterByTerms(terms, match, group.number,
                    campaigns_[group.campaign].number, out)) {
    return true;
  }
  out->matches.push_back(match);
  return out->matches.size() < end;
}

bool AdIndex::BlocksAd(uint32_t number, const RetrieveScratch& scratch) const {
  if (scratch.blocked_tags.empty()) return false;
  const IndexedAd entry = ad(number);
  return scratch.blocked_tags.Blocks(entry.id, entry.tags);
}

std::optional<Veto> AdIndex::VetoGroup(
    const GroupEntry& group, int64_t time_ms, const RetrieveScratch& scratch,
    const RetrieveScratch::Part& part) const {
  const CampaignEntry& campaign = campaigns_[group.campaign];
  if (!group.enabled || !campaign.enabled) return Veto::kStatus;
  if (time_ms < campaign.start_ms ||
      (campaign.end_ms != 0 && time_ms >= campaign.end_ms)) {
    return Veto::kSchedule;
  }
  if (std::binary_search(scratch.blocked.begin(), scratch.blocked.end(),
                         campaign.advertiser_number)) {
    return Veto::kBlocked;
  }
  bool of_campaign;
  if (part.negatives &&
      FindNegative(group, part.query, &of_campaign) != nullptr) {
    return Veto::kNegativeKeyword;
  }
  return std::nullopt;
}

void AdIndex::AddGroup(const GroupEntry& group, const AdMatch& match,
                       const Search& search) const {
  Retrieval* out = search.out;
  out->matched += group.enabled_ads + group.paused_ads;
  Filter(Veto::kStatus, group.paused_ads, out);
  if (group.enabled_ads == 0) return;
  const auto veto =
      VetoGroup(group, search.time_ms, *search.scratch, *search.part);
  const uint32_t campaign = campaigns_[group.campaign].number;
  const double value = ValueOf(group, match.bid_micros);
  AdMatch one = match;
  const absl::Span<const GroupAd> ads(&group_ads_[group.ads_begin],
                                      group.enabled_ads);
  for (const GroupAd& ad : ads) {
    one.ad = ad.ad;
    one.value = value * static_cast<double>(ad.quality);
    // The first veto in the enum's order is the one that counts.
    if (veto.value_or(Veto::kNegativeKeyword) > Veto::kBlocked &&
        BlocksAd(one.ad, *search.scratch)) {
      Filter(Veto::kBlocked, 1, out);
    } else if (veto.has_value()) {
      Filter(*veto, 1, out);
    } else if (!FilterByTerms(search.scratch->terms, one, group.number,
                              campaign, out)) {
      out->matches.push_back(one);
    }
  }
}

}  // namespace adrank
