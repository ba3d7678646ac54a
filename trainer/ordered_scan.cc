#include "trainer/ordered_scan.h"

namespace adrank {
namespace {

// Small enough that all batches under way stay in cache and no worker waits
// long for its turn; large enough that locks do not count.
constexpr size_t kBatchBytes = 256 << 10;
constexpr size_t kBatchRecords = 256;

}  // namespace

bool RecordBatch::Fill(JoinCursor* cursor) {
  bytes_.clear();
  events_.clear();
  entries_.clear();
  while (cursor->Valid() && bytes_.size() < kBatchBytes &&
         entries_.size() < kBatchRecords) {
    const JoinedRecord& record = cursor->record();
    entries_.push_back({record.id, bytes_.size(), record.decision.size(),
                        record.has_decision(), record.ads, events_.size(),
                        record.events.size()});
    bytes_.append(record.decision.data(), record.decision.size());
    events_.insert(events_.end(), record.events.begin(), record.events.end());
    cursor->Next();
  }
  return !entries_.empty();
}

JoinedRecord RecordBatch::record(size_t i) const {
  const Entry& entry = entries_[i];
  JoinedRecord record;
  record.id = entry.id;
  if (entry.has_decision) {
    record.decision =
        absl::string_view(bytes_).substr(entry.offset, entry.bytes);
  }
  record.ads = entry.ads;
  record.events =
      absl::MakeConstSpan(events_).subspan(entry.first_event, entry.events);
  return record;
}

}  // namespace adrank
