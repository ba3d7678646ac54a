// The budgets of all campaigns while the server runs: exact sums in memory that
// requests take from, written behind them to a LedgerStore.
//
//   Reserve -----> CampaignAccount (its own lock) --.
//   OnEvent -----> the reservation's shard ----------+-> entries of the shard
//   RunOnce: late events, expiry -------------------'      |
//            every few milliseconds: all entries, one batch v  LedgerStore
//
// A request never waits for the disk. When the disk fails, entries wait in
// memory; beyond max_backlog, reservations are kept in memory only.
#ifndef ADRANK_SERVER_BUDGET_LEDGER_H_
#define ADRANK_SERVER_BUDGET_LEDGER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"
#include "proto/events.pb.h"
#include "server/budget/account.h"
#include "storage/decision_id.h"
#include "storage/ledger_store.h"

namespace adrank {

// A campaign in the ledger; never freed while the ledger lives.
class LedgerCampaign;

// An ad to be served, of a campaign that pays.
struct LedgerSlot {
  LedgerCampaign* campaign = nullptr;
  uint8_t position = 0;
  v1::BidType bid_type = v1::BID_TYPE_CPC;
  int64_t price_micros = 0;  // of one billable event
  float pctr = 0;
};

// What a decision of the event log says of one of its ads.
struct LoggedSlot {
  std::string campaign_id;
  v1::BidType bid_type = v1::BID_TYPE_CPC;
  int64_t price_micros = 0;
  float pctr = 0;
  bool test = false;
  bool named_by_caller = false;
};

// What became of a billable event.
enum class Charge : uint8_t {
  kBilled,
  kNoBudget,         // the budget has no room: served, not billed
  kTooLate,          // after BudgetPolicy::billing_ms
  kUnknownDecision,  // the event log has no such ad: nothing says what it costs
  kNotCharged,       // a test, or an ad that only the caller knows
};
inline constexpr size_t kCharges = 5;
// "billed", "no_budget", ...: labels of metrics.
absl::string_view ChargeName(Charge charge);

// See CampaignGate. Both in (0, 1].
struct CampaignPace {
  float multiplier = 1;
  float participation = 1;
};

// Where a campaign stands.
struct CampaignSpend {
  std::string campaign_id;
  v1::Budget budget;
  CampaignDay day;
  WideMicros spent_today = 0, spent_total = 0;
  // By the policy: see BudgetBook::Held.
  WideMicros reserved_today = 0, reserved_total = 0;
  WideMicros open = 0;  // full prices of open decisions
  WideMicros free = 0;  // of the lesser budget; the largest when unlimited
  WideMicros expected_today = 0;
  uint64_t served_today = 0, refused_today = 0;
  WideMicros unbilled = 0;
  uint64_t unbilled_events = 0;
  bool closed = false;
  CampaignPace pace;
};

struct LedgerStats {
  uint64_t campaigns = 0;
  uint64_t closed = 0;  // of them now
  uint64_t open_reservations = 0;
  uint64_t reserved_slots = 0;  // since the start, as all below
  uint64_t refused_slots = 0;
  uint64_t expired_slots = 0;
  std::array<uint64_t, kCharges> charges = {};
  WideMicros billed_micros = 0;
  uint64_t late_events = 0;      // that found no reservation
  uint64_t unwritten_slots = 0;  // reservations that are in memory only
  uint64_t write_failures = 0;
  uint64_t backlog = 0;  // entries that wait for the disk, now
};

// Thread-safe. No call but RunOnce, Replay and Open touches the disk.
class Ledger {
 public:
  struct Options {
    BudgetPolicy policy;
    // Entries that may wait for the disk: some 56 bytes each.
    size_t max_backlog = 4 << 20;
    // Sync to the disk about once a second.
    bool sync = true;
  };
  // What the event log knows of an ad; NotFound when it has no such decision or
  // ad. Called by RunOnce only.
  using Lookup =
      std::function<absl::StatusOr<LoggedSlot>(const DecisionId&, uint8_t)>;
  // Told when a campaign closes, opens or is given another pace; under a lock of
  // the campaign's, so it must not call back.
  using GateListener =
      std::function<void(LedgerCampaign*, bool closed, CampaignPace pace)>;

