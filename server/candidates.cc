// Hot path: no locks, no logging.
#include "server/candidates.h"

#include <algorithm>
#include <optional>
#include <string>

#include "storage/snapshot_bytes.h"

namespace adrank {
namespace {

bool Blocks(const v1::RankRequest& request, const v1::AdSnapshot& ad) {
  const auto among = [](const auto& ids, const std::string& id) {
    return !id.empty() && std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  return among(request.blocked_advertiser_ids(), ad.advertiser_id()) ||
         among(request.blocked_ad_ids(), ad.ad_id());
}

void TakeMatches(const AdIndex& index, RankTrace* trace) {
  for (const AdMatch& match : trace->retrieval.matches) {
    RankCandidate c;
    c.item.ad = match.ad;
    c.ad_id = index.ad_id(match.ad);
    c.bid_micros = match.bid_micros;
    c.value = match.value;
    c.pacing_multiplier = trace->terms.Multiplier(index.ad(match.ad).campaign);
    c.match_type = match.match_type;
    c.keyword = match.keyword;
    c.similarity = match.similarity;
    trace->candidates.push_back(c);
  }
}

void CountVeto(Veto veto, Retrieval* retrieval) {
  ++retrieval->filtered;
  ++retrieval->filtered_by[static_cast<size_t>(veto)];
}

// Adds the named ad unless a veto hits it or there is no such ad.
void TakeNamed(const AdIndex& index, const v1::RankRequest& request,
               const v1::Candidate& named, RankTrace* trace) {
  RankCandidate c;
  c.match_type = v1::MATCH_TYPE_CALLER;
  c.bid_micros = named.bid_micros();
  if (named.has_ad()) {
    ++trace->retrieval.matched;
    if (Blocks(request, named.ad())) {
      return CountVeto(Veto::kBlocked, &trace->retrieval);
    }
    c.item.snapshot = &named.ad();
    c.ad_id = named.ad().ad_id();
  } else {
    const std::optional<uint32_t> ad = index.Find(named.ad_id());
    if (!ad.has_value()) return;
    ++trace->retrieval.matched;
    const RetrieveRequest ask = AskFor(request, *trace);
    const uint32_t campaign = index.ad(*ad).campaign;
    if (const auto veto = index.VetoOfNamed(*ad, ask)) {
      if (*veto == Veto::kBudget) {
        trace->retrieval.closed_campaigns.push_back(campaign);
        trace->retrieval.closed.emplace_back().ad = *ad;
      }
      return CountVeto(*veto, &trace->retrieval);
    }
    c.item.ad = *ad;
    c.ad_id = index.ad_id(*ad);
    c.pacing_multiplier = trace->terms.Multiplier(campaign);
    if (c.bid_micros == 0) c.bid_micros = index.ad(*ad).bid_micros;
  }
  c.value = c.item.ad == PredictItem::kNotIndexed
                ? static_cast<double>(c.bid_micros)  // CPC, of quality 1
                : index.ValueOf(c.item.ad, c.bid_micros);
  trace->candidates.push_back(c);
}

void TakeAllNamed(const AdIndex& index, const v1::RankRequest& request,
                  size_t limit, RankTrace* trace) {
  Retrieval& retrieval = trace->retrieval;
  retrieval = Retrieval();
  for (const v1::Candidate& named : request.candidates()) {
    TakeNamed(index, request, named, trace);
  }
  std::vector<RankCandidate>& candidates = trace->candidates;
  if (candidates.empty()) retrieval.reason = EmptyReason(retrieval);
  std::sort(candidates.begin(), candidates.end(),
            [](const RankCandidate& a, const RankCandidate& b) {
              return a.value != b.value ? a.value > b.value : a.ad_id < b.ad_id;
            });
  if (candidates.size() > limit) {
    retrieval.truncated = true;
    candidates.resize(limit);
  }
}

}  // namespace

v1::AdSnapshot SnapshotOf(const AdIndex& index, const PredictItem& item) {
  return item.ad == PredictItem::kNotIndexed ? *item.snapshot
                                             : index.Snapshot(item.ad);
}

EncodedAd EncodedOf(const AdIndex& index, const PredictItem& item) {
  return item.ad == PredictItem::kNotIndexed
             ? EncodeAd(*item.snapshot)
             : EncodedOf(index.SnapshotBytes(item.ad));
}

RetrieveRequest AskFor(const v1::RankRequest& request, const RankTrace& trace) {
  return {&trace.context,
          &request.blocked_advertiser_ids(),
          &trace.terms,
          &request.blocked_ad_ids(),
          &request.blocked_categories(),
          absl::MakeConstSpan(request.query_embedding().data(),
                              request.query_embedding_size()),
          trace.model_vectors,
          trace.model_query.vector};
}

void FindCandidates(const AdIndex& index, const v1::RankRequest& request,
                    const SourceQuota& quota, float min_similarity,
                    size_t limit, RankTrace* trace) {
  if (!request.candidates().empty()) {
    TakeAllNamed(index, request, limit, trace);
  } else {
    index.RetrieveSources(AskFor(request, *trace), quota, min_similarity, limit,
                          &trace->retrieve_scratch, &trace->retrieval);
    TakeMatches(index, trace);
  }
  for (const RankCandidate& c : trace->candidates) {
    trace->items.push_back(c.item);
  }
}

}  // namespace adrank
