// Hot path: no allocation after warm-up but the growth of rows; the locks are
// the user's and the cache's, held for as long as the store takes for one row.
#include "server/caps/frequency_caps.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/trigger/ad_index.h"

namespace adrank {
namespace {

constexpr uint32_t kDefaultReservationSeconds = 3600;
constexpr uint32_t kMaxReservationSeconds = 7 * 86400;

uint32_t ReservationSeconds(const v1::CapConfig& config) {
  return config.reservation_seconds() == 0 ? kDefaultReservationSeconds
                                           : config.reservation_seconds();
}

void Count(std::atomic<uint64_t>* counter, uint64_t n = 1) {
  counter->fetch_add(n, std::memory_order_relaxed);
}

// The capped entities that an ad belongs to, the widest first.
struct Entities {
  const CappedEntity* at[kCapLevels];
  size_t size = 0;
  const CappedEntity* const* begin() const { return at; }
  const CappedEntity* const* end() const { return at + size; }
};

Entities EntitiesOf(const AdIndex& index, uint32_t ad) {
  const CapTable& table = index.caps();
  const IndexedAd& entry = index.ad(ad);
  Entities out;
  for (const CappedEntity* entity :
       {table.Of(CapLevel::kCampaign, entry.campaign),
        table.Of(CapLevel::kAdGroup, entry.group),
        table.Of(CapLevel::kAd, ad)}) {
    if (entity != nullptr) out.at[out.size++] = entity;
  }
  return out;
}

v1::Refusal::Level LevelOf(CapLevel level) {
  return level == CapLevel::kCampaign  ? v1::Refusal::CAMPAIGN
         : level == CapLevel::kAdGroup ? v1::Refusal::AD_GROUP
                                       : v1::Refusal::AD;
}

SlotRefusal Refuse(uint32_t slot, v1::Refusal::Level level) {
  SlotRefusal refusal;
  refusal.slot = slot;
  refusal.level = level;
  refusal.reason = v1::NO_AD_REASON_FREQUENCY_CAP;
  return refusal;
}

// All slots whose ads have caps.
void RefuseCapped(const AdIndex& index, absl::Span<const AdmissionSlot> slots,
                  std::vector<SlotRefusal>* refused) {
  for (uint32_t i = 0; i < slots.size(); ++i) {
    if (EntitiesOf(index, slots[i].ad).size != 0) {
      refused->push_back(Refuse(i, v1::Refusal::AD));
    }
  }
}

bool AnyCapped(const AdIndex& index, absl::Span<const AdmissionSlot> slots) {
  return std::any_of(slots.begin(), slots.end(), [&](const AdmissionSlot& s) {
    return EntitiesOf(index, s.ad).size != 0;
  });
}

CapRecord ReservationOf(const CapTable& table, const CappedEntity& entity,
                        const DecisionId& id, uint32_t position) {
  CapRecord r;
  r.key = entity.key;
  r.ms = static_cast<int64_t>(id.ms);
  r.keep_s = static_cast<uint32_t>(table.caps(entity).back().window_ms / 1000);
  r.sequence = id.sequence;
  r.node = id.node;
  r.position = static_cast<uint8_t>(position);
  return r;
}

// What the slots of one answer take, beside what the row has.
class Slate {
 public:
  Slate(const CapTable& table, const CapRow& row, int64_t at_ms,
        const CapTimes& times)
      : table_(table), row_(row), at_ms_(at_ms), times_(times) {
    Taken().clear();
  }

  // The widest entity that has no room for one more; else takes it.
  const CappedEntity* Take(const Entities& entities) {
    for (const CappedEntity* entity : entities) {
      if (CapReached(RecordsOf(row_, entity->key), table_.caps(*entity),
                     TakenOf(entity) + 1, at_ms_, times_)) {
        return entity;
      }
    }
    for (const CappedEntity* entity : entities) Taken().push_back(entity);
    return nullptr;
  }
  size_t records() const { return Taken().size(); }

 private:
  static std::vector<const CappedEntity*>& Taken() {
    thread_local std::vector<const CappedEntity*> taken;
    return taken;
  }
  uint64_t TakenOf(const CappedEntity* entity) const {
    return static_cast<uint64_t>(
        std::count(Taken().begin(), Taken().end(), entity));
  }

  const CapTable& table_;
  const CapRow& row_;
  const int64_t at_ms_;
  const CapTimes times_;
};

void AddCapped(const CappedEntity& entity, AdmissionTerms* terms) {
  std::vector<uint32_t>* numbers =
      entity.level == CapLevel::kCampaign  ? &terms->capped_campaigns
      : entity.level == CapLevel::kAdGroup ? &terms->capped_groups
                                           : &terms->capped_ads;
  numbers->insert(
      std::upper_bound(numbers->begin(), numbers->end(), entity.number),
      entity.number);
}

}  // namespace

absl::Duration FrequencyCaps::KeepDecisions(const v1::CapConfig& config) {
  return absl::Seconds(ReservationSeconds(config)) + kLate +
         absl::Milliseconds(kOrderGraceMs);
}

absl::Status FrequencyCaps::ValidateConfig(const v1::CapConfig& config) {
  if (!v1::CapConfig::UnknownUser_IsValid(config.unknown_user())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "caps.unknown_user: ", static_cast<int>(config.unknown_user()),
        " is not known"));
  }
  if (config.reservation_seconds() > kMaxReservationSeconds) {
    return absl::InvalidArgumentError(
        absl::StrCat("caps.reservation_seconds: ", config.reservation_seconds(),
                     " exceeds ", kMaxReservationSeconds));
  }
  return absl::OkStatus();
}

