// Builders, and a model of the event log that is obviously right.
#ifndef ADRANK_TESTS_STORAGE_LOG_TESTING_H_
#define ADRANK_TESTS_STORAGE_LOG_TESTING_H_

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/common.pb.h"
#include "proto/events.pb.h"
#include "proto/storage_config.pb.h"
#include "storage/event_log.h"
#include "storage/event_log_reader.h"
#include "tests/testing/status_matchers.h"

namespace adrank::testing {

constexpr int64_t kStartMs = 1'800'000'000'000;  // 2027-01-15 08:00 UTC
constexpr int64_t kDayMs = 86'400'000;

inline absl::Time StartTime() { return absl::FromUnixMillis(kStartMs); }

inline v1::StorageConfig LogConfig(const std::string& dir,
                                   v1::StorageConfig::Durability durability =
                                       v1::StorageConfig::GROUP_COMMIT) {
  v1::StorageConfig config;
  config.set_data_dir(dir);
  config.set_durability(durability);
  config.set_group_commit_ms(1);
  return config;
}

inline v1::AdSnapshot AnAd(int number) {
  v1::AdSnapshot ad;
  ad.set_ad_id(absl::StrCat("ad", number));
  ad.set_campaign_id(absl::StrCat("campaign", number / 10));
  v1::Attribute* attribute = ad.add_attributes();
  attribute->set_name("category");
  attribute->add_text(absl::StrCat("c", number % 7));
  return ad;
}

inline std::shared_ptr<const EncodedAd> Encoded(int number) {
  return std::make_shared<const EncodedAd>(EncodeAd(AnAd(number)));
}

inline DecisionId IdAt(int64_t ms, uint32_t sequence = 0) {
  return {static_cast<uint64_t>(ms), 1, sequence};
}

// A decision that serves the given ads.
inline v1::Decision ADecision(const DecisionId& id,
                              const std::vector<int>& ads) {
  v1::Decision decision;
  decision.set_decision_id(id.ToHex());
  decision.set_request_id(absl::StrCat("r", id.sequence));
  decision.mutable_context()->set_time_ms(static_cast<int64_t>(id.ms));
  decision.mutable_context()->set_user_id(absl::StrCat("u", id.sequence % 5));
  for (size_t i = 0; i < ads.size(); ++i) {
    v1::ServedAd* ad = decision.add_ads();
    ad->set_ad_hash(EncodeAd(AnAd(ads[i])).hash);
    ad->set_position(static_cast<uint32_t>(i) + 1);
    ad->set_pctr(0.05f);
  }
  return decision;
}

inline bool Append(EventLog* log, const DecisionId& id,
                   const std::vector<int>& ads) {
  std::vector<std::shared_ptr<const EncodedAd>> encoded;
  for (int ad : ads) encoded.push_back(Encoded(ad));
  return log->AppendDecision(id, ADecision(id, ads), encoded);
}

inline v1::Event AnEvent(const DecisionId& id, uint32_t position,
                         v1::EventType type, int64_t time_ms) {
  v1::Event event;
  event.set_decision_id(id.ToHex());
  event.set_position(position);
  event.set_type(type);
  event.set_time_ms(time_ms);
  return event;
}

inline v1::Event AnImpression(const DecisionId& id, uint32_t position = 1) {
  return AnEvent(id, position, v1::EVENT_TYPE_IMPRESSION,
                 static_cast<int64_t>(id.ms) + 100);
}
inline v1::Event AClick(const DecisionId& id, uint32_t position = 1) {
  return AnEvent(id, position, v1::EVENT_TYPE_CLICK,
                 static_cast<int64_t>(id.ms) + 5000);
}

inline std::vector<v1::EventResult::Code> Codes(
    const std::vector<v1::EventResult>& results) {
  std::vector<v1::EventResult::Code> codes;
  for (const v1::EventResult& result : results) codes.push_back(result.code());
  return codes;
}

// What the log should hold: maps, first report wins.
struct LogModel {
  struct Entry {
    std::string decision;  // serialised with its id; empty: orphan
    // (position, type) -> (time, duplicates)
    std::map<std::pair<int, int>, std::pair<int64_t, uint32_t>> events;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  std::map<std::string, Entry> entries;  // by hex id
  uint64_t duplicates = 0;

  void Decide(const v1::Decision& decision) {
    std::string& stored = entries[decision.decision_id()].decision;
    if (stored.empty()) stored = decision.SerializeAsString();
  }
  v1::EventResult::Code Report(const v1::Event& event) {
    Entry& entry = entries[event.decision_id()];
    const auto [it, first] = entry.events.try_emplace(
        {static_cast<int>(event.position()), event.type()}, event.time_ms(), 0);
    if (!first) {
      ++it->second.second;
      ++duplicates;
      return v1::EventResult::CODE_DUPLICATE;
    }
    return entry.decision.empty() ? v1::EventResult::CODE_UNKNOWN_DECISION
                                  : v1::EventResult::CODE_ACCEPTED;
  }
  uint64_t Decisions() const {
    uint64_t n = 0;
    for (const auto& [id, entry] : entries) n += !entry.decision.empty();
    return n;
  }
  uint64_t Events() const {
    uint64_t n = 0;
    for (const auto& [id, entry] : entries) n += entry.events.size();
    return n;
  }
};

// What a cursor sees.
inline absl::StatusOr<std::map<std::string, LogModel::Entry>> ReadAll(
    EventLogReader* reader, int64_t begin_ms = 0,
    int64_t end_ms = int64_t{1} << 60) {
  std::map<std::string, LogModel::Entry> seen;
  std::unique_ptr<JoinCursor> cursor = reader->Join(begin_ms, end_ms);
  std::string previous;
  for (; cursor->Valid(); cursor->Next()) {
    const JoinedRecord& record = cursor->record();
    const std::string hex = record.id.ToHex();
    if (hex <= previous) return absl::InternalError("ids out of order");
    previous = hex;
    LogModel::Entry& entry = seen[hex];
    v1::Decision decision;
    if (record.has_decision()) {
      if (!record.Parse(&decision)) return absl::InternalError("parse");
      if (record.ads != static_cast<uint32_t>(decision.ads_size())) {
        return absl::InternalError("ads");
      }
      entry.decision = decision.SerializeAsString();
    }
    for (const JoinedEvent& event : record.events) {
      entry.events[{event.position, event.type}] = {event.time_ms,
                                                    event.duplicates};
    }
    if (entry.events.size() != record.events.size()) {
      return absl::InternalError("events of one record repeat");
    }
  }
  if (!cursor->status().ok()) return cursor->status();
  return seen;
}

inline absl::StatusOr<std::map<std::string, LogModel::Entry>> ReadAll(
    const std::string& data_dir) {
  ASSIGN_OR_RETURN(std::unique_ptr<EventLogReader> reader,
                   EventLogReader::Open(data_dir));
  return ReadAll(reader.get());
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_STORAGE_LOG_TESTING_H_
