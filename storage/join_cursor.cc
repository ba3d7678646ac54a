// Hot path: no allocation after warm-up, no locks, no logging.
#include "storage/join_cursor.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "storage/log_format.h"
#include "storage/rocks.h"

namespace adrank {
namespace {

using log_format::EventKey;
using log_format::EventValue;

class MergingCursor final : public JoinCursor {
 public:
  MergingCursor(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* decisions,
                rocksdb::ColumnFamilyHandle* events, const std::string& path,
                int64_t begin_ms, int64_t end_ms)
      : path_(path) {
    begin_ms = std::clamp<int64_t>(begin_ms, 0, log_format::kEndOfTimeMs);
    end_ms = std::clamp<int64_t>(end_ms, begin_ms, log_format::kEndOfTimeMs);
    if (begin_ms == end_ms) return;
    std::string begin;
    DecisionId{static_cast<uint64_t>(begin_ms), 0, 0}.AppendTo(&begin);
    rocksdb::ReadOptions options = rocks::ScanOptions();
    if (end_ms < log_format::kEndOfTimeMs) {
      DecisionId{static_cast<uint64_t>(end_ms), 0, 0}.AppendTo(&end_);
      end_slice_ = end_;
      options.iterate_upper_bound = &end_slice_;
    }
    decisions_.reset(db->NewIterator(options, decisions));
    events_.reset(db->NewIterator(options, events));
    decisions_->Seek(begin);
    events_->Seek(begin);
    Read();
  }

  bool Valid() const override { return valid_; }
  void Next() override {
    if (record_.has_decision()) decisions_->Next();
    Read();
  }
  const JoinedRecord& record() const override { return record_; }
  absl::Status status() const override { return status_; }

 private:
  // Builds the record of the least id that either iterator is at; takes the
  // events, and leaves the decision until Next, as record_ points into it.
  void Read() {
    valid_ = false;
    record_ = JoinedRecord();
    const bool has_decision = decisions_->Valid();
    const bool has_event = events_->Valid();
    // An iterator that met damage is not at its end: without it the rest would
    // pass for orphans, or for decisions without events.
    Finish();
    if (!status_.ok() || (!has_decision && !has_event)) return;
    const rocksdb::Slice decision_key =
        has_decision ? decisions_->key() : rocksdb::Slice();
    if (has_decision && (decision_key.size() != DecisionId::kBytes ||
                         decisions_->value().empty())) {
      return Damaged("a decision");
    }
    if (has_event && events_->key().size() != log_format::kEventKeyBytes) {
      return Damaged("an event");
    }
    const int order = !has_event      ? -1
                      : !has_decision ? 1
                                      : CompareIds(decision_key.data(),
                                                   events_->key().data());
    char id[DecisionId::kBytes];
    std::memcpy(id, order <= 0 ? decision_key.data() : events_->key().data(),
                sizeof(id));
    record_.id = DecisionId::FromBytes({id, sizeof(id)});
    if (order <= 0) {
      const absl::string_view value = rocks::View(decisions_->value());
      record_.ads = static_cast<uint8_t>(value[0]);
      record_.decision = value.substr(1);
    }
    valid_ = order < 0 || TakeEvents(id);
  }

  // Takes the events of the id. False when one is damaged.
  bool TakeEvents(const char* id) {
    found_.clear();
    do {
      const rocksdb::Slice value = events_->value();
      if (events_->key().size() != log_format::kEventKeyBytes ||
          value.size() != log_format::kEventValueBytes) {
        Damaged("an event");
        return false;
      }
      const EventKey key = EventKey::FromBytes(rocks::View(events_->key()));
      const EventValue event = EventValue::FromBytes(rocks::View(value));
      found_.push_back({key.position, static_cast<v1::EventType>(key.type),
                        event.time_ms, event.receive_ms, event.duplicates});
      events_->Next();
    } while (events_->Valid() && CompareIds(events_->key().data(), id) == 0);
    // What follows may be unreadable: then this id may lack events.
    if (!events_->Valid() && !events_->status().ok()) {
      Finish();
      return false;
    }
    record_.events = found_;
    return true;
  }

  static int CompareIds(const char* a, const char* b) {
    return std::memcmp(a, b, DecisionId::kBytes);
  }

  void Finish() {
    for (const auto* it : {decisions_.get(), events_.get()}) {
      if (!it->Valid() && status_.ok()) {
        status_ = rocks::ToStatus(it->status(),
                                  absl::StrCat("read event log ", path_));
      }
    }
  }

  void Damaged(absl::string_view what) {
    status_ = absl::DataLossError(
        absl::StrCat("event log ", path_, ": ", what, " is damaged"));
  }

  const std::string path_;
  std::string end_;
  rocksdb::Slice end_slice_;  // of end_; the iterators refer to it
  std::unique_ptr<rocksdb::Iterator> decisions_, events_;
  std::vector<JoinedEvent> found_;
  JoinedRecord record_;
  bool valid_ = false;
  absl::Status status_;
};

}  // namespace

std::unique_ptr<JoinCursor> MakeJoinCursor(
    rocksdb::DB* db, rocksdb::ColumnFamilyHandle* decisions,
    rocksdb::ColumnFamilyHandle* events, const std::string& path,
    int64_t begin_ms, int64_t end_ms) {
  return std::make_unique<MergingCursor>(db, decisions, events, path, begin_ms,
                                         end_ms);
}

}  // namespace adrank