FrequencyCaps::FrequencyCaps(const v1::CapConfig& config, CapStore* store,
                             const Clock* clock, size_t cached_users)
    : deny_unknown_(config.unknown_user() == v1::CapConfig::DENY),
      reservation_ms_(int64_t{ReservationSeconds(config)} * 1000),
      store_(store),
      clock_(clock),
      cache_(cached_users) {}

CapTimes FrequencyCaps::Now() const {
  return {clock_->NowMs(), reservation_ms_, absl::ToInt64Milliseconds(kLate)};
}

absl::Status FrequencyCaps::Load(const CapUser& id, CachedUser* user) {
  if (user->damaged) {
    return absl::DataLossError("the user's row is damaged");
  }
  if (user->read) return absl::OkStatus();
  Count(&counters_.rows_read);
  const absl::Status status = store_->Read(id, &user->row);
  user->read = status.ok();
  if (status.ok()) return status;
  if (absl::IsDataLoss(status)) {
    user->damaged = true;
    Count(&counters_.rows_damaged);
    LOG(ERROR) << status.message()
               << "; its user gets no ads with caps until it is forgotten";
  } else {
    Count(&counters_.store_failures);
  }
  return status;
}

absl::Status FrequencyCaps::Store(const CapUser& id, CachedUser* user,
                                  absl::Span<const DecisionId> added,
                                  absl::Span<const DecisionId> removed) {
  const absl::Status status = store_->Write(id, user->row, added, removed);
  if (!status.ok()) Count(&counters_.store_failures);
  return status;
}

void FrequencyCaps::Begin(const AdIndex& index, const v1::Context& context,
                          AdmissionTerms* terms) {
  const CapTable& table = index.caps();
  if (table.empty()) return;
  if (context.user_id().empty()) {
    if (!deny_unknown_) return;
    Count(&counters_.unknown_denied);
    terms->denied = &table;
    return;
  }
  const CapUser id = CapUserOf(context.user_id());
  const UserCache::Use use(&cache_, id);
  CachedUser* user = use.get();
  absl::MutexLock lock(&user->mu);
  if (!store_->Writable() || !Load(id, user).ok()) {
    terms->denied = &table;
    return;
  }
  const CapTimes times = Now();
  const CapRow& row = user->row;
  for (size_t i = 0; i < row.size();) {
    const absl::Span<const CapRecord> records = RecordsOf(row, row[i].key);
    i += records.size();
    const CappedEntity* entity = table.Find(records[0].key);
    if (entity != nullptr &&
        CapReached(records, table.caps(*entity), 1, times.now_ms, times)) {
      AddCapped(*entity, terms);
    }
  }
}

void FrequencyCaps::Reserve(const AdIndex& index, const v1::Context& context,
                            const DecisionId& id,
                            absl::Span<const AdmissionSlot> slots,
                            std::vector<SlotRefusal>* refused) {
  const CapTable& table = index.caps();
  if (table.empty() || !AnyCapped(index, slots)) return;
  const size_t before = refused->size();
  if (!context.user_id().empty()) {
    ReserveFor(CapUserOf(context.user_id()), index, id, slots, refused);
  } else if (deny_unknown_) {
    RefuseCapped(index, slots, refused);
  }
  Count(&counters_.refused, refused->size() - before);
}

void FrequencyCaps::ReserveFor(const CapUser& user_id, const AdIndex& index,
                               const DecisionId& id,
                               absl::Span<const AdmissionSlot> slots,
                               std::vector<SlotRefusal>* refused) {
  const CapTable& table = index.caps();
  const UserCache::Use use(&cache_, user_id);
  CachedUser* user = use.get();
  absl::MutexLock lock(&user->mu);
  const CapTimes times = Now();
  const bool stale = times.now_ms - static_cast<int64_t>(id.ms) > kOrderGraceMs;
  if (stale || !Load(user_id, user).ok()) {
    return RefuseCapped(index, slots, refused);
  }
  thread_local std::vector<DecisionId> dropped;
  dropped.clear();
  Prune(times, &user->row, &dropped);
  const size_t before = refused->size();
  Slate slate(table, user->row, static_cast<int64_t>(id.ms), times);
  for (uint32_t i = 0; i < slots.size(); ++i) {
    if (const CappedEntity* full = slate.Take(EntitiesOf(index, slots[i].ad))) {
      refused->push_back(Refuse(i, LevelOf(full->level)));
    }
  }
  if (refused->size() == before &&
      user->row.size() + slate.records() > kMaxRecords) {
    Count(&counters_.rows_full);
    RefuseCapped(index, slots, refused);
  }
  if (refused->size() != before) return;
  uint64_t capped_slots = 0;
  for (const AdmissionSlot& slot : slots) {
    const Entities entities = EntitiesOf(index, slot.ad);
    capped_slots += entities.size != 0;
    for (const CappedEntity* entity : entities) {
      AddRecord(ReservationOf(table, *entity, id, slot.position), &user->row);
      Coarsen(*entity, table.caps(*entity), times.now_ms, &user->row);
    }
  }
  if (!Store(user_id, user, {&id, 1}, dropped).ok()) {
    RemoveUnconfirmed(id, &user->row);
    return RefuseCapped(index, slots, refused);
  }
  Count(&counters_.reservations, capped_slots);
}

