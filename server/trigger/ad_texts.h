// What ads are called and what they say, packed.
#ifndef ADRANK_SERVER_TRIGGER_AD_TEXTS_H_
#define ADRANK_SERVER_TRIGGER_AD_TEXTS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "base/huge_pages.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"

namespace adrank {

// Texts in one array, each with its length before it; attributes of ads as the
// bytes that they are in a serialised AdSnapshot, equal ones kept once.
// Millions of ads are affordable so: a message with its strings takes ten times
// the memory, and a request reads one or two texts of an ad. Filled first, then
// const and thread-safe.
//
//   text := varint(length) bytes
//   ad   := text(id) text(landing URL) varint(n) varint(attribute){n}
class AdTexts {
 public:
  // Names a text or an ad: where it begins, in units of kUnit bytes.
  using Handle = uint32_t;

  Handle AddText(absl::string_view text);
  Handle AddAd(const v1::Ad& ad);
  // Appends field `number` of a message, a string or message of these bytes, in
  // the wire format of protocol buffers.
  static void AppendField(uint32_t number, absl::string_view bytes,
                          std::string* wire);
  // No Add follows: frees what only AddAd needs.
  void EndFilling();

  // Views live as long as this, unmoved.
  absl::string_view text(Handle text) const {
    const char* at = bytes_.data() + size_t{text} * kUnit;
    return Text(&at);
  }
  absl::string_view id(Handle ad) const { return text(ad); }
  absl::string_view landing_url(Handle ad) const;
  // Appends the ad's attributes, as they were: as AdSnapshot.attributes,
  // serialised.
  void AppendAttributes(Handle ad, std::string* wire) const;

  size_t bytes() const {
    return bytes_.capacity() + attributes_.capacity() +
           attribute_begin_.capacity() * sizeof(uint64_t);
  }

 private:
  // 16 GiB of texts.
  static constexpr size_t kUnit = 4;

  // Reads, and advances *at.
  static size_t Varint(const char** at) {
    size_t value = static_cast<unsigned char>(*(*at)++);
    if (value < 128) return value;
    value -= 128;
    for (int shift = 7;; shift += 7) {
      const auto byte = static_cast<unsigned char>(*(*at)++);
      value += size_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
  }
  static absl::string_view Text(const char** at) {
    const size_t size = Varint(at);
    const absl::string_view text(*at, size);
    *at += size;
    return text;
  }
  Handle Begin();
  void PutVarint(size_t value);
  void PutText(absl::string_view text);
  size_t Intern(const v1::Attribute& attribute);

  HugeVector<char> bytes_;
  HugeVector<char> attributes_;
  HugeVector<uint64_t> attribute_begin_ = {0};  // [attributes + 1]
  // Only while it is filled.
  absl::flat_hash_map<Hash128Value, uint32_t> numbers_;
  std::string attribute_, field_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_AD_TEXTS_H_
