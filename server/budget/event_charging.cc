#include "server/budget/event_charging.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

// How far the clock may have stepped back before a crash.
constexpr int64_t kClockSlackMs = 600'000;

void ChargeOne(const ReportedEvent& event, const v1::EventResult& result,
               int64_t begun, Ledger* ledger) {
  switch (result.code()) {
    case v1::EventResult::CODE_ACCEPTED: {
      // It was accepted, so it is an id.
      const auto id = DecisionId::FromHex(event.decision_id);
      ledger->OnEvent(*id, static_cast<uint8_t>(event.position), event.type,
                      begun);
      break;
    }
    case v1::EventResult::CODE_UNKNOWN_DECISION:
      ledger->OnUnknownDecision();
      break;
    case v1::EventResult::CODE_UNAVAILABLE:
      ledger->OnUncertainEvent(begun);
      break;
    default:  // known already, or not an event
      break;
  }
}

}  // namespace

absl::StatusOr<LoggedSlot> LookUpSlot(EventLog* log, const DecisionId& id,
                                      uint8_t position) {
  ASSIGN_OR_RETURN(const v1::Decision decision, log->GetDecision(id));
  for (const v1::ServedAd& ad : decision.ads()) {
    if (ad.position() != position) continue;
    ASSIGN_OR_RETURN(const v1::AdSnapshot snapshot,
                     log->GetSnapshot(ad.ad_hash()));
    LoggedSlot slot;
    slot.campaign_id = snapshot.campaign_id();
    slot.bid_type = ad.bid_type();
    slot.price_micros = ad.price_micros();
    slot.pctr = ad.pctr();
    slot.test = decision.test();
    slot.named_by_caller = ad.match_type() == v1::MATCH_TYPE_CALLER;
    return slot;
  }
  return absl::NotFoundError(
      absl::StrCat("decision ", id.ToHex(), " has no position ", position));
}

absl::StatusOr<uint64_t> ReplayEvents(EventLog* log, Ledger* ledger) {
  const int64_t since_ms = ledger->covered_ms() - kClockSlackMs;
  uint64_t count = 0;
  RETURN_IF_ERROR(log->ForEachEvent(
      since_ms - ledger->policy().billing_ms,
      [&](const StoredEvent& e) -> absl::Status {
        if (e.receive_ms < since_ms) return absl::OkStatus();
        ++count;
        return ledger->Replay(e.id, e.position, e.type, e.receive_ms);
      }));
  return count;
}

void EventCharging::OnLogged(int64_t reported,
                             absl::Span<const ReportedEvent> events,
                             absl::Span<const v1::EventResult> results) {
  for (size_t i = 0; i < results.size(); ++i) {
    ChargeOne(events[i], results[i], reported, ledger_);
  }
  ledger_->EndEvents(reported);
}

}  // namespace adrank
