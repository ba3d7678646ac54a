// From ids to numbers, at about 7 bytes an id.
#ifndef ADRANK_SERVER_TRIGGER_ID_TABLE_H_
#define ADRANK_SERVER_TRIGGER_ID_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "base/huge_pages.h"

namespace adrank {

// Open addressing over numbers; their ids are kept elsewhere, once, and each
// call says where: `id_of(number)` is an absl::string_view. Filled first, then
// const and thread-safe.
class IdTable {
 public:
  // Room for so many ids in all.
  template <typename IdOf>
  void Reserve(size_t ids, const IdOf& id_of) {
    if (2 * slots_.size() < 3 * ids) Rehash(ids + ids / 2 + 16, id_of);
  }

  // False when there is one with this id.
  template <typename IdOf>
  bool Add(absl::string_view id, uint32_t number, const IdOf& id_of) {
    if (2 * slots_.size() < 3 * (used_ + 1)) {
      Rehash(3 * (used_ + 16), id_of);
    }
    const size_t at = Place(id, id_of);
    if (slots_[at] != kFree) return false;
    slots_[at] = number;
    ++used_;
    return true;
  }

  template <typename IdOf>
  std::optional<uint32_t> Find(absl::string_view id, const IdOf& id_of) const {
    if (slots_.empty()) return std::nullopt;
    const uint32_t number = slots_[Place(id, id_of)];
    if (number == kFree) return std::nullopt;
    return number;
  }

  size_t bytes() const { return slots_.capacity() * sizeof(uint32_t); }

 private:
  static constexpr uint32_t kFree = 0xffffffffu;

  // The slot of the id, or the free one where it belongs.
  template <typename IdOf>
  size_t Place(absl::string_view id, const IdOf& id_of) const {
    using uint128 = unsigned __int128;
    size_t at = static_cast<size_t>(uint128{Hash64(id)} * slots_.size() >> 64);
    while (slots_[at] != kFree && id_of(slots_[at]) != id) {
      if (++at == slots_.size()) at = 0;
    }
    return at;
  }

  template <typename IdOf>
  void Rehash(size_t size, const IdOf& id_of) {
    HugeVector<uint32_t> old(size, kFree);
    old.swap(slots_);
    for (const uint32_t number : old) {
      if (number != kFree) slots_[Place(id_of(number), id_of)] = number;
    }
  }

  HugeVector<uint32_t> slots_;  // at most two thirds are in use
  size_t used_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_ID_TABLE_H_
