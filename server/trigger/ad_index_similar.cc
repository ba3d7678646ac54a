// AdIndex by vector, and all sources together.
// Hot path: no allocation after warm-up, no locks, no logging.
#include <algorithm>

#include "server/trigger/ad_index.h"
#include "server/trigger/ad_index_order.h"
#include "server/trigger/vector_search_cost.h"

namespace adrank {
namespace {

void AddCounts(const Retrieval& from, Retrieval* to) {
  to->matched += from.matched;
  to->filtered += from.filtered;
  for (size_t v = 0; v < kVetoes; ++v) {
    to->filtered_by[v] += from.filtered_by[v];
  }
  to->truncated = to->truncated || from.truncated;
  to->closed_campaigns.insert(to->closed_campaigns.end(),
                              from.closed_campaigns.begin(),
                              from.closed_campaigns.end());
  to->closed.insert(to->closed.end(), from.closed.begin(), from.closed.end());
}

// As if no more had been asked for.
void Cut(size_t limit, Retrieval* out) {
  if (out->matches.size() <= limit) return;
  out->matches.resize(limit);
  out->truncated = true;
}

}  // namespace

void AdIndex::RetrieveSources(const RetrieveRequest& request,
                              const SourceQuota& quota, float min_similarity,
                              size_t limit, RetrieveScratch* scratch,
                              Retrieval* out) const {
  const bool by_vector = !request.vector.empty() && vector_dims() != 0;
  const bool by_model = request.model != nullptr && quota.model > 0;
  if (!by_vector && quota.sum() == 0) {
    return Retrieve(request, limit, scratch, out);
  }
  out->Clear();
  if (stats_.servable_ads == 0) {
    out->reason = v1::NO_AD_REASON_EMPTY_CATALOG;
    return;
  }
  Retrieval& keyword = scratch->by_keyword;
  Retrieval& targeting = scratch->by_targeting;
  Retrieval& similar = scratch->by_vector;
  Retrieval& model = scratch->by_model;
  // The model chooses among all that match by keyword.
  RetrieveBy(request, true, false, by_model ? size() : limit, scratch,
             &keyword);
  model.Clear();
  if (by_model) {
    RetrieveByModel(request, keyword, limit, scratch, &model);
    Cut(limit, &keyword);
    if (keyword.truncated) KeepLostToBudget(&keyword);
  }
  RetrieveBy(request, false, true, limit, scratch, &targeting);
  similar.Clear();
  if (by_vector) {
    // One more than the limit tells whether there are more.
    RetrieveSimilar(request, min_similarity, limit + 1, scratch, &similar);
  }
  for (const Retrieval* r : {&keyword, &targeting, &similar, &model}) {
    AddCounts(*r, out);
  }
  const size_t found = MergeSources(
      {keyword.matches, similar.matches, targeting.matches, model.matches},
      quota, limit, Order(*this), &scratch->merge, &out->matches);
  out->truncated = out->truncated || found > limit;
  if (out->matches.empty()) out->reason = EmptyReason(*out);
}

void AdIndex::RetrieveSimilar(const RetrieveRequest& request,
                              float min_similarity, size_t limit,
                              RetrieveScratch* scratch, Retrieval* out) const {
  Resolve(request, scratch);
  scratch->top.Start(limit, min_similarity);
  if (base_ != nullptr) SearchVectors(*base_, request, scratch, out);
  SearchVectors(*this, request, scratch, out);
  const std::vector<VectorIndex::Hit>& hits = scratch->top.Finish();
  for (const VectorIndex::Hit& hit : hits) {
    AdMatch& match = out->matches.emplace_back();
    match.ad = hit.ad;
    match.match_type = v1::MATCH_TYPE_EMBEDDING;
    match.similarity = hit.similarity;
    match.bid_micros = ad(hit.ad).bid_micros;
    match.value = ValueOf(hit.ad, match.bid_micros);
    out->matched += OnlySimilar(hit.ad, *scratch);
  }
  if (hits.size() < limit) return;
  // Which of the others the search has met depends on its way.
  const auto beyond = [&, order = Order(*this)](const AdMatch& match) {
    return hits.empty() ||
           VectorIndex::Better(
               hits.back(), {match.similarity, match.ad, order.Key(match.ad)});
  };
  std::vector<AdMatch>& closed = out->closed;
  closed.erase(std::remove_if(closed.begin(), closed.end(), beyond),
               closed.end());
}

void AdIndex::SearchVectors(const AdIndex& part, const RetrieveRequest& request,
                            RetrieveScratch* scratch, Retrieval* out) const {
  const VectorIndex& vectors = part.vectors_;
  const size_t n = vectors.size();
  if (n == 0) return;
  VectorIndex::Query* query = &scratch->query_vector;
  VectorIndex::Top* top = &scratch->top;
  vectors.Prepare(request.vector, query);
  const auto filter = [&](uint32_t i) {
    return Admit(part, i, request, scratch, out);
  };
  const auto eligible = [&](size_t i) {
    return Admit(part, static_cast<uint32_t>(i), request, scratch, nullptr);
  };
  if (ReadAllVectors(vectors, top->k(), eligible)) {
    vectors.approximate() ? vectors.SearchApproximately(filter, query, top)
                          : vectors.Search(filter, query, top);
    return;
  }
  const ResolvedContext& context = scratch->parts[PartOf(&part)].context;
  ConjunctionIndex::Walk& walk = scratch->walk;
  part.vector_targeted_.Start(context, n, &walk);
  while (part.vector_targeted_.Next(part.targeting_.predicates(), context,
                                    &walk)) {
    vectors.SearchAmong(walk.found, filter, query, top);
  }
}

bool AdIndex::Admit(const AdIndex& part, uint32_t vector,
                    const RetrieveRequest& request, RetrieveScratch* scratch,
                    Retrieval* out) const {
  const uint32_t ad = part.vectors_.ad(vector);
  const auto [holder, local] = PlaceOf(ad);
  const AdEntry& entry = holder->ads_[local];
  // The vector of an ad that has changed is the changes'.
  if (holder != &part || (holder != this && Dead(entry))) return false;
  const GroupEntry& group = part.GroupOf(entry);
  RetrieveScratch::Part& resolved = scratch->parts[PartOf(&part)];
  if (!part.MatchTargeting(group, &resolved.context)) return false;
  std::optional<Veto> veto;
  if (!entry.enabled) {
    veto = Veto::kStatus;
  } else {
    veto =
        part.VetoGroup(group, request.context->time_ms(), *scratch, resolved);
  }
  if (BlocksAd(ad, *scratch) && veto.value_or(Veto::kBlocked) > Veto::kStatus &&
      veto.value_or(Veto::kBlocked) != Veto::kSchedule) {
    veto = Veto::kBlocked;
  }
  if (!veto.has_value() && scratch->terms != nullptr) {
    const uint32_t campaign = part.campaigns_[group.campaign].number;
    if (scratch->terms->Closed(campaign)) {
      veto = Veto::kBudget;
      if (out != nullptr) {
        out->closed_campaigns.push_back(campaign);
        AdMatch& match = out->closed.emplace_back();
        match.ad = ad;
        match.similarity =
            part.vectors_.Similarity(vector, scratch->query_vector);
      }
    } else if (scratch->terms->Capped(ad, group.number, campaign)) {
      veto = Veto::kFrequencyCap;
    }
  }
  if (!veto.has_value()) return true;
  if (out != nullptr && OnlySimilar(ad, *scratch)) {
    ++out->matched;
    ++out->filtered;
    ++out->filtered_by[static_cast<size_t>(*veto)];
  }
  return false;
}

// Others are counted where they are found.
bool AdIndex::OnlySimilar(uint32_t ad, const RetrieveScratch& scratch) const {
  const auto [part, local] = PlaceOf(ad);
  const GroupEntry& group = part->GroupOf(part->ads_[local]);
  return group.has_positives() &&
         !part->AnyKeywordMatches(group, scratch.parts[PartOf(part)]);
}

std::optional<float> AdIndex::SimilarityOf(
    uint32_t ad, const RetrieveRequest& request) const {
  const VectorIndex& vectors = PlaceOf(ad).part->vectors_;
  if (request.vector.empty() || vectors.size() == 0) return std::nullopt;
  VectorIndex::Query query;
  vectors.Prepare(request.vector, &query);
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (vectors.ad(i) == ad) return vectors.Similarity(i, query);
  }
  return std::nullopt;
}

}  // namespace adrank
