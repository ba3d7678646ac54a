// Hot path: no allocation after construction, no locks.
//
// From the names of attributes to small numbers, without a look at the fields:
// one probe for each attribute of a message.
#ifndef ADRANK_FEATURES_ATTRIBUTE_TABLE_H_
#define ADRANK_FEATURES_ATTRIBUTE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "google/protobuf/repeated_field.h"
#include "proto/common.pb.h"

namespace adrank {

// Filled by Add, then constant and thread-safe.
class AttributeTable {
 public:
  // The number of `name`: 0, 1, ... in the order of the first Add.
  int Add(absl::string_view name) {
    if (const int slot = Find(name); slot >= 0) return slot;
    names_.emplace_back(name);
    Rebuild();
    return static_cast<int>(names_.size()) - 1;
  }

  // -1 when `name` was not added.
  int Find(absl::string_view name) const {
    if (buckets_.empty()) return -1;
    for (size_t i = Mix(name) & mask_;; i = (i + 1) & mask_) {
      const int slot = buckets_[i];
      if (slot < 0) return -1;
      const std::string& candidate = names_[static_cast<size_t>(slot)];
      if (candidate.size() == name.size() &&
          std::memcmp(candidate.data(), name.data(), name.size()) == 0) {
        return slot;
      }
    }
  }

  size_t size() const { return names_.size(); }

  // (*found)[slot] becomes the attribute of that name or null. Of two
  // attributes of one name the first counts. Works its way through the message
  // once.
  void Locate(const google::protobuf::RepeatedPtrField<v1::Attribute>& list,
              std::vector<const v1::Attribute*>* found) const {
    found->assign(names_.size(), nullptr);
    if (names_.empty()) return;
    for (const v1::Attribute& attribute : list) {
      const int slot = Find(attribute.name());
      if (slot < 0) continue;
      const v1::Attribute*& place = (*found)[static_cast<size_t>(slot)];
      if (place == nullptr) place = &attribute;
    }
  }

 private:
  // First and last eight bytes and the length; names of one spec seldom agree
  // in all three, and those that do are told apart by their bytes. In memory
  // only.
  static size_t Mix(absl::string_view name) {
    uint64_t head = 0, tail = 0;
    const size_t n = name.size();
    if (n >= 8) {
      std::memcpy(&head, name.data(), 8);
      std::memcpy(&tail, name.data() + n - 8, 8);
    } else if (n >= 4) {
      std::memcpy(&head, name.data(), 4);
      std::memcpy(&tail, name.data() + n - 4, 4);
    } else if (n > 0) {
      head = static_cast<unsigned char>(name[0]);
      tail = static_cast<uint64_t>(static_cast<unsigned char>(name[n / 2]))
                 << 8 |
             static_cast<unsigned char>(name[n - 1]);
    }
    const uint64_t h =
        (head ^ n) * 0x9e3779b97f4a7c15ull ^ (tail + n) * 0xc2b2ae3d27d4eb4full;
    return static_cast<size_t>((h * 0x165667b19e3779f9ull) >> 32);
  }

  void Rebuild() {
    // At most a quarter full: attributes outside the spec miss at once.
    size_t size = 8;
    while (size < 4 * names_.size()) size *= 2;
    buckets_.assign(size, -1);
    mask_ = size - 1;
    for (size_t slot = 0; slot < names_.size(); ++slot) {
      size_t i = Mix(names_[slot]) & mask_;
      while (buckets_[i] >= 0) i = (i + 1) & mask_;
      buckets_[i] = static_cast<int32_t>(slot);
    }
  }

  std::vector<std::string> names_;
  std::vector<int32_t> buckets_;  // slot, or -1
  size_t mask_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_FEATURES_ATTRIBUTE_TABLE_H_
