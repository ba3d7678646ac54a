#include "server/reach.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/trigger/ad_index.h"

namespace adrank {
namespace {

// Requests that reach each ad group and campaign, by id.
class ReachCount {
 public:
  static absl::StatusOr<ReachCount> Over(const v1::Catalog& catalog,
                                         const AdIndexOptions& options) {
    ReachCount count;
    ASSIGN_OR_RETURN(count.index_, AdIndex::Build(catalog, 0, options));
    for (uint32_t i = 0; i < count.index_->size(); ++i) {
      const IndexedAd ad = count.index_->ad(i);
      count.entities_of_.push_back(
          {count.Number(v1::ENTITY_TYPE_AD_GROUP, std::string(ad.group_id)),
           count.Number(v1::ENTITY_TYPE_CAMPAIGN,
                        std::string(ad.campaign_id))});
    }
    count.requests_.resize(count.numbers_.size());
    count.last_.resize(count.numbers_.size());
    return count;
  }

  // By vector: what is at least so similar.
  void Add(RetrieveRequest request, float similarity) {
    ++stamp_;
    if (request.vector.size() != index_->vector_dims()) request.vector = {};
    index_->RetrieveSources(request, {}, similarity, index_->size() + 1,
                            &scratch_, &retrieval_);
    for (const AdMatch& match : retrieval_.matches) {
      for (const uint32_t entity : entities_of_[match.ad]) {
        if (last_[entity] == stamp_) continue;
        last_[entity] = stamp_;
        ++requests_[entity];
      }
    }
  }

  uint32_t Of(const v1::EntityKey& key) const {
    const auto it = numbers_.find({key.type(), key.id()});
    return it == numbers_.end() ? 0 : requests_[it->second];
  }

 private:
  uint32_t Number(v1::EntityType type, const std::string& id) {
    return numbers_
        .try_emplace({type, id}, static_cast<uint32_t>(numbers_.size()))
        .first->second;
  }

  std::shared_ptr<const AdIndex> index_;
  absl::flat_hash_map<std::pair<int, std::string>, uint32_t> numbers_;
  std::vector<std::array<uint32_t, 2>> entities_of_;  // [ads]
  std::vector<uint32_t> requests_, last_;             // [entities]
  uint32_t stamp_ = 0;
  RetrieveScratch scratch_;
  Retrieval retrieval_;
};

v1::Catalog WithoutSchedules(v1::Catalog catalog) {
  for (v1::Campaign& campaign : *catalog.mutable_campaigns()) {
    campaign.clear_start_time_ms();
    campaign.clear_end_time_ms();
  }
  return catalog;
}

// Nothing but targeting, keywords and vectors: of each group an ad without a
// vector and one for each vector, no vetoes.
v1::Catalog MatchingOnly(v1::Catalog catalog) {
  for (v1::Advertiser& a : *catalog.mutable_advertisers()) a.clear_status();
  for (v1::Campaign& c : *catalog.mutable_campaigns()) {
    c.clear_status();
    c.clear_negative_keywords();
  }
  google::protobuf::RepeatedPtrField<v1::Ad> with_vectors;
  for (const v1::Ad& ad : catalog.ads()) {
    if (!ad.embedding().empty()) *with_vectors.Add() = ad;
  }
  catalog.clear_ads();
  const auto add = [&](const std::string& group) {
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat(catalog.ads_size()));
    ad->set_ad_group_id(group);
    return ad;
  };
  for (const v1::Ad& ad : with_vectors) {
    *add(ad.ad_group_id())->mutable_embedding() = ad.embedding();
  }
  for (v1::AdGroup& g : *catalog.mutable_ad_groups()) {
    g.clear_status();
    auto* keywords = g.mutable_keywords();
    keywords->erase(
        std::remove_if(keywords->begin(), keywords->end(),
                       [](const v1::Keyword& k) { return k.negative(); }),
        keywords->end());
    add(g.id());
  }
  return catalog;
}

// How similar a vector must be to be among the nearest.
class Nearness {
 public:
  explicit Nearness(const ReachOptions& options) : options_(options) {}

  float Of(const RetrieveRequest& ask, uint32_t max_candidates) {
    const AdIndex* live = options_.live;
    if (live == nullptr || ask.vector.size() != live->vector_dims()) {
      return options_.min_similarity;
    }
    const size_t limit =
        max_candidates != 0 ? max_candidates : options_.max_candidates;
    live->RetrieveSources(ask, {}, options_.min_similarity, limit, &scratch_,
                          &out_);
    const std::vector<AdMatch>& nearest = scratch_.by_vector.matches;
    return nearest.size() < limit ? options_.min_similarity
                                  : nearest[limit - 1].similarity;
  }

 private:
  const ReachOptions& options_;
  RetrieveScratch scratch_;
  Retrieval out_;
};

bool HasReach(const v1::OperationResult& result) {
  return result.error().empty() &&
         (result.key().type() == v1::ENTITY_TYPE_CAMPAIGN ||
          result.key().type() == v1::ENTITY_TYPE_AD_GROUP);
}

}  // namespace

absl::Status EstimateReach(const v1::Catalog& affected,
                           absl::Span<const v1::Decision> decisions,
                           const std::function<bool()>& stop,
                           v1::MutateResponse* response,
                           const ReachOptions& options) {
  if (affected.campaigns().empty()) return absl::OkStatus();
  const v1::Catalog running = WithoutSchedules(affected);
  ASSIGN_OR_RETURN(ReachCount eligible,
                   ReachCount::Over(running, options.index));
  ASSIGN_OR_RETURN(ReachCount matched,
                   ReachCount::Over(MatchingOnly(running), options.index));
  Nearness nearness(options);
  uint32_t sampled = 0;
  for (const v1::Decision& decision : decisions) {
    if (decision.test() || !decision.request().candidates().empty()) continue;
    if (stop && stop()) break;
    ++sampled;
    RetrieveRequest ask;
    ask.context = &decision.context();
    const auto& vector = decision.request().query_embedding();
    ask.vector = absl::MakeConstSpan(vector.data(), vector.size());
    const float similarity =
        vector.empty() ? 0
                       : nearness.Of(ask, decision.request().max_candidates());
    matched.Add(ask, similarity);
    ask.blocked_advertisers = &decision.request().blocked_advertiser_ids();
    eligible.Add(ask, similarity);
  }
  for (v1::OperationResult& result : *response->mutable_results()) {
    if (!HasReach(result)) continue;
    result.set_requests_sampled(sampled);
    result.set_requests_matched(matched.Of(result.key()));
    result.set_requests_eligible(eligible.Of(result.key()));
  }
  return absl::OkStatus();
}

}  // namespace adrank
