// Hot path: Reserve. Allocates for the reservation, locks the campaigns and one
// shard, each on its own and briefly.
#include "server/budget/ledger.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

constexpr int64_t kRefreshMs = 1000;
constexpr int64_t kSyncMs = 1000;
constexpr int64_t kPruneMs = 600'000;
constexpr size_t kPruneLimit = 10'000;
// Days whose accounts are kept for reports.
constexpr int32_t kKeptDays = 40;
// Written although nothing happened, so that a restart has less to look at.
constexpr int64_t kIdleWriteMs = 10'000;
// Entries of one batch: some 10 MB.
constexpr size_t kBatchEntries = 1 << 16;
constexpr size_t kMaxLate = 1 << 20;
// What is from further ahead was made by a clock that was wrong: as if it had
// expired. Else nothing behind it would, until that time comes.
constexpr int64_t kAheadMs = 2 * DecisionIdGenerator::kWaitedOutMs;
// Expired in one go from a shard, so that its lock is not held for long.
constexpr size_t kExpireChunk = 256;

// What was done at `last_ms` is to be done again; also when the clock has been
// put back since.
bool IsDue(int64_t now_ms, int64_t last_ms, int64_t period_ms) {
  return now_ms < last_ms || now_ms - last_ms >= period_ms;
}

bool IsBillable(v1::BidType bid_type, v1::EventType event) {
  return event == (bid_type == v1::BID_TYPE_CPM ? v1::EVENT_TYPE_IMPRESSION
                                                : v1::EVENT_TYPE_CLICK);
}

}  // namespace

absl::string_view ChargeName(Charge charge) {
  switch (charge) {
    case Charge::kBilled:
      return "billed";
    case Charge::kNoBudget:
      return "no_budget";
    case Charge::kTooLate:
      return "too_late";
    case Charge::kUnknownDecision:
      return "unknown_decision";
    case Charge::kNotCharged:
      return "not_charged";
  }
  return "";
}

class LedgerCampaign {
 public:
  LedgerCampaign(absl::string_view id, const BudgetPolicy* policy)
      : id(id), account(policy) {}

  const std::string id;
  mutable absl::Mutex mu;
  CampaignAccount account ABSL_GUARDED_BY(mu);
  int64_t version ABSL_GUARDED_BY(mu) = 0;
  bool closed ABSL_GUARDED_BY(mu) = false;
  CampaignPace pace ABSL_GUARDED_BY(mu);
};

Ledger::Ledger(std::unique_ptr<LedgerStore> store, const Options& options,
               const Clock* clock)
    : options_(options), clock_(clock), store_(std::move(store)) {}

Ledger::~Ledger() = default;

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Open(
    std::unique_ptr<LedgerStore> store, const Options& options,
    const Clock* clock) {
  ASSIGN_OR_RETURN(const LedgerContents contents, store->Load());
  std::unique_ptr<Ledger> ledger(new Ledger(std::move(store), options, clock));
  ledger->Restore(contents);
  if (contents.covered_ms == 0) {
    // What was reported before there was a ledger is not charged.
    RETURN_IF_ERROR(ledger->Flush());
  }
  return ledger;
}

void Ledger::Restore(const LedgerContents& contents) {
  covered_ms_ = contents.covered_ms;
  absl::MutexLock run(&run_mu_);
  batch_ = contents.batch;
  for (const LedgerContents::Account& a : contents.accounts) {
    LedgerCampaign* campaign = Campaign(a.campaign);
    absl::MutexLock lock(&campaign->mu);
    campaign->account.Restore(a.day, a.account);
  }
  for (const LedgerContents::Reservation& r : contents.reservations) {
    Held held;
    held.campaign = Campaign(r.campaign);
    held.price_micros = r.slot.micros;
    held.day = r.slot.day;
    held.pctr = r.slot.pctr;
    held.position = r.slot.position;
    held.bid_type = r.slot.bid_type;
    held.hold = r.slot.full ? Hold::kFull : Hold::kExpected;
    {
      absl::MutexLock lock(&held.campaign->mu);
      held.campaign->account.RestoreOpen(held.day, held.cost(), held.hold);
    }
    Shard* shard = ShardOf(r.slot.id);
    absl::MutexLock lock(&shard->mu);
    Slots& slots = shard->held[r.slot.id];
    if (slots.empty()) shard->by_time.push_back(r.slot.id);
    slots.push_back(held);
  }
}

