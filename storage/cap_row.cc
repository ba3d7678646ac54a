#include "storage/cap_row.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

constexpr uint8_t kConfirmed = 1, kHasKeep = 2, kHasCount = 4;
constexpr size_t kChecksumBytes = 4;
constexpr size_t kExpiryBytes = 4;

template <typename T>
void AppendLittle(T value, std::string* bytes) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    bytes->push_back(static_cast<char>(value >> (8 * i)));
  }
}

void AppendVarint(uint64_t value, std::string* bytes) {
  while (value >= 0x80) {
    bytes->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  bytes->push_back(static_cast<char>(value));
}

uint64_t ZigZag(int64_t v) {
  return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
}
int64_t UnZigZag(uint64_t v) {
  return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1);
}

uint32_t Checksum(absl::string_view bytes) {
  return static_cast<uint32_t>(Hash64(bytes));
}

uint32_t ExpirySeconds(const CapRow& row) {
  int64_t ms = 0;
  for (const CapRecord& r : row) ms = std::max(ms, r.expires_ms());
  return static_cast<uint32_t>(std::min<int64_t>(ms / 1000 + 1, UINT32_MAX));
}

// Reads what the writers above wrote; once it has failed it gives zeros.
class Input {
 public:
  explicit Input(absl::string_view bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  bool done() const { return bytes_.empty() || !ok_; }

  template <typename T>
  T Little() {
    if (bytes_.size() < sizeof(T)) return Fail<T>();
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value |= static_cast<T>(static_cast<T>(static_cast<uint8_t>(bytes_[i]))
                              << (8 * i));
    }
    bytes_.remove_prefix(sizeof(T));
    return value;
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = Little<uint8_t>();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return Fail<uint64_t>();
  }
  uint32_t Varint32() {
    const uint64_t value = Varint();
    return value <= UINT32_MAX ? static_cast<uint32_t>(value)
                               : Fail<uint32_t>();
  }

 private:
  template <typename T>
  T Fail() {
    ok_ = false;
    bytes_ = {};
    return 0;
  }
  absl::string_view bytes_;
  bool ok_ = true;
};

CapRecord ReadRecord(uint64_t key, const CapRecord& before, Input* in) {
  CapRecord r;
  r.key = key;
  const auto flags = in->Little<uint8_t>();
  r.ms = before.ms + UnZigZag(in->Varint());
  r.keep_s = (flags & kHasKeep) != 0 ? in->Varint32() : before.keep_s;
  r.count = (flags & kHasCount) != 0 ? in->Varint32() : 1;
  r.confirmed = (flags & kConfirmed) != 0;
  if (!r.confirmed) {
    r.sequence = in->Little<uint32_t>();
    r.node = in->Little<uint16_t>();
    r.position = in->Little<uint8_t>();
  }
  return r;
}

void AppendRecord(const CapRecord& r, const CapRecord& before,
                  std::string* bytes) {
  const uint8_t flags = (r.confirmed ? kConfirmed : 0) |
                        (r.keep_s != before.keep_s ? kHasKeep : 0) |
                        (r.count != 1 ? kHasCount : 0);
  bytes->push_back(static_cast<char>(flags));
  AppendVarint(ZigZag(r.ms - before.ms), bytes);
  if ((flags & kHasKeep) != 0) AppendVarint(r.keep_s, bytes);
  if ((flags & kHasCount) != 0) AppendVarint(r.count, bytes);
  if (r.confirmed) return;
  AppendLittle(r.sequence, bytes);
  AppendLittle(r.node, bytes);
  AppendLittle(r.position, bytes);
}

}  // namespace

uint64_t CapKey(CapLevel level, absl::string_view id) {
  return Hash64(id, static_cast<uint64_t>(level) + 1);
}

void EncodeCapRow(const CapRow& row, std::string* bytes) {
  bytes->clear();
  const uint32_t expires = ExpirySeconds(row);
  for (int shift = 24; shift >= 0; shift -= 8) {
    bytes->push_back(static_cast<char>(expires >> shift));
  }
  for (size_t i = 0; i < row.size();) {
    size_t end = i;
    while (end < row.size() && row[end].key == row[i].key) ++end;
    AppendLittle(row[i].key, bytes);
    AppendVarint(end - i, bytes);
    CapRecord before;
    for (; i < end; ++i) {
      AppendRecord(row[i], before, bytes);
      before = row[i];
    }
  }
  AppendLittle(Checksum(*bytes), bytes);
}

absl::Status DecodeCapRow(absl::string_view bytes, CapRow* row) {
  row->clear();
  const auto damaged = [row](absl::string_view what) {
    row->clear();
    return absl::DataLossError(
        absl::StrCat("a row of frequency caps is damaged: ", what));
  };
  if (bytes.size() < kExpiryBytes + kChecksumBytes) return damaged("too short");
  const absl::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  if (Input(bytes.substr(body.size())).Little<uint32_t>() != Checksum(body)) {
    return damaged("wrong checksum");
  }
  Input in(body.substr(kExpiryBytes));
  while (!in.done()) {
    const auto key = in.Little<uint64_t>();
    CapRecord before;
    for (uint64_t n = in.Varint(); n > 0 && in.ok(); --n) {
      before = ReadRecord(key, before, &in);
      row->push_back(before);
    }
  }
  return in.ok() ? absl::OkStatus() : damaged("it ends in the middle");
}

uint32_t CapRowExpiry(absl::string_view bytes) {
  if (bytes.size() < kExpiryBytes) return 0;
  uint32_t value = 0;
  for (size_t i = 0; i < kExpiryBytes; ++i) {
    value = value << 8 | static_cast<uint8_t>(bytes[i]);
  }
  return value;
}

}  // namespace adrank