std::optional<CapUser> FrequencyCaps::UserOf(const DecisionId& id) {
  const absl::StatusOr<std::optional<CapUser>> user = store_->FindUser(id);
  if (user.ok()) return *user;
  Count(&counters_.store_failures);
  return std::nullopt;
}

void FrequencyCaps::Release(const DecisionId& id) {
  const std::optional<CapUser> owner = UserOf(id);
  if (!owner.has_value()) return;
  const UserCache::Use use(&cache_, *owner);
  CachedUser* user = use.get();
  absl::MutexLock lock(&user->mu);
  if (!Load(*owner, user).ok() || !RemoveUnconfirmed(id, &user->row)) return;
  Count(&counters_.released);
  // What is lost here runs out by itself.
  Store(*owner, user, {}, {&id, 1}).IgnoreError();
}

void FrequencyCaps::Confirm(const v1::Event& event) {
  if (event.type() != v1::EVENT_TYPE_IMPRESSION) return;
  const absl::StatusOr<DecisionId> id =
      DecisionId::FromHex(event.decision_id());
  if (!id.ok()) return;
  const std::optional<CapUser> owner = UserOf(*id);
  if (!owner.has_value()) return;
  const UserCache::Use use(&cache_, *owner);
  CachedUser* user = use.get();
  absl::MutexLock lock(&user->mu);
  if (!Load(*owner, user).ok()) return;
  // What came too late is not there any more.
  std::vector<DecisionId> done;
  Prune(Now(), &user->row, &done);
  if (!ConfirmRecords(*id, event.position(), &user->row)) return;
  Count(&counters_.confirmed);
  if (!HasUnconfirmed(*id, user->row)) done.push_back(*id);
  Store(*owner, user, {}, done).IgnoreError();  // counted
}

absl::StatusOr<CapRow> FrequencyCaps::Lookup(absl::string_view user_id) {
  const CapUser id = CapUserOf(user_id);
  const UserCache::Use use(&cache_, id);
  CachedUser* user = use.get();
  absl::MutexLock lock(&user->mu);
  RETURN_IF_ERROR(Load(id, user));
  return user->row;
}

std::optional<CapVerdict> FrequencyCaps::WhyCapped(const AdIndex& index,
                                                   absl::string_view user_id,
                                                   uint32_t ad) {
  if (user_id.empty()) return std::nullopt;
  const absl::StatusOr<CapRow> row = Lookup(user_id);
  if (!row.ok()) return std::nullopt;
  const CapTimes times = Now();
  for (const CappedEntity* entity : EntitiesOf(index, ad)) {
    const absl::Span<const CapRecord> records = RecordsOf(*row, entity->key);
    const std::optional<CompiledCap> cap =
        CapReached(records, index.caps().caps(*entity), 1, times.now_ms, times);
    if (!cap.has_value()) continue;
    return CapVerdict{
        entity->level, *cap,
        CountAround(records, times.now_ms, cap->window_ms, times)};
  }
  return std::nullopt;
}

absl::Status FrequencyCaps::Forget(absl::string_view user_id) {
  const CapUser id = CapUserOf(user_id);
  const UserCache::Use use(&cache_, id);
  CachedUser* user = use.get();
  absl::MutexLock lock(&user->mu);
  // Of a damaged row nothing is known; its decisions age out.
  std::vector<DecisionId> decisions;
  if (Load(id, user).ok()) {
    for (const CapRecord& r : user->row) {
      if (!r.confirmed) decisions.push_back(r.decision());
    }
  }
  user->row.clear();
  RETURN_IF_ERROR(Store(id, user, {}, decisions));
  user->read = true;
  user->damaged = false;
  return absl::OkStatus();
}

CapStats FrequencyCaps::Stats() const {
  CapStats s;
  s.cached_users = cache_.size();
  s.reservations = counters_.reservations;
  s.refused = counters_.refused;
  s.released = counters_.released;
  s.confirmed = counters_.confirmed;
  s.unknown_denied = counters_.unknown_denied;
  s.rows_read = counters_.rows_read;
  s.rows_damaged = counters_.rows_damaged;
  s.rows_full = counters_.rows_full;
  s.store_failures = counters_.store_failures;
  return s;
}

}  // namespace adrank
