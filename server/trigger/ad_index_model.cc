// AdIndex by the served model's own vectors.
// Hot path (but for the functions that ModelVectors is built with): no
// allocation after warm-up, no locks, no logging.
#include <algorithm>
#include <vector>

#include "model/kernels/vector.h"
#include "server/predict/model_vectors.h"
#include "server/trigger/ad_index.h"
#include "server/trigger/ad_index_order.h"
#include "server/trigger/vector_search_cost.h"

namespace adrank {
namespace {

// Below every product, above VectorIndex's bound of what is no vector.
constexpr float kAnyProduct = -1e29f;

bool ByAd(const AdMatch& a, const AdMatch& b) { return a.ad < b.ad; }

}  // namespace

size_t AdIndex::documents() const {
  const auto paused =
      std::partition_point(documents_.begin(), documents_.end(),
                           [](const Document& d) { return d.enabled; });
  return static_cast<size_t>(paused - documents_.begin());
}

void AdIndex::ForEachKeywordAd(absl::FunctionRef<void(uint32_t ad)> f) const {
  for (uint32_t i = 0; i < ads_.size(); ++i) {
    const GroupEntry& group = GroupOf(ads_[i]);
    if (!group.has_positives() || !ads_[i].enabled || !group.enabled ||
        !campaigns_[group.campaign].enabled) {
      continue;
    }
    f(base_ == nullptr ? i : ad_numbers_[i]);
  }
}

uint64_t AdIndex::OrderKey(uint32_t ad) const { return Order(*this).Key(ad); }

void AdIndex::RetrieveByModel(const RetrieveRequest& request,
                              const Retrieval& keyword, size_t limit,
                              RetrieveScratch* scratch, Retrieval* out) const {
  const ModelVectors& model = *request.model;
  scratch->top.Start(limit, kAnyProduct);
  if (base_ != nullptr) {
    SearchByModel(*base_, *model.base(), request, scratch, out);
  }
  SearchByModel(*this, model, request, scratch, out);
  AddKeywordAds(keyword, request, scratch, out);
  const std::vector<VectorIndex::Hit>& hits = scratch->top.Finish();
  std::vector<AdMatch>& by_keyword = scratch->keyword_by_ad;
  by_keyword.assign(keyword.matches.begin(), keyword.matches.end());
  std::sort(by_keyword.begin(), by_keyword.end(), ByAd);
  for (const VectorIndex::Hit& hit : hits) {
    AdMatch match;
    match.ad = hit.ad;
    const auto it =
        std::lower_bound(by_keyword.begin(), by_keyword.end(), match, ByAd);
    if (it != by_keyword.end() && it->ad == hit.ad) {
      match = *it;
    } else {
      match.match_type = v1::MATCH_TYPE_MODEL;
      match.bid_micros = ad(hit.ad).bid_micros;
      match.value = ValueOf(hit.ad, match.bid_micros);
    }
    match.similarity = hit.similarity * scratch->query_vector.length;
    out->matches.push_back(match);
  }
  if (hits.size() < limit) return;
  // Which of those without a budget the search has met beside these depends on
  // its way.
  const auto beyond = [&](const AdMatch& match) {
    return hits.empty() ||
           VectorIndex::Better(
               hits.back(), {match.similarity, match.ad, OrderKey(match.ad)});
  };
  out->closed.erase(
      std::remove_if(out->closed.begin(), out->closed.end(), beyond),
      out->closed.end());
}

bool AdIndex::EligibleIn(const AdIndex& part, uint32_t ad,
                         const RetrieveRequest& request,
                         RetrieveScratch* scratch, bool* closed) const {
  // What has changed is found among the changes.
  const auto [holder, local] = PlaceOf(ad);
  if (holder != &part) return false;
  const AdmissionTerms* terms = scratch->terms;
  const bool open =
      terms == nullptr ||
      !terms->Closed(
          part.campaigns_[part.GroupOf(part.ads_[local]).campaign].number);
  if (open) return Eligible(ad, request, scratch);
  if (closed != nullptr) {
    scratch->terms = nullptr;
    *closed = Eligible(ad, request, scratch);
    scratch->terms = terms;
  }
  return false;
}

void AdIndex::SearchByModel(const AdIndex& part, const ModelVectors& model,
                            const RetrieveRequest& request,
                            RetrieveScratch* scratch, Retrieval* out) const {
  const VectorIndex& vectors = model.documents();
  VectorIndex::Query* query = &scratch->query_vector;
  VectorIndex::Top* top = &scratch->top;
  vectors.Prepare(request.model_vector, query);
  const size_t n = vectors.size();
  const auto filter = [&](uint32_t i) {
    bool closed = false;
    if (EligibleIn(part, vectors.ad(i), request, scratch, &closed)) return true;
    if (closed) {
      AdMatch& match = out->closed.emplace_back();
      match.ad = vectors.ad(i);
      match.similarity = vectors.Similarity(i, *query);
    }
    return false;
  };
  const auto passes = [&](size_t i) {
    return EligibleIn(part, vectors.ad(i), request, scratch, nullptr);
  };
  if (ReadAllVectors(vectors, top->k(), passes)) {
    vectors.approximate() ? vectors.SearchApproximately(filter, query, top)
                          : vectors.Search(filter, query, top);
    return;
  }
  ResolvedContext& context = scratch->parts[PartOf(&part)].context;
  ConjunctionIndex::Walk& walk = scratch->walk;
  part.targeted_.Start(context, part.documents_.size(), &walk);
  while (part.targeted_.Next(part.targeting_.predicates(), context, &walk)) {
    std::vector<uint32_t>& among = scratch->among;
    among.clear();
    for (const uint32_t document : walk.found) {
      if (document < n) among.push_back(model.VectorOf(document));
    }
    vectors.SearchAmong(among, filter, query, top);
  }
}

std::optional<float> AdIndex::ProductOf(uint32_t ad, int64_t bid_micros,
                                        const RetrieveRequest& request) const {
  if (request.model == nullptr) return std::nullopt;
  const ModelVectors* model = request.model;
  VectorIndex::Query query;
  model->documents().Prepare(request.model_vector, &query);
  if (const float* vector = model->OfKeywordAd(ad)) {
    const double dot = static_cast<double>(
        DotFixed(request.model_vector.data(), vector, query.unit.size()));
    return static_cast<float>(
        dot + model->ChangeOfBid(bid_micros, this->ad(ad).bid_micros));
  }
  if (PlaceOf(ad).part != this) model = model->base().get();
  const VectorIndex& vectors = model->documents();
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (vectors.ad(i) != ad) continue;
    vectors.Prepare(request.model_vector, &query);
    return vectors.Similarity(i, query) * query.length;
  }
  return std::nullopt;
}

// They are few, and their bids are the keywords'.
void AdIndex::AddKeywordAds(const Retrieval& keyword,
                            const RetrieveRequest& request,
                            RetrieveScratch* scratch, Retrieval* out) const {
  const ModelVectors& model = *request.model;
  const VectorIndex::Query& query = scratch->query_vector;
  VectorIndex::Top* top = &scratch->top;
  const auto hit_of = [&](const AdMatch& match) -> VectorIndex::Hit {
    const float* vector = model.OfKeywordAd(match.ad);
    const auto dot = static_cast<double>(
        DotFixed(query.unit.data(), vector, query.unit.size()));
    const double change =
        model.ChangeOfBid(match.bid_micros, ad(match.ad).bid_micros);
    return {static_cast<float>(dot + change / query.length), match.ad,
            OrderKey(match.ad)};
  };
  for (const AdMatch& match : keyword.matches) {
    const VectorIndex::Hit hit = hit_of(match);
    if (top->Wants(hit)) top->Add(hit);
  }
  for (const AdMatch& match : keyword.closed) {
    out->closed.push_back(match);
    out->closed.back().similarity = hit_of(match).similarity;
  }
}

}  // namespace adrank