Ledger::Shard* Ledger::ShardOf(const DecisionId& id) {
  return &shards_[(id.sequence ^ id.ms) % kShards];
}

LedgerCampaign* Ledger::Campaign(absl::string_view id) {
  absl::MutexLock lock(&campaigns_mu_);
  auto& campaign = campaigns_[id];
  if (campaign == nullptr) {
    campaign = std::make_unique<LedgerCampaign>(id, &options_.policy);
  }
  return campaign.get();
}

LedgerCampaign* Ledger::FindCampaign(absl::string_view id) const {
  absl::ReaderMutexLock lock(&campaigns_mu_);
  const auto it = campaigns_.find(id);
  return it == campaigns_.end() ? nullptr : it->second.get();
}

std::vector<LedgerCampaign*> Ledger::Unsorted() const {
  std::vector<LedgerCampaign*> all;
  absl::ReaderMutexLock lock(&campaigns_mu_);
  all.reserve(campaigns_.size());
  for (const auto& [id, campaign] : campaigns_) all.push_back(campaign.get());
  return all;
}

std::vector<LedgerCampaign*> Ledger::Campaigns() const {
  std::vector<LedgerCampaign*> all = Unsorted();
  std::sort(all.begin(), all.end(),
            [](const auto* a, const auto* b) { return a->id < b->id; });
  return all;
}

void Ledger::SetTerms(LedgerCampaign* campaign, const v1::Budget& budget,
                      const absl::TimeZone& zone, int64_t version) {
  absl::MutexLock lock(&campaign->mu);
  if (version < campaign->version) return;
  campaign->version = version;
  campaign->account.SetTerms(budget, zone, clock_->NowMs());
  UpdateGate(campaign);
}

void Ledger::SetPace(LedgerCampaign* campaign, CampaignPace pace) {
  absl::MutexLock lock(&campaign->mu);
  campaign->pace = pace;
  if (listener_) listener_(campaign, campaign->closed, campaign->pace);
}

void Ledger::TellGate(LedgerCampaign* campaign) {
  absl::MutexLock lock(&campaign->mu);
  if (listener_) listener_(campaign, campaign->closed, campaign->pace);
}

// REQUIRES: campaign->mu is held.
void Ledger::UpdateGate(LedgerCampaign* campaign) const {
  campaign->mu.AssertHeld();
  const bool closed = campaign->account.Closed();
  if (closed == campaign->closed) return;
  campaign->closed = closed;
  if (listener_) listener_(campaign, closed, campaign->pace);
}

CampaignSpend Ledger::Spend(const LedgerCampaign* campaign) const {
  CampaignSpend spend;
  spend.campaign_id = campaign->id;
  absl::MutexLock lock(&campaign->mu);
  const CampaignAccount& account = campaign->account;
  const CampaignAccount::Day today = account.Today();
  const double deviations = options_.policy.deviations;
  spend.budget = account.terms();
  spend.day = account.today();
  spend.spent_today = today.book.spent;
  spend.spent_total = account.life().spent;
  spend.reserved_today = today.book.Held(deviations);
  spend.reserved_total = account.life().Held(deviations);
  spend.open = account.life().full + account.life().soft;
  spend.free = account.Free();
  spend.expected_today = today.expected;
  spend.served_today = today.served;
  spend.refused_today = today.refused;
  spend.unbilled = account.unbilled();
  spend.unbilled_events = account.unbilled_events();
  spend.closed = campaign->closed;
  spend.pace = campaign->pace;
  return spend;
}

LedgerEntry Ledger::Entry(LedgerEntry::Kind kind, const DecisionId& id,
                          const Held& held, v1::EventType event) {
  LedgerEntry entry;
  entry.kind = kind;
  entry.reserved = held.written;
  entry.event = event;
  entry.slot = {
      id,       held.position,     held.bid_type, held.hold == Hold::kFull,
      held.day, held.price_micros, held.pctr};
  entry.campaign = &held.campaign->id;
  return entry;
}

void Ledger::Append(Shard* shard, const LedgerEntry& entry) {
  shard->entries.push_back(entry);
  backlog_.fetch_add(1, std::memory_order_relaxed);
}

void Ledger::Count(Charge charge) {
  charges_[static_cast<size_t>(charge)].fetch_add(1, std::memory_order_relaxed);
}

