#include "storage/ledger_format.h"

#include <cstring>

#include "absl/base/internal/endian.h"

namespace adrank::ledger_format {
namespace {

constexpr uint32_t kSign = 1u << 31;
constexpr size_t kWideBytes = 16;
constexpr size_t kReservationBytes = 18;
constexpr size_t kSettledBytes = 13;

void Append8(uint32_t v, std::string* out) {
  out->push_back(static_cast<char>(v));
}
void Append32(uint32_t v, std::string* out) {
  char buffer[4];
  absl::big_endian::Store32(buffer, v);
  out->append(buffer, sizeof(buffer));
}
void Append64(uint64_t v, std::string* out) {
  char buffer[8];
  absl::big_endian::Store64(buffer, v);
  out->append(buffer, sizeof(buffer));
}
void AppendWide(WideMicros v, std::string* out) {
  const auto bits = static_cast<unsigned __int128>(v);
  Append64(static_cast<uint64_t>(bits >> 64), out);
  Append64(static_cast<uint64_t>(bits), out);
}

// Takes fields off the front. REQUIRES: enough bytes.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : at_(bytes.data()) {}
  uint8_t Read8() { return static_cast<uint8_t>(*at_++); }
  uint32_t Read32() {
    at_ += 4;
    return absl::big_endian::Load32(at_ - 4);
  }
  uint64_t Read64() {
    at_ += 8;
    return absl::big_endian::Load64(at_ - 8);
  }
  WideMicros ReadWide() {
    const unsigned __int128 high = Read64();
    return static_cast<WideMicros>(high << 64 | Read64());
  }

 private:
  const char* at_;
};

// In the order of the stored value.
template <typename Account, typename Visit>
void VisitFields(Account& a, const Visit& visit) {
  for (auto* sides : {&a.budget, &a.reserved, &a.spent}) {
    visit(sides->debit);
    visit(sides->credit);
  }
  visit(a.archived);
  visit(a.unbilled);
  visit(a.unbilled_events);
}
constexpr size_t kAccountFields = 9;

}  // namespace

std::string Book::Encode() const {
  std::string bytes;
  Append64(batch, &bytes);
  Append64(static_cast<uint64_t>(covered_ms), &bytes);
  AppendWide(debits, &bytes);
  AppendWide(credits, &bytes);
  return bytes;
}

bool Book::Decode(absl::string_view bytes, Book* out) {
  if (bytes.size() != 16 + 2 * kWideBytes) return false;
  Reader reader(bytes);
  out->batch = reader.Read64();
  out->covered_ms = static_cast<int64_t>(reader.Read64());
  out->debits = reader.ReadWide();
  out->credits = reader.ReadWide();
  return true;
}

std::string EncodeKey(absl::string_view campaign, int32_t day) {
  std::string bytes(campaign);
  Append32(static_cast<uint32_t>(day) ^ kSign, &bytes);
  return bytes;
}

bool DecodeKey(absl::string_view bytes, AccountKey* out) {
  if (bytes.size() < 4) return false;
  out->campaign = std::string(bytes.substr(0, bytes.size() - 4));
  out->day = static_cast<int32_t>(
      Reader(bytes.substr(bytes.size() - 4)).Read32() ^ kSign);
  return true;
}

std::string EncodeAccount(const LedgerAccount& account) {
  std::string bytes;
  bytes.reserve(kAccountFields * kWideBytes);
  VisitFields(account, [&](WideMicros v) { AppendWide(v, &bytes); });
  return bytes;
}

bool DecodeAccount(absl::string_view bytes, LedgerAccount* out) {
  if (bytes.size() != kAccountFields * kWideBytes) return false;
  Reader reader(bytes);
  VisitFields(*out, [&](WideMicros& v) { v = reader.ReadWide(); });
  return true;
}

std::string ReservationKey(const DecisionId& id, uint8_t position) {
  std::string bytes;
  id.AppendTo(&bytes);
  Append8(position, &bytes);
  return bytes;
}

std::string EncodeReservation(const LedgerReservation& slot,
                              absl::string_view campaign) {
  std::string bytes;
  Append8(slot.bid_type, &bytes);
  Append8(slot.full ? 1 : 0, &bytes);
  Append32(static_cast<uint32_t>(slot.day), &bytes);
  Append64(static_cast<uint64_t>(slot.micros), &bytes);
  uint32_t bits;
  std::memcpy(&bits, &slot.pctr, sizeof(bits));
  Append32(bits, &bytes);
  bytes.append(campaign.data(), campaign.size());
  return bytes;
}

bool DecodeReservation(absl::string_view key, absl::string_view value,
                       LedgerContents::Reservation* out) {
  if (key.size() != DecisionId::kBytes + 1 ||
      value.size() < kReservationBytes) {
    return false;
  }
  LedgerReservation& slot = out->slot;
  slot.id = DecisionId::FromBytes(key.substr(0, DecisionId::kBytes));
  slot.position = static_cast<uint8_t>(key.back());
  Reader reader(value);
  slot.bid_type = static_cast<v1::BidType>(reader.Read8());
  slot.full = reader.Read8() != 0;
  slot.day = static_cast<int32_t>(reader.Read32());
  slot.micros = static_cast<int64_t>(reader.Read64());
  const uint32_t bits = reader.Read32();
  std::memcpy(&slot.pctr, &bits, sizeof(bits));
  out->campaign = std::string(value.substr(kReservationBytes));
  return true;
}

std::string SettledKey(const DecisionId& id, uint8_t position,
                       v1::EventType event) {
  std::string bytes = ReservationKey(id, position);
  Append8(event, &bytes);
  return bytes;
}

std::string EncodeSettled(const Settled& settled) {
  std::string bytes;
  Append8(settled.billed ? 1 : 0, &bytes);
  Append32(static_cast<uint32_t>(settled.day), &bytes);
  Append64(static_cast<uint64_t>(settled.micros), &bytes);
  bytes += settled.campaign;
  return bytes;
}

bool DecodeSettled(absl::string_view bytes, Settled* out) {
  if (bytes.size() < kSettledBytes) return false;
  Reader reader(bytes);
  out->billed = reader.Read8() != 0;
  out->day = static_cast<int32_t>(reader.Read32());
  out->micros = static_cast<int64_t>(reader.Read64());
  out->campaign = std::string(bytes.substr(kSettledBytes));
  return true;
}

}  // namespace adrank::ledger_format
