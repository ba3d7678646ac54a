// Hot path: no logging; one short lock only for an id that this thread has not
// met lately.
//
// Every feature id of the training window, with its field and the number of
// examples it occurs in, numbered as it comes: rows can be packed in one pass
// over the log, before it is known which ids will be admitted.
#ifndef ADRANK_TRAINER_ID_TABLE_H_
#define ADRANK_TRAINER_ID_TABLE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "model/model.h"
#include "trainer/id_filter.h"

namespace adrank {

// Thread-safe. The numbers ("handles") depend on the race of threads; ids,
// fields and counts do not.
class IdTable {
 public:
  struct Entry {
    uint64_t id = 0;
    uint32_t examples = 0;  // saturates
    uint16_t field = 0;
    uint16_t day = 0;  // the last it was counted on
  };
  static constexpr uint32_t kShardBits = 6;
  static constexpr uint32_t kShards = 1u << kShardBits;

  // Without `admission`, every id gets an entry. At most about `max_ids`.
  explicit IdTable(const IdAdmission* admission = nullptr,
                   uint64_t max_ids = ~uint64_t{0});

  // The id's handle, new if need be, or kNoRow when it is not admitted; adds to
  // its examples, of the day `day` (any count of days). Ids are salted by
  // their field, so that two fields share one with probability 2^-64 a pair;
  // should it happen, the field seen first has it.
  uint32_t Intern(uint64_t id, uint16_t field, uint32_t examples,
                  uint16_t day = 0);
  // No effect on kNoRow.
  void AddExamples(uint32_t handle, uint32_t examples, uint16_t day = 0);

  // True when more ids came than max_ids, or than handles can name (4.29e9):
  // they got the handle kNoRow.
  bool overflowed() const;

  // Of one shard, indexed by the handle's upper bits. REQUIRES: no thread
  // interns any more.
  const std::vector<Entry>& shard(uint32_t s) const
      ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return shards_[s].entries;
  }
  const Entry& entry(uint32_t handle) const {
    return shard(handle & (kShards - 1))[handle >> kShardBits];
  }
  size_t size() const;
  // Of memory, about.
  uint64_t bytes() const ABSL_NO_THREAD_SAFETY_ANALYSIS;

 private:
  struct Shard {
    mutable absl::Mutex mu;
    absl::flat_hash_map<uint64_t, uint32_t> index ABSL_GUARDED_BY(mu);
    std::vector<Entry> entries ABSL_GUARDED_BY(mu);
    bool full ABSL_GUARDED_BY(mu) = false;
  };
  const IdAdmission* const admission_;
  const size_t max_in_shard_;
  std::array<Shard, kShards> shards_;
};

// One thread's way to the table: frequent ids are answered and counted in 512
// KiB that stay in its cache. Counts reach the table by Flush.
class IdCache {
 public:
  explicit IdCache(IdTable* table) : table_(table), slots_(kSlots) {}
  ~IdCache() { Flush(); }
  IdCache(const IdCache&) = delete;
  IdCache& operator=(const IdCache&) = delete;

  uint32_t Intern(uint64_t id, uint16_t field, uint32_t examples) {
    Slot& slot = slots_[id >> (64 - kSlotBits)];
    if (slot.id != id) {
      if (slot.examples > 0) {
        table_->AddExamples(slot.handle, slot.examples, day_);
      }
      slot = {id, table_->Intern(id, field, 0), 0};
    }
    slot.examples += examples;
    return slot.handle;
  }
  void Flush();
  // The day of what is interned from now on.
  void SetDay(uint16_t day) {
    Flush();
    day_ = day;
  }

 private:
  static constexpr int kSlotBits = 15;
  static constexpr size_t kSlots = size_t{1} << kSlotBits;
  struct Slot {
    uint64_t id = 0;  // 0: empty; no feature has it
    uint32_t handle = 0;
    uint32_t examples = 0;  // not yet in the table
  };
  IdTable* const table_;
  uint16_t day_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace adrank

#endif  // ADRANK_TRAINER_ID_TABLE_H_