void Ledger::Reserve(const DecisionId& id, absl::Span<const LedgerSlot> slots,
                     std::vector<uint32_t>* refused) {
  Slots taken;
  const size_t refused_before = refused->size();
  for (uint32_t i = 0; i < slots.size(); ++i) {
    const LedgerSlot& slot = slots[i];
    Held held;
    held.campaign = slot.campaign;
    held.price_micros = slot.price_micros;
    held.pctr = slot.pctr;
    held.position = slot.position;
    held.bid_type = slot.bid_type;
    const SlotCost cost = held.cost();
    absl::MutexLock lock(&slot.campaign->mu);
    CampaignAccount& account = slot.campaign->account;
    held.day = account.DayNumber(static_cast<int64_t>(id.ms));
    held.hold = account.Take(held.day, cost);
    // What is held as expected leaves some; what follows will tell.
    if (held.hold != Hold::kExpected) UpdateGate(slot.campaign);
    if (held.hold == Hold::kRefused) {
      refused->push_back(i);
    } else {
      taken.push_back(held);
    }
  }
  if (refused->size() > refused_before) {
    refused_.fetch_add(refused->size() - refused_before,
                       std::memory_order_relaxed);
    for (const Held& held : taken) GiveBack(held, /*served=*/false);
    return;
  }
  reserved_.fetch_add(taken.size(), std::memory_order_relaxed);
  const bool written =
      backlog_.load(std::memory_order_relaxed) < options_.max_backlog;
  if (!written) unwritten_.fetch_add(taken.size(), std::memory_order_relaxed);
  Shard* shard = ShardOf(id);
  absl::MutexLock lock(&shard->mu);
  for (Held& held : taken) {
    held.written = written;
    if (written) {
      Append(shard, Entry(LedgerEntry::Kind::kReserve, id, held,
                          v1::EVENT_TYPE_UNSPECIFIED));
    }
  }
  shard->by_time.push_back(id);
  shard->held.insert_or_assign(id, std::move(taken));
}

void Ledger::GiveBack(const Held& held, bool served) {
  absl::MutexLock lock(&held.campaign->mu);
  held.campaign->account.GiveBack(held.day, held.cost(), held.hold, served);
  if (held.campaign->closed) UpdateGate(held.campaign);
}

void Ledger::Release(const DecisionId& id) {
  Shard* shard = ShardOf(id);
  Slots slots;
  {
    absl::MutexLock lock(&shard->mu);
    const auto it = shard->held.find(id);
    if (it == shard->held.end()) return;
    slots = std::move(it->second);
    shard->held.erase(it);  // by_time finds nothing under the id
    for (const Held& held : slots) {
      if (held.settled || !held.written) continue;
      Append(shard, Entry(LedgerEntry::Kind::kRelease, id, held,
                          v1::EVENT_TYPE_UNSPECIFIED));
    }
  }
  for (const Held& held : slots) {
    if (!held.settled) GiveBack(held, /*served=*/false);
  }
}

int64_t Ledger::BeginEvents() {
  const int64_t now_ms = clock_->NowMs();
  absl::MutexLock lock(&events_mu_);
  begun_.insert(now_ms);
  return now_ms;
}

void Ledger::EndEvents(int64_t begun) {
  absl::MutexLock lock(&events_mu_);
  begun_.erase(begun_.find(begun));
}

void Ledger::OnEvent(const DecisionId& id, uint8_t position, v1::EventType type,
                     int64_t received_ms) {
  Shard* shard = ShardOf(id);
  Held held;
  bool found = false;
  {
    absl::MutexLock lock(&shard->mu);
    const auto it = shard->held.find(id);
    if (it != shard->held.end()) {
      for (Held& h : it->second) {
        if (h.position != position) continue;
        if (h.settled || !IsBillable(h.bid_type, type)) return;
        held = h;
        h.settled = found = true;
      }
    }
  }
  if (found) {
    bool billed;
    {
      absl::MutexLock lock(&held.campaign->mu);
      billed = held.campaign->account.Bill(held.day, held.cost(), held.hold);
      UpdateGate(held.campaign);
    }
    return Book(id, held, type, billed);
  }
  late_count_.fetch_add(1, std::memory_order_relaxed);
  {
    absl::MutexLock lock(&events_mu_);
    if (late_.size() < kMaxLate) {
      late_.push_back({id, position, type, received_ms});
      return;
    }
  }
  OnUncertainEvent(received_ms);
}

void Ledger::OnUncertainEvent(int64_t received_ms) {
  absl::MutexLock lock(&events_mu_);
  lost_since_ms_ = std::min(lost_since_ms_, received_ms);
}