  // Goes on from what the store holds. `clock` must outlive the ledger.
  static absl::StatusOr<std::unique_ptr<Ledger>> Open(
      std::unique_ptr<LedgerStore> store, const Options& options,
      const Clock* clock);
  // Writes nothing: see Flush.
  ~Ledger();

  // Before any other thread calls.
  void SetLookup(Lookup lookup) { lookup_ = std::move(lookup); }
  void SetGateListener(GateListener listener) {
    listener_ = std::move(listener);
  }

  // The campaign of that id, made when there was none.
  LedgerCampaign* Campaign(absl::string_view id);
  // Null when there is none.
  LedgerCampaign* FindCampaign(absl::string_view id) const;
  // The catalogue's terms, of version `version`; older ones are ignored.
  void SetTerms(LedgerCampaign* campaign, const v1::Budget& budget,
                const absl::TimeZone& zone, int64_t version);
  void SetPace(LedgerCampaign* campaign, CampaignPace pace);
  // Calls the gate listener with what holds now.
  void TellGate(LedgerCampaign* campaign);
  CampaignSpend Spend(const LedgerCampaign* campaign) const;
  // By id.
  std::vector<LedgerCampaign*> Campaigns() const;

  // Takes what all slots need, or nothing; the day is that of id.ms. Indices of
  // slots that cannot be had beside the others are appended to *refused. Hot
  // path.
  void Reserve(const DecisionId& id, absl::Span<const LedgerSlot> slots,
               std::vector<uint32_t>* refused);
  // The ads were not shown after all.
  void Release(const DecisionId& id);

  // Events are appended to the event log between Begin and End; OnEvent, before
  // End, tells those that it stored for the first time and whose decision it
  // knows. Thus the ledger can say which events a crash may have kept from it.
  int64_t BeginEvents();
  // `received_ms` is when the log received it, or what BeginEvents gave.
  void OnEvent(const DecisionId& id, uint8_t position, v1::EventType type,
               int64_t received_ms);
  void EndEvents(int64_t begun);
  // Of an event whose decision the log does not know.
  void OnUnknownDecision() { Count(Charge::kUnknownDecision); }
  // The log failed and may have stored an event nevertheless: the next start
  // looks whether it did.
  void OnUncertainEvent(int64_t received_ms);

  // Events of the log received before are in the ledger, whatever a crash did.
  int64_t covered_ms() const { return covered_ms_; }
  // An event of the log that a crash may have kept from the ledger; it is
  // charged unless it was.
  absl::Status Replay(const DecisionId& id, uint8_t position,
                      v1::EventType type, int64_t received_ms);

  // What the background thread does: charges late events, lets reservations
  // expire, closes and opens campaigns as days pass, writes.
  absl::Status RunOnce() { return Run(/*force_sync=*/false); }
  // The same; then all of it is on disk.
  absl::Status Flush() { return Run(/*force_sync=*/true); }

  absl::StatusOr<LedgerAudit> Audit() { return store_->Audit(); }
  LedgerStats Stats() const;
  const BudgetPolicy& policy() const { return options_.policy; }

 private:
  struct Held {
    LedgerCampaign* campaign = nullptr;
    int64_t price_micros = 0;
    int32_t day = 0;
    float pctr = 0;
    uint8_t position = 0;
    v1::BidType bid_type = v1::BID_TYPE_CPC;
    Hold hold = Hold::kExpected;
    bool written = true;   // its kReserve is an entry
    bool settled = false;  // billed or refused: holds nothing any more

