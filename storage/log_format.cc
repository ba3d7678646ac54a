// Hot path: AppendDecisionValue makes no copy of the message.
#include "storage/log_format.h"

#include <initializer_list>

#include "absl/base/internal/endian.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace adrank::log_format {
namespace {

void AppendBe32(uint32_t value, std::string* bytes) {
  char buffer[4];
  absl::big_endian::Store32(buffer, value);
  bytes->append(buffer, sizeof(buffer));
}

}  // namespace

void AppendBe64(uint64_t value, std::string* bytes) {
  char buffer[8];
  absl::big_endian::Store64(buffer, value);
  bytes->append(buffer, sizeof(buffer));
}

absl::StatusOr<EventKey> EventKey::Of(const v1::Event& event) {
  ASSIGN_OR_RETURN(const DecisionId id,
                   DecisionId::FromHex(event.decision_id()));
  if (event.position() < 1 || event.position() > kMaxPosition) {
    return absl::InvalidArgumentError(
        absl::StrCat("position ", event.position(), " not in [1, 255]"));
  }
  if (event.type() != v1::EVENT_TYPE_IMPRESSION &&
      event.type() != v1::EVENT_TYPE_CLICK) {
    return absl::InvalidArgumentError(
        absl::StrCat("type ", static_cast<int>(event.type()),
                     " is neither IMPRESSION nor CLICK"));
  }
  if (event.time_ms() < 0 || event.time_ms() >= kEndOfTimeMs) {
    return absl::InvalidArgumentError(absl::StrCat(
        "time_ms ", event.time_ms(), " is not a time in unix milliseconds"));
  }
  return EventKey{id, static_cast<uint8_t>(event.position()),
                  static_cast<uint8_t>(event.type())};
}

void EventKey::AppendTo(std::string* bytes) const {
  id.AppendTo(bytes);
  bytes->push_back(static_cast<char>(position));
  bytes->push_back(static_cast<char>(type));
}

EventKey EventKey::FromBytes(absl::string_view bytes) {
  return {DecisionId::FromBytes(bytes),
          static_cast<uint8_t>(bytes[DecisionId::kBytes]),
          static_cast<uint8_t>(bytes[DecisionId::kBytes + 1])};
}

void EventValue::AppendTo(std::string* bytes) const {
  AppendBe64(static_cast<uint64_t>(time_ms), bytes);
  AppendBe64(static_cast<uint64_t>(receive_ms), bytes);
  AppendBe32(duplicates, bytes);
}

EventValue EventValue::FromBytes(absl::string_view bytes) {
  return {static_cast<int64_t>(absl::big_endian::Load64(bytes.data())),
          static_cast<int64_t>(absl::big_endian::Load64(bytes.data() + 8)),
          absl::big_endian::Load32(bytes.data() + 16)};
}

std::string Counters::Encode() const {
  std::string bytes;
  for (uint64_t value : {decisions, events, snapshots, duplicate_events,
                         unknown_decisions, dropped_decisions, commits}) {
    AppendBe64(value, &bytes);
  }
  return bytes;
}

Counters Counters::Decode(absl::string_view bytes) {
  Counters c;
  for (uint64_t* value :
       {&c.decisions, &c.events, &c.snapshots, &c.duplicate_events,
        &c.unknown_decisions, &c.dropped_decisions, &c.commits}) {
    if (bytes.size() < 8) break;
    *value = absl::big_endian::Load64(bytes.data());
    bytes.remove_prefix(8);
  }
  return c;
}

void AppendDecisionValue(const v1::Decision& decision, std::string* bytes) {
  bytes->push_back(static_cast<char>(decision.ads_size()));
  const size_t start = bytes->size();
  decision.AppendToString(bytes);
  // Fields are serialised by number and decision_id is number 1: a tag, one
  // byte of length (ids are 24 digits) and the text. Cheaper to cut off than to
  // copy the message without it.
  const size_t id_size = decision.decision_id().size();
  if (id_size == 0) return;
  size_t prefix = 1 + id_size;
  for (size_t n = id_size; n != 0; n >>= 7) ++prefix;
  bytes->erase(start, prefix);
}

bool ParseDecisionValue(const DecisionId& id, absl::string_view value,
                        v1::Decision* out) {
  if (value.empty()) return false;
  value.remove_prefix(1);
  if (!out->ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return false;
  }
  out->set_decision_id(id.ToHex());
  return true;
}

}  // namespace adrank::log_format
