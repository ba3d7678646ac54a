// Feature id -> table row, without collisions.
//
// File grammar (header: model/binary_header.h; offsets fall on multiples of 8):
//
//   vocabulary := header slot[slots] oov_row:u32[fields]
//   header     := magic "ADRKVOC1", count = {ids, buckets, slots, fields}
//   slot       := id:u64 row:u32 0:u32        empty: 16 zero bytes
//
// Open addressing with linear probing. key(id) = id * 0x9e3779b97f4a7c15 mod
// 2^64, home(id) = key(id) * buckets / 2^64, buckets = ids * 5 / 3 + 1 (load
// 0.6: 27 bytes an id, 1.8 slots probed for an id that is there, 3.6 for one
// that is not). Ids lie in the order of their keys, each in the first free slot
// from its home on; slots past the last bucket take what overflows and the last
// slot is always empty, so that a probe needs neither a mask nor a bound. The
// order makes the layout a function of the set of ids, and lets one pass over
// the slots prove that each id is there once and is found.
#ifndef ADRANK_MODEL_VOCABULARY_H_
#define ADRANK_MODEL_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/model.h"

namespace adrank {

// An open-addressing table over mapped bytes: nothing is parsed or copied.
// Immutable and thread-safe. The bytes must outlive it.
class Vocabulary {
 public:
  // OK when Serialize may be called: fewer than 2^32 - 65536 ids, distinct and
  // not 0; at most 65536 fields; each oov row kNoRow or in
  // [ids, ids + fields). Else InvalidArgument with index and value.
  static absl::Status Check(absl::Span<const uint64_t> ids,
                            absl::Span<const uint32_t> oov_rows);

  // Row i belongs to ids[i]; ids are distinct and not 0. oov_rows[f] is the row
  // of an id of field f that is not known, or kNoRow; the rows of ids are not
  // shared with it, two fields may share one. The bytes are a pure function of
  // the arguments. REQUIRES: Check() is OK.
  static std::string Serialize(absl::Span<const uint64_t> ids,
                               absl::Span<const uint32_t> oov_rows);

  // InvalidArgument when the bytes are not a whole vocabulary (or not aligned
  // to 8 in memory), FailedPrecondition when their format is newer. One pass:
  // after it no lookup can leave the bytes or fail to end, whatever they hold.
  static absl::StatusOr<Vocabulary> Parse(absl::string_view bytes);

  // Row of the id; else the field's out-of-vocabulary row; else kNoRow. A field
  // beyond oov_rows() has none.
  uint32_t Row(uint16_t field, uint64_t id) const {
    return Probe(Home(id), field, id);
  }

  // Ids and the rows beyond them that oov_rows name: 1 + the largest row.
  uint32_t rows() const { return rows_; }
  // Rows [0, ids()) are those of ids.
  uint32_t ids() const { return ids_; }
  // The ids in row order; for warm starts.
  std::vector<uint64_t> Ids() const;
  absl::Span<const uint32_t> oov_rows() const { return oov_rows_; }

  // Row() of every entry, fetched ahead, so that cache misses overlap even
  // where branches are mispredicted. Allocates only to grow *rows.
  void Lookup(const RequestFeatures& features, RequestRows* rows) const;
  // The same for one batch.
  void Lookup(const FeatureBatch& batch, std::vector<uint32_t>* rows) const;

 private:
  Vocabulary() = default;
  struct Slot {
    uint64_t id;  // 0: empty
    uint32_t row;
    uint32_t unused;
  };
  static uint64_t Key(uint64_t id) { return id * 0x9e3779b97f4a7c15ull; }
  static uint64_t Bucket(uint64_t key, uint64_t buckets) {
    return static_cast<uint64_t>(
        (static_cast<unsigned __int128>(key) * buckets) >> 64);
  }
  const Slot* Home(uint64_t id) const {
    return slots_ + Bucket(Key(id), buckets_);
  }
  uint32_t Probe(const Slot* slot, uint16_t field, uint64_t id) const {
    for (; slot->id != 0; ++slot) {
      if (slot->id == id) return slot->row;
    }
    return field < oov_rows_.size() ? oov_rows_[field] : kNoRow;
  }
  absl::Status Verify() const;

  const Slot* slots_ = nullptr;  // [slot_count_]
  uint64_t slot_count_ = 0;
  uint64_t buckets_ = 0;
  uint32_t ids_ = 0;
  uint32_t rows_ = 0;
  absl::Span<const uint32_t> oov_rows_;
};

}  // namespace adrank

#endif  // ADRANK_MODEL_VOCABULARY_H_
