#include "server/trigger/ad_texts.h"

#include "base/log.h"

namespace adrank {

AdTexts::Handle AdTexts::Begin() {
  bytes_.resize((bytes_.size() + kUnit - 1) / kUnit * kUnit);
  CHECK_LT(bytes_.size() / kUnit, uint64_t{1} << 32) << "too many texts";
  return static_cast<Handle>(bytes_.size() / kUnit);
}

void AdTexts::PutVarint(size_t value) {
  for (; value >= 128; value >>= 7) {
    bytes_.push_back(static_cast<char>(value | 128));
  }
  bytes_.push_back(static_cast<char>(value));
}

void AdTexts::PutText(absl::string_view text) {
  PutVarint(text.size());
  bytes_.insert(bytes_.end(), text.begin(), text.end());
}

void AdTexts::AppendField(uint32_t number, absl::string_view bytes,
                          std::string* wire) {
  wire->push_back(static_cast<char>(number << 3 | 2));
  size_t size = bytes.size();
  for (; size >= 128; size >>= 7) {
    wire->push_back(static_cast<char>(size | 128));
  }
  wire->push_back(static_cast<char>(size));
  wire->append(bytes.data(), bytes.size());
}

AdTexts::Handle AdTexts::AddText(absl::string_view text) {
  const Handle handle = Begin();
  PutText(text);
  return handle;
}

AdTexts::Handle AdTexts::AddAd(const v1::Ad& ad) {
  const Handle handle = Begin();
  PutText(ad.id());
  PutText(ad.landing_url());
  PutVarint(static_cast<size_t>(ad.attributes_size()));
  for (const v1::Attribute& a : ad.attributes()) PutVarint(Intern(a));
  return handle;
}

size_t AdTexts::Intern(const v1::Attribute& attribute) {
  attribute.SerializeToString(&attribute_);
  field_.clear();
  AppendField(v1::AdSnapshot::kAttributesFieldNumber, attribute_, &field_);
  const auto [it, added] = numbers_.try_emplace(
      Hash128(field_), static_cast<uint32_t>(attribute_begin_.size() - 1));
  if (added) {
    attributes_.insert(attributes_.end(), field_.begin(), field_.end());
    attribute_begin_.push_back(attributes_.size());
  }
  return it->second;
}

void AdTexts::EndFilling() {
  numbers_ = {};
  bytes_.shrink_to_fit();
  attributes_.shrink_to_fit();
  attribute_begin_.shrink_to_fit();
}

absl::string_view AdTexts::landing_url(Handle ad) const {
  const char* at = bytes_.data() + size_t{ad} * kUnit;
  Text(&at);
  return Text(&at);
}

void AdTexts::AppendAttributes(Handle ad, std::string* wire) const {
  const char* at = bytes_.data() + size_t{ad} * kUnit;
  Text(&at);
  Text(&at);
  for (size_t n = Varint(&at); n > 0; --n) {
    const size_t i = Varint(&at);
    const uint64_t begin = attribute_begin_[i];
    wire->append(attributes_.data() + begin, attribute_begin_[i + 1] - begin);
  }
}

}  // namespace adrank
