// An EventLog that keeps what was written, for tests of its writers.
#ifndef ADRANK_TESTS_TESTING_RECORDING_EVENT_LOG_H_
#define ADRANK_TESTS_TESTING_RECORDING_EVENT_LOG_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/event_log.h"

namespace adrank::testing {

class RecordingEventLog : public EventLog {
 public:
  bool AppendDecision(
      const DecisionId& id, const v1::Decision& decision,
      absl::Span<const std::shared_ptr<const EncodedAd>> ads) override {
    decisions.emplace(id, decision);
    for (const auto& ad : ads) snapshots[ad->hash] = ad->bytes;
    return true;
  }
  void AppendEvents(
      std::vector<v1::Event> appended,
      std::function<void(std::vector<v1::EventResult>)> done) override {
    std::vector<v1::EventResult> results(appended.size());
    for (size_t i = 0; i < appended.size(); ++i) {
      results[i].set_code(v1::EventResult::CODE_ACCEPTED);
      events.push_back(std::move(appended[i]));
    }
    done(std::move(results));
  }
  absl::Status Write(const LogBatch& batch) override {
    if (!write_status.ok()) return write_status;
    ++writes;
    for (const auto& record : batch.decisions) {
      decisions[record.id] = record.decision;
    }
    for (const EncodedAd& ad : batch.ads) snapshots[ad.hash] = ad.bytes;
    events.insert(events.end(), batch.events.begin(), batch.events.end());
    return absl::OkStatus();
  }
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status ApplyRetention() override { return absl::OkStatus(); }
  absl::StatusOr<v1::Decision> GetDecision(const DecisionId& id) override {
    const auto it = decisions.find(id);
    if (it == decisions.end()) return absl::NotFoundError(id.ToHex());
    return it->second;
  }
  absl::StatusOr<v1::AdSnapshot> GetSnapshot(absl::string_view hash) override {
    const auto it = snapshots.find(std::string(hash));
    v1::AdSnapshot snapshot;
    if (it == snapshots.end() || !snapshot.ParseFromString(it->second)) {
      return absl::NotFoundError("no such snapshot");
    }
    return snapshot;
  }
  absl::Status ForEachEvent(
      int64_t begin_ms,
      const std::function<absl::Status(const StoredEvent&)>& visit) override {
    for (const v1::Event& event : events) {
      const auto id = DecisionId::FromHex(event.decision_id());
      if (!id.ok() || static_cast<int64_t>(id->ms) < begin_ms) continue;
      const absl::Status status =
          visit({*id, static_cast<uint8_t>(event.position()), event.type(),
                 event.time_ms()});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<v1::Decision>> NewestDecisions(
      size_t limit) override {
    std::vector<v1::Decision> newest;
    for (auto it = decisions.rbegin();
         it != decisions.rend() && newest.size() < limit; ++it) {
      newest.push_back(it->second);
    }
    return newest;
  }
  EventLogStats Stats() override { return {}; }

  std::map<DecisionId, v1::Decision> decisions;
  std::map<std::string, std::string> snapshots;
  std::vector<v1::Event> events;
  int writes = 0;
  absl::Status write_status;
};

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TESTING_RECORDING_EVENT_LOG_H_
