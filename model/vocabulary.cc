// Hot path (Lookup): no allocation after warm-up, no locks, no logging.
#include "model/vocabulary.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "model/binary_header.h"

namespace adrank {
namespace {

constexpr absl::string_view kMagic = "ADRKVOC1";
constexpr uint64_t kMaxFields = 65536;  // FeatureBatch::fields is 16 bits
constexpr uint64_t kMaxIds = kNoRow - kMaxFields;

uint64_t Buckets(uint64_t ids) { return ids * 5 / 3 + 1; }

absl::Status CheckOovRows(uint64_t ids, absl::Span<const uint32_t> oov_rows) {
  for (size_t f = 0; f < oov_rows.size(); ++f) {
    const uint64_t row = oov_rows[f];
    if (row == kNoRow || (row >= ids && row < ids + oov_rows.size())) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("out-of-vocabulary row ", row, " of field ", f,
                     " not in [", ids, ", ", ids + oov_rows.size(), ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Vocabulary::Check(absl::Span<const uint64_t> ids,
                               absl::Span<const uint32_t> oov_rows) {
  if (ids.size() > kMaxIds) {
    return absl::InvalidArgumentError(
        absl::StrCat(ids.size(), " ids, at most ", kMaxIds));
  }
  if (oov_rows.size() > kMaxFields) {
    return absl::InvalidArgumentError(
        absl::StrCat(oov_rows.size(), " fields, at most ", kMaxFields));
  }
  std::vector<uint64_t> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty() && sorted[0] == 0) {
    return absl::InvalidArgumentError("id 0, which marks empty slots");
  }
  const auto twin = std::adjacent_find(sorted.begin(), sorted.end());
  if (twin != sorted.end()) {
    return absl::InvalidArgumentError(absl::StrCat("id ", *twin, " twice"));
  }
  return CheckOovRows(ids.size(), oov_rows);
}

std::string Vocabulary::Serialize(absl::Span<const uint64_t> ids,
                                  absl::Span<const uint32_t> oov_rows) {
  const uint64_t buckets = Buckets(ids.size());
  std::vector<std::pair<uint64_t, uint32_t>> keys(ids.size());  // key, row
  for (size_t row = 0; row < ids.size(); ++row) {
    keys[row] = {Key(ids[row]), static_cast<uint32_t>(row)};
  }
  std::sort(keys.begin(), keys.end());
  // The slots that overflow past the last bucket, then the empty one.
  uint64_t next = 0;
  for (const auto& [key, row] : keys) {
    next = std::max(next, Bucket(key, buckets)) + 1;
  }
  BinaryHeader header = MakeBinaryHeader(kMagic);
  header.count[0] = ids.size();
  header.count[1] = buckets;
  header.count[2] = std::max(next, buckets) + 1;
  header.count[3] = oov_rows.size();
  const size_t slot_bytes = header.count[2] * sizeof(Slot);
  std::string bytes(sizeof(header) + slot_bytes + 4 * oov_rows.size(), '\0');
  std::memcpy(bytes.data(), &header, sizeof(header));
  char* const slots = bytes.data() + sizeof(header);
  next = 0;
  for (const auto& [key, row] : keys) {
    next = std::max(next, Bucket(key, buckets));
    const Slot slot = {ids[row], row, 0};
    std::memcpy(slots + next * sizeof(Slot), &slot, sizeof(slot));
    ++next;
  }
  if (!oov_rows.empty()) {
    std::memcpy(slots + slot_bytes, oov_rows.data(), 4 * oov_rows.size());
  }
  return bytes;
}

absl::StatusOr<Vocabulary> Vocabulary::Parse(absl::string_view bytes) {
  ASSIGN_OR_RETURN(const BinaryHeader header, ReadBinaryHeader(bytes, kMagic));
  const auto [ids, buckets, slots, fields] = header.count;
  // The first two tests bound what the next two multiply and add.
  if (ids > kMaxIds || fields > kMaxFields || buckets != Buckets(ids) ||
      slots <= buckets || slots > buckets + ids + 1 ||
      bytes.size() != sizeof(header) + slots * sizeof(Slot) + fields * 4) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes.size(), " bytes do not fit ", ids, " ids, ", buckets,
                     " buckets, ", slots, " slots, ", fields, " fields"));
  }
  Vocabulary result;
  const char* const data = bytes.data() + sizeof(header);
  result.slots_ = reinterpret_cast<const Slot*>(data);
  result.slot_count_ = slots;
  result.buckets_ = buckets;
  result.ids_ = static_cast<uint32_t>(ids);
  result.oov_rows_ = {
      reinterpret_cast<const uint32_t*>(data + slots * sizeof(Slot)), fields};
  result.rows_ = result.ids_;
  RETURN_IF_ERROR(CheckOovRows(ids, result.oov_rows_));
  for (uint32_t row : result.oov_rows_) {
    if (row != kNoRow) result.rows_ = std::max(result.rows_, row + 1);
  }
  RETURN_IF_ERROR(result.Verify());
  return result;
}

// Keys that rise strictly from slot to slot make the ids distinct. An id at
// slot s with its home h in [start of the run of full slots that holds s, s] is
// reached by a probe from h. With `ids` full slots and every row below `ids`
// seen once, rows and ids are a bijection. A probe starts at a bucket, that is
// before the last slot, which is empty: it ends inside the table. Checksums
// guard a bundle against accidents; this holds for any bytes.
absl::Status Vocabulary::Verify() const {
  const auto bad = [](uint64_t slot, absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("slot ", slot, ": ", why));
  };
  std::vector<bool> seen(ids_);
  uint64_t full = 0;
  uint64_t run_start = 0;
  uint64_t last_key = 0;
  for (uint64_t s = 0; s < slot_count_; ++s) {
    const Slot& slot = slots_[s];
    if (slot.unused != 0) return bad(s, "reserved bytes are not 0");
    if (slot.id == 0) {
      if (slot.row != 0) return bad(s, "a row without an id");
      run_start = s + 1;
      continue;
    }
    const uint64_t key = Key(slot.id);  // not 0: the multiplier is odd
    const uint64_t home = Bucket(key, buckets_);
    if (key <= last_key) return bad(s, "keys out of order");
    if (home < run_start || home > s) return bad(s, "the id cannot be found");
    if (slot.row >= ids_) return bad(s, "row out of range");
    if (seen[slot.row]) return bad(s, "row used twice");
    seen[slot.row] = true;
    last_key = key;
    ++full;
  }
  if (slots_[slot_count_ - 1].id != 0) {
    return bad(slot_count_ - 1, "the last slot is not empty");
  }
  if (full != ids_) {
    return absl::InvalidArgumentError(
        absl::StrCat(full, " ids where the header says ", ids_));
  }
  return absl::OkStatus();
}

