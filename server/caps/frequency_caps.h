// Frequency caps: at most so many impressions of an ad, ad group or campaign to
// one user in any window, exact under concurrency. docs/frequency_caps.md
// explains it to operators.
//
// A served ad is a reservation: it counts from its decision's time on until
// `reservation` later, and for good once its impression is reported. The time
// of an impression is that of the decision (DecisionId.ms, this server's
// clock): the order in which reports come, and how often, changes nothing.
#ifndef ADRANK_SERVER_CAPS_FREQUENCY_CAPS_H_
#define ADRANK_SERVER_CAPS_FREQUENCY_CAPS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "proto/server_config.pb.h"
#include "server/admission.h"
#include "server/caps/cap_table.h"
#include "server/caps/user_cache.h"
#include "server/caps/user_row.h"
#include "server/event_intake.h"
#include "storage/cap_store.h"

namespace adrank {

struct CapStats {  // since the start, but for the first
  uint64_t cached_users = 0;
  uint64_t reservations = 0;    // ads served that have a cap
  uint64_t refused = 0;         // slots
  uint64_t released = 0;        // decisions
  uint64_t confirmed = 0;       // impressions
  uint64_t unknown_denied = 0;  // requests without user_id under DENY
  uint64_t rows_read = 0;       // from the store
  uint64_t rows_damaged = 0;    // of them
  uint64_t rows_full = 0;       // requests of users with too many records
  uint64_t store_failures = 0;  // reads and writes
};

// Why a cap keeps an ad from a user.
struct CapVerdict {
  CapLevel level = CapLevel::kAd;  // of the entity whose cap it is
  CompiledCap cap;
  uint64_t counted = 0;  // impressions and reservations in the window
};

// Thread-safe. One server's caps are its own: requests of a user must come to
// the same server for the caps to hold.
//
// When a user's row is damaged or the disk fails, the user gets no ad that has
// a cap: a cap is never exceeded for want of a counter.
class FrequencyCaps : public Admission, public EventSink {
 public:
  // Users whose rows are held in memory, about 300 bytes each with ten records.
  static constexpr size_t kCachedUsers = 1 << 17;
  // Impressions reported so long after a reservation has run out still count.
  static constexpr absl::Duration kLate = absl::Hours(24);
  // More records than these in a row: the user gets no further ad with a cap
  // until some have expired.
  static constexpr size_t kMaxRecords = 4096;

  // The longest that the store needs to know whose decision it was.
  static absl::Duration KeepDecisions(const v1::CapConfig& config);
  // InvalidArgument names the field.
  static absl::Status ValidateConfig(const v1::CapConfig& config);

  // `config` was validated; the pointers must outlive the object.
  FrequencyCaps(const v1::CapConfig& config, CapStore* store,
                const Clock* clock, size_t cached_users = kCachedUsers);

  // Costs what the user has been served of what is capped, whatever the size of
  // the catalogue; at most one read of the store.
  void Begin(const AdIndex& index, const v1::Context& context,
             AdmissionTerms* terms) override;

  // Two slots of one campaign take two of its impressions. One write of the
  // store (to the operating system, see CapStore) when a slot has a cap.
  void Reserve(const AdIndex& index, const v1::Context& context,
               const DecisionId& id, absl::Span<const AdmissionSlot> slots,
               std::vector<SlotRefusal>* refused) override;

  // What an impression was reported for stays.
  void Release(const DecisionId& id) override;

  // Impressions confirm; idempotent, in any order.
  void Confirm(const v1::Event& event);
  int64_t OnReported(absl::Span<const v1::Event> events) override {
    for (const v1::Event& event : events) Confirm(event);
    return 0;
  }
  void OnLogged(int64_t, absl::Span<const ReportedEvent>,
                absl::Span<const v1::EventResult>) override {}

  // What the store has of the user; empty for an unknown one. DataLoss: the row
  // is damaged.
  absl::StatusOr<CapRow> Lookup(absl::string_view user_id);
  // Which cap keeps the ad from the user now. Slow.
  std::optional<CapVerdict> WhyCapped(const AdIndex& index,
                                      absl::string_view user_id, uint32_t ad);
  // Removes all that is known of the user, a damaged row too.
  absl::Status Forget(absl::string_view user_id);

  CapTimes Now() const;
  CapStats Stats() const;

 private:
  struct Counters {
    std::atomic<uint64_t> reservations{0}, refused{0}, released{0},
        confirmed{0}, unknown_denied{0}, rows_read{0}, rows_damaged{0},
        rows_full{0}, store_failures{0};
  };

  // Makes user->row what the store has. Not OK: the row cannot be known.
  absl::Status Load(const CapUser& id, CachedUser* user)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(user->mu);
  absl::Status Store(const CapUser& id, CachedUser* user,
                     absl::Span<const DecisionId> added,
                     absl::Span<const DecisionId> removed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(user->mu);
  void ReserveFor(const CapUser& user_id, const AdIndex& index,
                  const DecisionId& id, absl::Span<const AdmissionSlot> slots,
                  std::vector<SlotRefusal>* refused);
  // Whose decision it is, when something of it waits for a report.
  std::optional<CapUser> UserOf(const DecisionId& id);

  // Constant after construction.
  const bool deny_unknown_;
  const int64_t reservation_ms_;
  CapStore* const store_;
  const Clock* const clock_;

  UserCache cache_;
  Counters counters_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_CAPS_FREQUENCY_CAPS_H_
