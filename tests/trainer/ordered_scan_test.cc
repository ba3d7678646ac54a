#include "trainer/ordered_scan.h"

#include <atomic>

#include "base/rng.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;

// Records with ids 1..n and decisions of varying size.
class FakeCursor : public JoinCursor {
 public:
  explicit FakeCursor(uint64_t n, absl::Status end = absl::OkStatus())
      : n_(n), end_(std::move(end)) {
    Set();
  }
  bool Valid() const override { return at_ <= n_; }
  void Next() override {
    ++at_;
    Set();
  }
  const JoinedRecord& record() const override { return record_; }
  absl::Status status() const override { return end_; }

 private:
  void Set() {
    bytes_.assign(1 + MixBits(at_) % 3000, static_cast<char>(at_));
    events_.assign(at_ % 3, JoinedEvent{static_cast<uint8_t>(at_)});
    record_.id.ms = at_;
    record_.ads = static_cast<uint32_t>(at_ % 7);
    record_.decision = at_ % 5 == 0 ? absl::string_view() : bytes_;
    record_.events = events_;
  }
  const uint64_t n_;
  const absl::Status end_;
  uint64_t at_ = 1;
  std::string bytes_;
  std::vector<JoinedEvent> events_;
  JoinedRecord record_;
};

using Ids = std::vector<uint64_t>;

absl::Status Copy(const RecordBatch& batch, Ids* out) {
  out->clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    const JoinedRecord r = batch.record(i);
    const uint64_t id = r.id.ms;
    EXPECT_EQ(r.has_decision(), id % 5 != 0);
    if (r.has_decision()) {
      EXPECT_EQ(r.decision.size(), 1 + MixBits(id) % 3000);
      EXPECT_EQ(r.decision[0], static_cast<char>(id));
    }
    EXPECT_EQ(r.events.size(), id % 3);
    EXPECT_EQ(r.ads, id % 7);
    out->push_back(id);
  }
  return absl::OkStatus();
}

TEST(OrderedScan, MergesEveryRecordOnceInOrderForAnyNumberOfThreads) {
  for (uint64_t n : {0, 1, 255, 256, 257, 20000}) {
    for (size_t threads : {1, 2, 7}) {
      FakeCursor cursor(n);
      Ids merged;
      ASSERT_OK(OrderedScan<Ids>::Run(
          &cursor, threads,
          [&](size_t worker, const RecordBatch& batch, Ids* out) {
            EXPECT_LT(worker, threads);
            return Copy(batch, out);
          },
          [&](Ids* ids) {
            merged.insert(merged.end(), ids->begin(), ids->end());
            return absl::OkStatus();
          }));
      ASSERT_EQ(merged.size(), n);
      for (uint64_t i = 0; i < n; ++i) ASSERT_EQ(merged[i], i + 1);
    }
  }
}

TEST(OrderedScan, TheFirstErrorInOrderWinsAndNothingAfterItIsMerged) {
  for (size_t threads : {1, 4}) {
    FakeCursor cursor(30000);
    uint64_t last = 0;
    const absl::Status status = OrderedScan<Ids>::Run(
        &cursor, threads,
        [&](size_t, const RecordBatch& batch, Ids* out) {
          EXPECT_OK(Copy(batch, out));
          return out->back() >= 10000 ? absl::DataLossError("bad")
                                      : absl::OkStatus();
        },
        [&](Ids* ids) {
          last = ids->back();
          return absl::OkStatus();
        });
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, "bad"));
    EXPECT_LT(last, 10000u);
    EXPECT_GT(last, 9000u);
  }
}

TEST(OrderedScan, AMergeErrorStopsTheScan) {
  FakeCursor cursor(30000);
  std::atomic<int> merges = 0;
  EXPECT_THAT(OrderedScan<Ids>::Run(
                  &cursor, 3,
                  [](size_t, const RecordBatch& batch, Ids* out) {
                    return Copy(batch, out);
                  },
                  [&](Ids*) {
                    ++merges;
                    return absl::ResourceExhaustedError("full");
                  }),
              StatusIs(absl::StatusCode::kResourceExhausted, "full"));
  EXPECT_EQ(merges, 1);
}

TEST(OrderedScan, ADamagedLogIsAnErrorThoughRecordsCameBefore) {
  FakeCursor cursor(300, absl::DataLossError("block checksum"));
  EXPECT_THAT(OrderedScan<Ids>::Run(
                  &cursor, 2,
                  [](size_t, const RecordBatch& batch, Ids* out) {
                    return Copy(batch, out);
                  },
                  [](Ids*) { return absl::OkStatus(); }),
              StatusIs(absl::StatusCode::kDataLoss, "block checksum"));
}

}  // namespace
}  // namespace adrank
