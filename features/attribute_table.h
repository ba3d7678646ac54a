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
    const Key key = KeyOf(name);
    for (size_t i = Mix(key) & mask_;; i = (i + 1) & mask_) {
      const Bucket& bucket = buckets_[i];
      if (bucket.slot < 0) return -1;
      if (bucket.key.head != key.head || bucket.key.tail != key.tail ||
          bucket.key.size != key.size) {
        continue;
      }
      // Up to 16 bytes, head and tail are the whole name.
      if (name.size() <= 16 ||
          names_[static_cast<size_t>(bucket.slot)] == name) {
        return bucket.slot;
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
  // First and last eight bytes and the length; of shorter names all bytes.
  struct Key {
    uint64_t head = 0;
    uint64_t tail = 0;
    uint64_t size = 0;
  };
  struct Bucket {
    Key key;
    int slot = -1;  // -1: empty
  };

  static Key KeyOf(absl::string_view name) {
    Key key;
    const size_t n = name.size();
    key.size = n;
    if (n >= 8) {
      std::memcpy(&key.head, name.data(), 8);
      std::memcpy(&key.tail, name.data() + n - 8, 8);
    } else if (n >= 4) {
      std::memcpy(&key.head, name.data(), 4);
      std::memcpy(&key.tail, name.data() + n - 4, 4);
    } else if (n > 0) {
      key.head = static_cast<unsigned char>(name[0]);
      key.tail = static_cast<uint64_t>(static_cast<unsigned char>(name[n / 2]))
                     << 8 |
                 static_cast<unsigned char>(name[n - 1]);
    }
    return key;
  }

  // In memory only: any mixing will do.
  static size_t Mix(const Key& key) {
    const uint64_t h = (key.head ^ key.size) * 0x9e3779b97f4a7c15ull ^
                       (key.tail + key.size) * 0xc2b2ae3d27d4eb4full;
    return static_cast<size_t>((h * 0x165667b19e3779f9ull) >> 32);
  }

  void Rebuild() {
    // At most a quarter full: attributes outside the spec miss at once.
    size_t size = 8;
    while (size < 4 * names_.size()) size *= 2;
    buckets_.assign(size, Bucket());
    mask_ = size - 1;
    for (size_t slot = 0; slot < names_.size(); ++slot) {
      const Key key = KeyOf(names_[slot]);
      size_t i = Mix(key) & mask_;
      while (buckets_[i].slot >= 0) i = (i + 1) & mask_;
      buckets_[i] = {key, static_cast<int>(slot)};
    }
  }

  std::vector<std::string> names_;
  // A power of two of them, never full.
  std::vector<Bucket> buckets_ = std::vector<Bucket>(1);
  size_t mask_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_FEATURES_ATTRIBUTE_TABLE_H_