void Ledger::Book(const DecisionId& id, const Held& held, v1::EventType type,
                  bool billed) {
  using Kind = LedgerEntry::Kind;
  Count(billed ? Charge::kBilled : Charge::kNoBudget);
  if (billed) {
    absl::MutexLock lock(&billed_mu_);
    billed_ += held.price_micros;
  }
  Shard* shard = ShardOf(id);
  absl::MutexLock lock(&shard->mu);
  Append(shard, Entry(billed ? Kind::kBill : Kind::kRefuse, id, held, type));
}

absl::Status Ledger::Replay(const DecisionId& id, uint8_t position,
                            v1::EventType type, int64_t received_ms) {
  ASSIGN_OR_RETURN(const bool settled, store_->IsSettled(id, position, type));
  if (!settled) OnEvent(id, position, type, received_ms);
  return absl::OkStatus();
}

absl::Status Ledger::ChargeLate(const LateEvent& event) {
  if (event.received_ms - static_cast<int64_t>(event.id.ms) >
      options_.policy.billing_ms) {
    Count(Charge::kTooLate);
    return absl::OkStatus();
  }
  if (!lookup_) return absl::UnavailableError("no event log");
  absl::StatusOr<LoggedSlot> logged = lookup_(event.id, event.position);
  if (absl::IsNotFound(logged.status())) {
    Count(Charge::kUnknownDecision);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(logged.status());
  if (!IsBillable(logged->bid_type, event.type)) return absl::OkStatus();
  Held held;
  held.campaign = FindCampaign(logged->campaign_id);
  if (logged->test || logged->named_by_caller || held.campaign == nullptr ||
      logged->price_micros <= 0) {
    Count(Charge::kNotCharged);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const bool settled,
                   store_->IsSettled(event.id, event.position, event.type));
  if (settled) return absl::OkStatus();
  held.price_micros = logged->price_micros;
  held.pctr = logged->pctr;
  held.position = event.position;
  held.bid_type = logged->bid_type;
  held.written = false;
  bool billed;
  {
    absl::MutexLock lock(&held.campaign->mu);
    CampaignAccount& account = held.campaign->account;
    held.day = account.DayNumber(static_cast<int64_t>(event.id.ms));
    billed = account.BillLate(held.day, held.cost());
    UpdateGate(held.campaign);
  }
  Book(event.id, held, event.type, billed);
  return absl::OkStatus();
}

void Ledger::ChargeAllLate() {
  std::vector<LateEvent> events;
  {
    absl::MutexLock lock(&events_mu_);
    events = late_;  // stay there meanwhile: CoveredNow looks at them
  }
  // A log that fails is asked again the next time.
  size_t done = 0;
  while (done < events.size() && ChargeLate(events[done]).ok()) ++done;
  absl::MutexLock lock(&events_mu_);
  late_.erase(late_.begin(), late_.begin() + done);
}

// Everything received before is an entry: what is between Begin and End, or
// late, may not be.
int64_t Ledger::CoveredNow() const {
  int64_t covered = clock_->NowMs();
  absl::MutexLock lock(&events_mu_);
  if (!begun_.empty()) covered = std::min(covered, *begun_.begin());
  for (const LateEvent& event : late_) {
    covered = std::min(covered, event.received_ms);
  }
  return std::min(covered, lost_since_ms_);
}

void Ledger::Expire(int64_t now_ms) {
  std::vector<Held> expired;
  for (Shard& shard : shards_) {
    bool more = true;
    while (more) {
      expired.clear();
      {
        absl::MutexLock lock(&shard.mu);
        size_t count = 0;
        for (more = false; !shard.by_time.empty(); ++count) {
          const DecisionId id = shard.by_time.front();
          const auto made_ms = static_cast<int64_t>(id.ms);
          if (made_ms + options_.policy.reservation_ms > now_ms &&
              made_ms <= now_ms + kAheadMs) {
            break;
          }
          if ((more = count == kExpireChunk)) break;
          shard.by_time.pop_front();
          const auto it = shard.held.find(id);
          if (it == shard.held.end()) continue;
          for (const Held& held : it->second) {
            if (held.settled) continue;
            expired.push_back(held);
            if (!held.written) continue;
            Append(&shard, Entry(LedgerEntry::Kind::kRelease, id, held,
                                 v1::EVENT_TYPE_UNSPECIFIED));
          }
          shard.held.erase(it);
        }
      }
      for (const Held& held : expired) GiveBack(held, /*served=*/true);
      expired_.fetch_add(expired.size(), std::memory_order_relaxed);
    }
  }
}

void Ledger::Refresh(int64_t now_ms) {
  for (LedgerCampaign* campaign : Unsorted()) {
    absl::MutexLock lock(&campaign->mu);
    campaign->account.Roll(now_ms);
    UpdateGate(campaign);
  }
}

absl::Status Ledger::WriteEntries(int64_t now_ms, int64_t covered_ms,
                                  bool force_sync) {
  for (Shard& shard : shards_) {
    absl::MutexLock lock(&shard.mu);
    writing_.insert(writing_.end(), shard.entries.begin(), shard.entries.end());
    shard.entries.clear();
  }
  if (writing_.empty() && !force_sync &&
      !IsDue(now_ms, written_ms_, kIdleWriteMs)) {
    return absl::OkStatus();
  }
  const bool sync =
      force_sync || (options_.sync && IsDue(now_ms, synced_ms_, kSyncMs));
  size_t begin = 0;
  absl::Status status;
  do {
    const size_t left = writing_.size() - begin;
    const size_t size = failed_part_.value_or(std::min(kBatchEntries, left));
    const bool last = size == left;
    status = store_->Write(
        batch_ + 1, absl::MakeConstSpan(writing_).subspan(begin, size),
        last ? covered_ms : covered_ms_.load(), sync && last);
    if (!status.ok()) {
      failed_part_ = size;
      break;
    }
    failed_part_.reset();
    ++batch_;
    begin += size;
  } while (begin < writing_.size());
  writing_.erase(writing_.begin(), writing_.begin() + begin);
  backlog_.fetch_sub(begin, std::memory_order_relaxed);
  if (!status.ok()) return status;
  covered_ms_ = covered_ms;
  written_ms_ = now_ms;
  if (sync) synced_ms_ = now_ms;
  return status;
}

void Ledger::PruneSometimes(int64_t now_ms) {
  if (!IsDue(now_ms, pruned_ms_, kPruneMs)) return;
  const auto today = static_cast<int32_t>(now_ms / 86'400'000);
  const absl::StatusOr<bool> more = store_->Prune(
      now_ms - 2 * options_.policy.billing_ms, today - kKeptDays, kPruneLimit);
  if (!more.ok()) LOG(ERROR) << "ledger: " << more.status();
  if (!more.ok() || !*more) pruned_ms_ = now_ms;
}

absl::Status Ledger::Run(bool force_sync) {
  absl::MutexLock lock(&run_mu_);
  const int64_t now_ms = clock_->NowMs();
  ChargeAllLate();
  Expire(now_ms);
  if (IsDue(now_ms, refreshed_ms_, kRefreshMs)) {
    refreshed_ms_ = now_ms;
    Refresh(now_ms);
  }
  // Before the entries are taken: what ends meanwhile is among them.
  const int64_t covered_ms = CoveredNow();
  const absl::Status status = WriteEntries(now_ms, covered_ms, force_sync);
  if (status.ok() == failing_) {
    failing_ = !status.ok();
    if (failing_) {
      LOG(ERROR) << "ledger: " << status << "; entries wait in memory";
    } else {
      LOG(WARNING) << "ledger: written again";
    }
  }
  if (!status.ok()) {
    write_failures_.fetch_add(1, std::memory_order_relaxed);
    return status;
  }
  PruneSometimes(now_ms);
  return absl::OkStatus();
}

LedgerStats Ledger::Stats() const {
  LedgerStats stats;
  for (const LedgerCampaign* campaign : Unsorted()) {
    absl::MutexLock lock(&campaign->mu);
    ++stats.campaigns;
    stats.closed += campaign->closed;
  }
  for (const Shard& shard : shards_) {
    absl::MutexLock lock(&shard.mu);
    stats.open_reservations += shard.held.size();
  }
  stats.reserved_slots = reserved_;
  stats.refused_slots = refused_;
  stats.expired_slots = expired_;
  for (size_t i = 0; i < kCharges; ++i) stats.charges[i] = charges_[i];
  stats.late_events = late_count_;
  stats.unwritten_slots = unwritten_;
  stats.write_failures = write_failures_;
  stats.backlog = backlog_;
  absl::MutexLock lock(&billed_mu_);
  stats.billed_micros = billed_;
  return stats;
}

}  // namespace adrank
