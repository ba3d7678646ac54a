// What serving an ad takes of the world beside the auction: budgets and the
// user's frequency caps. The pipeline asks before the trigger which ads cannot
// be taken, and takes what the auction gave out before it answers.
#ifndef ADRANK_SERVER_ADMISSION_H_
#define ADRANK_SERVER_ADMISSION_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "base/rng.h"
#include "proto/common.pb.h"
#include "proto/events.pb.h"
#include "server/caps/cap_table.h"
#include "storage/decision_id.h"

namespace adrank {

class AdIndex;

// A campaign at this moment; written by its owner while requests read it.
struct CampaignGate {
  // No budget is left.
  std::atomic<bool> closed{false};
  // What bids are multiplied by, in (0, 1].
  std::atomic<float> multiplier{1};
  // Share of requests that it takes part in, in (0, 1]; to the others it is
  // closed.
  std::atomic<float> participation{1};
};

// What holds for one request. Numbers are AdIndex's. Reused, one a thread.
struct AdmissionTerms {
  // By campaign; empty: all are open at multiplier 1.
  absl::Span<const CampaignGate> campaigns;
  std::shared_ptr<const void> campaigns_owner;
  // Of the request: decides, with a campaign's number, on its participation.
  uint64_t draw = 0;
  // At a frequency cap for this user; each sorted.
  std::vector<uint32_t> capped_ads, capped_groups, capped_campaigns;
  // Not null: at a cap is whatever has one here. Of the request's index.
  const CapTable* denied = nullptr;

  bool Closed(uint32_t campaign) const {
    if (campaigns.empty()) return false;
    const CampaignGate& gate = campaigns[campaign];
    if (gate.closed.load(std::memory_order_relaxed)) return true;
    const float share = gate.participation.load(std::memory_order_relaxed);
    return share < 1 &&
           static_cast<float>(MixBits(draw ^ MixBits(campaign)) >> 40) *
                   0x1p-24f >=
               share;
  }
  float Multiplier(uint32_t campaign) const {
    return campaigns.empty()
               ? 1
               : campaigns[campaign].multiplier.load(std::memory_order_relaxed);
  }
  bool Capped(uint32_t ad, uint32_t group, uint32_t campaign) const {
    return Has(capped_campaigns, campaign) || Has(capped_groups, group) ||
           Has(capped_ads, ad) ||
           (denied != nullptr && denied->Caps(ad, group, campaign));
  }

  void Clear() {
    campaigns = {};
    campaigns_owner.reset();
    draw = 0;
    capped_ads.clear();
    capped_groups.clear();
    capped_campaigns.clear();
    denied = nullptr;
  }

 private:
  static bool Has(const std::vector<uint32_t>& sorted, uint32_t number) {
    return !sorted.empty() &&
           std::binary_search(sorted.begin(), sorted.end(), number);
  }
};

// A slot that the auction filled with an ad of the catalogue.
struct AdmissionSlot {
  uint32_t ad = 0;        // AdIndex::ad()
  uint32_t position = 0;  // v1::ServedAd.position
  v1::BidType bid_type = v1::BID_TYPE_CPC;
  int64_t price_micros = 0;  // of one billable event
  float pctr = 0;
};

struct SlotRefusal {
  uint32_t slot = 0;  // index into what was asked for
  // CAMPAIGN: no ad of its campaign can be had now, beside those of the slots
  // that are not refused.
  v1::Refusal::Level level = v1::Refusal::AD;
  // What an empty slot says: BUDGET or FREQUENCY_CAP.
  v1::NoAdReason reason = v1::NO_AD_REASON_BUDGET;
};

// Thread-safe. One for budgets, one for caps.
class Admission {
 public:
  virtual ~Admission() = default;

  // Adds what holds for a request of `context` to *terms (which the pipeline
  // cleared). Hot path.
  virtual void Begin(const AdIndex& index, const v1::Context& context,
                     AdmissionTerms* terms) = 0;

  // Takes what the slots of decision `id` need, all of it or nothing. Slots
  // that cannot be had are appended to *refused; none: all was taken. At most
  // one Reserve of an id is in force: Release comes before the next.
  virtual void Reserve(const AdIndex& index, const v1::Context& context,
                       const DecisionId& id,
                       absl::Span<const AdmissionSlot> slots,
                       std::vector<SlotRefusal>* refused) = 0;

  // Gives back what Reserve took for `id`.
  virtual void Release(const DecisionId& id) = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_ADMISSION_H_