    SlotCost cost() const { return SlotCost::Of(bid_type, price_micros, pctr); }
  };
  using Slots = absl::InlinedVector<Held, 1>;
  struct alignas(64) Shard {
    mutable absl::Mutex mu;
    absl::flat_hash_map<DecisionId, Slots> held ABSL_GUARDED_BY(mu);
    std::deque<DecisionId> by_time ABSL_GUARDED_BY(mu);
    std::vector<LedgerEntry> entries ABSL_GUARDED_BY(mu);
  };
  struct LateEvent {
    DecisionId id;
    uint8_t position = 0;
    v1::EventType type = v1::EVENT_TYPE_UNSPECIFIED;
    int64_t received_ms = 0;
  };
  // 64: threads rarely meet, and all locks are taken in some microseconds.
  static constexpr size_t kShards = 64;

  Ledger(std::unique_ptr<LedgerStore> store, const Options& options,
         const Clock* clock);
  void Restore(const LedgerContents& contents);
  Shard* ShardOf(const DecisionId& id);
  static LedgerEntry Entry(LedgerEntry::Kind kind, const DecisionId& id,
                           const Held& held, v1::EventType event);
  void Append(Shard* shard, const LedgerEntry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard->mu);
  void Count(Charge charge);
  void CountBilled(int64_t micros);
  // Books the charge of an event and appends its entry.
  void Book(const DecisionId& id, const Held& held, v1::EventType type,
            bool billed);
  void GiveBack(const Held& held, bool served);
  void UpdateGate(LedgerCampaign* campaign) const;
  std::vector<LedgerCampaign*> Unsorted() const;

  absl::Status Run(bool force_sync);
  // Its parts.
  int64_t CoveredNow() const;
  absl::Status ChargeLate(const LateEvent& event);
  void ChargeAllLate();
  void Expire(int64_t now_ms);
  void Refresh(int64_t now_ms);
  absl::Status WriteEntries(int64_t now_ms, int64_t covered_ms, bool force_sync)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(run_mu_);
  void PruneSometimes(int64_t now_ms) ABSL_EXCLUSIVE_LOCKS_REQUIRED(run_mu_);

  // Constant after construction.
  const Options options_;
  const Clock* const clock_;
  const std::unique_ptr<LedgerStore> store_;
  Lookup lookup_;
  GateListener listener_;

  mutable absl::Mutex campaigns_mu_;
  absl::flat_hash_map<std::string, std::unique_ptr<LedgerCampaign>> campaigns_
      ABSL_GUARDED_BY(campaigns_mu_);

  std::array<Shard, kShards> shards_;
  std::atomic<uint64_t> backlog_{0};

  mutable absl::Mutex events_mu_;
  std::multiset<int64_t> begun_ ABSL_GUARDED_BY(events_mu_);
  std::vector<LateEvent> late_ ABSL_GUARDED_BY(events_mu_);
  // Events since this moment were given up: the next start replays them.
  int64_t lost_since_ms_ ABSL_GUARDED_BY(events_mu_) = INT64_MAX;

  // Held by Run; taken before all others.
  absl::Mutex run_mu_;
  std::vector<LedgerEntry> writing_ ABSL_GUARDED_BY(run_mu_);
  uint64_t batch_ ABSL_GUARDED_BY(run_mu_) = 0;  // the last that was written
  // Entries of the next one, if it was tried and failed.
  std::optional<size_t> failed_part_ ABSL_GUARDED_BY(run_mu_);
  int64_t refreshed_ms_ ABSL_GUARDED_BY(run_mu_) = 0;
  int64_t pruned_ms_ ABSL_GUARDED_BY(run_mu_) = 0;
  int64_t written_ms_ ABSL_GUARDED_BY(run_mu_) = 0;
  int64_t synced_ms_ ABSL_GUARDED_BY(run_mu_) = 0;
  bool failing_ ABSL_GUARDED_BY(run_mu_) = false;
  std::atomic<int64_t> covered_ms_{0};

  std::atomic<uint64_t> reserved_{0}, refused_{0}, expired_{0}, late_count_{0},
      unwritten_{0}, write_failures_{0};
  std::array<std::atomic<uint64_t>, kCharges> charges_{};
  mutable absl::Mutex billed_mu_;
  WideMicros billed_ ABSL_GUARDED_BY(billed_mu_) = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_BUDGET_LEDGER_H_