std::vector<uint64_t> Vocabulary::Ids() const {
  std::vector<uint64_t> ids(ids_);
  for (uint64_t s = 0; s < slot_count_; ++s) {
    if (slots_[s].id != 0) ids[slots_[s].row] = slots_[s].id;
  }
  return ids;
}

void Vocabulary::Lookup(const RequestFeatures& features,
                        RequestRows* rows) const {
  Lookup(features.context, &rows->context);
  Lookup(features.ads, &rows->ads);
  Lookup(features.crosses, &rows->crosses);
}

void Vocabulary::Lookup(const FeatureBatch& batch,
                        std::vector<uint32_t>* rows) const {
  // As many cache misses in flight as a core's 10-16 line fill buffers take,
  // and some more that wait in the load queue.
  constexpr size_t kBlock = 32;
  const size_t entries = batch.ids.size();
  rows->resize(entries);
  const Slot* homes[kBlock];
  for (size_t begin = 0; begin < entries; begin += kBlock) {
    const size_t n = std::min(kBlock, entries - begin);
    const uint64_t* const ids = batch.ids.data() + begin;
    const uint16_t* const fields = batch.fields.data() + begin;
    for (size_t i = 0; i < n; ++i) {
      homes[i] = Home(ids[i]);
      __builtin_prefetch(homes[i]);
    }
    uint32_t* const out = rows->data() + begin;
    for (size_t i = 0; i < n; ++i) out[i] = Probe(homes[i], fields[i], ids[i]);
  }
}

}  // namespace adrank
