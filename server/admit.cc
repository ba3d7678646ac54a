#include "server/admit.h"

#include "absl/container/flat_hash_set.h"

namespace adrank {
namespace {

// What the slots need of budgets and caps; ads that only the caller knows have
// neither.
void SetAdmissionSlots(RankTrace* trace) {
  trace->admission_slots.clear();
  uint32_t position = 0;
  for (const AuctionSlot& slot : trace->auction.slots) {
    ++position;
    const RankCandidate& c = trace->candidates[slot.ad];
    if (c.item.ad == PredictItem::kNotIndexed) continue;
    AdmissionSlot s;
    s.ad = c.item.ad;
    s.position = position;
    s.bid_type = trace->auction_ads[slot.ad].bid_type;
    s.price_micros = slot.price_micros;
    s.pctr = trace->prediction.pctrs(slot.placement)[slot.ad];
    trace->admission_slots.push_back(s);
  }
}

}  // namespace

bool ReserveAll(const AdIndex& index, const DecisionId& id,
                const CallOptions& call, RankTrace* trace) {
  SetAdmissionSlots(trace);
  if (trace->admission_slots.empty()) return true;
  trace->refusals.clear();
  for (size_t a = 0; a < call.admissions.size(); ++a) {
    call.admissions[a]->Reserve(index, trace->context, id,
                                trace->admission_slots, &trace->refusals);
    if (trace->refusals.empty()) continue;
    while (a-- > 0) call.admissions[a]->Release(id);
    return false;
  }
  return true;
}

void ExcludeRefused(const AdIndex& index, RankTrace* trace,
                    v1::Decision* decision) {
  std::vector<uint8_t> refused(trace->admission_slots.size(), 0);
  for (const SlotRefusal& r : trace->refusals) refused[r.slot] = 1;
  absl::flat_hash_set<uint32_t> kept;
  for (size_t s = 0; s < refused.size(); ++s) {
    if (!refused[s]) kept.insert(trace->admission_slots[s].ad);
  }
  // An empty one stands between two auctions.
  if (decision->refused_size() > 0) decision->add_refused();
  for (const SlotRefusal& r : trace->refusals) {
    trace->refusal_reason = r.reason;
    const uint32_t refused_ad = trace->admission_slots[r.slot].ad;
    const IndexedAd ad = index.ad(refused_ad);
    v1::Refusal* log = decision->add_refused();
    log->set_ad_id(ad.id.data(), ad.id.size());
    log->set_level(r.level);
    for (size_t i = 0; i < trace->candidates.size(); ++i) {
      const uint32_t number = trace->candidates[i].item.ad;
      if (number == PredictItem::kNotIndexed || kept.contains(number)) continue;
      const IndexedAd other = index.ad(number);
      trace->excluded[i] |=
          number == refused_ad ||
          (r.level == v1::Refusal::AD_GROUP && other.group == ad.group) ||
          (r.level == v1::Refusal::CAMPAIGN && other.campaign == ad.campaign);
    }
  }
}

}  // namespace adrank
