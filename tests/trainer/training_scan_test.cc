#include "trainer/training_scan.h"

#include <algorithm>
#include <map>
#include <memory>

#include "base/hash.h"
#include "base/rng.h"
#include "storage/event_log.h"
#include "tests/testing/status_matchers.h"
#include "tests/trainer/a_log.h"
#include "trainer/labelled_decision.h"

namespace adrank {
namespace {

using ::adrank::testing::AConfig;
using ::adrank::testing::ALog;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

struct StoredRecord {
  DecisionId id;
  std::string bytes;
  std::vector<JoinedEvent> events;
};

// A log in memory.
class FakeReader : public EventLogReader {
 public:
  std::vector<StoredRecord> records;
  std::map<std::string, v1::AdSnapshot> snapshots;

  std::unique_ptr<JoinCursor> Join(int64_t begin_ms, int64_t end_ms) override {
    return std::make_unique<Cursor>(this, begin_ms, end_ms);
  }
  absl::StatusOr<v1::AdSnapshot> GetSnapshot(absl::string_view hash) override {
    const auto it = snapshots.find(std::string(hash));
    if (it == snapshots.end()) return absl::NotFoundError("no snapshot");
    return it->second;
  }
  absl::StatusOr<v1::Decision> GetDecision(const DecisionId&) override {
    return absl::UnimplementedError("not used here");
  }
  absl::StatusOr<std::pair<int64_t, int64_t>> TimeRange() override {
    return absl::UnimplementedError("not used here");
  }

 private:
  class Cursor : public JoinCursor {
   public:
    Cursor(FakeReader* reader, int64_t begin_ms, int64_t end_ms)
        : reader_(reader), end_ms_(end_ms) {
      while (at_ < reader_->records.size() && Ms() < begin_ms) ++at_;
      Set();
    }
    bool Valid() const override {
      return at_ < reader_->records.size() && Ms() < end_ms_;
    }
    void Next() override {
      ++at_;
      Set();
    }
    const JoinedRecord& record() const override { return record_; }
    absl::Status status() const override { return absl::OkStatus(); }

   private:
    int64_t Ms() const {
      return static_cast<int64_t>(reader_->records[at_].id.ms);
    }
    void Set() {
      if (!Valid()) return;
      const StoredRecord& r = reader_->records[at_];
      record_.id = r.id;
      record_.decision = r.bytes;
      record_.events = r.events;
    }
    FakeReader* const reader_;
    const int64_t end_ms_;
    size_t at_ = 0;
    JoinedRecord record_;
  };
};

// Decisions with two placements, some ads unseen, some clicked, some lacking
// their snapshot.
FakeReader RandomLog(int decisions) {
  FakeReader reader;
  Rng rng(4);
  for (int i = 0; i < 25; ++i) {
    const v1::AdSnapshot ad = ALog::Ad(i);
    reader.snapshots[EncodeAd(ad).hash] = ad;
  }
  for (int d = 0; d < decisions; ++d) {
    StoredRecord& r = reader.records.emplace_back();
    r.id.ms = static_cast<uint64_t>(1000 + d);
    v1::Decision decision;
    auto* device = decision.mutable_context()->add_attributes();
    device->set_name("device");
    device->add_text(absl::StrCat("d", rng.Below(3)));
    if (rng.Bernoulli(0.5)) device->add_text("d0");  // sometimes twice
    decision.mutable_context()->set_user_id(absl::StrCat("u", rng.Below(50)));
    decision.add_placement_ids("top");
    decision.add_placement_ids("side");
    for (uint32_t p = 1; p <= 1 + rng.Below(6); ++p) {
      auto* ad = decision.add_ads();
      ad->set_ad_hash(EncodeAd(ALog::Ad(static_cast<int>(rng.Below(27)))).hash);
      ad->set_position(p);
      ad->set_placement_index(p > 3 ? 1 : 0);
      ad->set_position_in_placement(p > 3 ? p - 3 : p);
      const auto position = static_cast<uint8_t>(p);
      if (!rng.Bernoulli(0.8)) continue;
      r.events.push_back({position, v1::EVENT_TYPE_IMPRESSION, 5000});
      if (!rng.Bernoulli(0.3)) continue;
      r.events.push_back({position, v1::EVENT_TYPE_CLICK, 6000});
    }
    r.bytes = decision.SerializeAsString();
  }
  return reader;
}

struct Row {
  std::vector<uint64_t> ids;
  std::vector<float> values;
  std::vector<uint16_t> fields;
  bool clicked;
  friend bool operator==(const Row&, const Row&) = default;
};

// One row after the other by Extract, and every id counted once a row.
std::vector<Row> SlowRows(FakeReader* reader, const FeatureExtractor& extractor,
                          std::map<uint64_t, uint32_t>* counts) {
  std::vector<Row> rows;
  for (const StoredRecord& r : reader->records) {
    v1::Decision decision;
    EXPECT_TRUE(decision.ParseFromString(r.bytes));
    for (const v1::ServedAd& ad : decision.ads()) {
      bool seen = false, clicked = false;
      for (const JoinedEvent& e : r.events) {
        if (e.position != ad.position()) continue;
        (e.type == v1::EVENT_TYPE_IMPRESSION ? seen : clicked) = true;
      }
      const auto snapshot = reader->snapshots.find(ad.ad_hash());
      if (!seen || snapshot == reader->snapshots.end()) continue;
      const v1::AdSnapshot* const ads[] = {&snapshot->second};
      RequestFeatures f;
      extractor.Extract(
          decision.context(),
          decision.placement_ids(static_cast<int>(ad.placement_index())), ads,
          {ad.position_in_placement()}, &f);
      Row& row = rows.emplace_back();
      row.clicked = clicked;
      for (const FeatureBatch* part : {&f.context, &f.ads, &f.crosses}) {
        row.ids.insert(row.ids.end(), part->ids.begin(), part->ids.end());
        row.values.insert(row.values.end(), part->values.begin(),
                          part->values.end());
        row.fields.insert(row.fields.end(), part->fields.begin(),
                          part->fields.end());
      }
      std::vector<uint64_t> distinct = row.ids;
      std::sort(distinct.begin(), distinct.end());
      distinct.erase(std::unique(distinct.begin(), distinct.end()),
                     distinct.end());
      for (uint64_t id : distinct) ++(*counts)[id];
    }
  }
  return rows;
}

std::vector<Row> Unpack(const ExampleBlocks& raw, const IdTable& ids) {
  std::vector<Row> rows;
  EXPECT_OK(raw.ForEach([&](const ExampleBlock& block) {
    for (size_t i = 0; i < block.examples(); ++i) {
      Row& row = rows.emplace_back();
      row.clicked = block.label(i);
      for (size_t e = block.begin(i); e < block.begin(i + 1); ++e) {
        row.ids.push_back(ids.entry(block.rows()[e]).id);
        row.values.push_back(block.values() != nullptr ? block.values()[e]
                                                       : 1.0f);
        row.fields.push_back(block.field(block.begin(i), e - block.begin(i)));
      }
    }
    return absl::OkStatus();
  }));
  return rows;
}

std::unique_ptr<const FeatureExtractor> AnExtractor() {
  v1::FeatureSpec spec = AConfig("", "").feature_spec();
  spec.mutable_fields(2)->set_name("price");
  spec.mutable_fields(2)->set_source("ad.price");
  spec.mutable_fields(2)->set_kind(v1::Field::LOG1P);  // values that are not 1
  auto* placement = spec.add_fields();
  placement->set_name("placement");
  placement->set_source("placement");
  auto extractor = FeatureExtractor::Create(spec);
  EXPECT_OK(extractor);
  return *std::move(extractor);
}

absl::StatusOr<TrainingRows> Scan(FakeReader* reader,
                                  const FeatureExtractor& extractor,
                                  double keep_rate, uint32_t threads,
                                  IdTable* ids) {
  TrainingScanOptions options;
  options.end_ms = 1 << 30;
  options.negative_keep_rate = keep_rate;
  options.threads = threads;
  StepProgress progress(Clock::Real(), false, -1);
  return ScanTraining(reader, extractor, options, ids, &progress);
}

TEST(TrainingScan, EqualsExtractingEachRowByItself) {
  FakeReader reader = RandomLog(3000);
  const auto extractor = AnExtractor();
  std::map<uint64_t, uint32_t> counts;
  const std::vector<Row> want = SlowRows(&reader, *extractor, &counts);
  for (uint32_t threads : {1, 3}) {
    IdTable ids;
    ASSERT_OK_AND_ASSIGN(const TrainingRows got,
                         Scan(&reader, *extractor, 1, threads, &ids));
    EXPECT_EQ(got.raw.examples(), want.size());
    EXPECT_EQ(got.seen, want.size());
    EXPECT_TRUE(Unpack(got.raw, ids) == want) << threads << " threads";
    EXPECT_EQ(ids.size(), counts.size());
    for (uint32_t s = 0; s < IdTable::kShards; ++s) {
      for (const IdTable::Entry& entry : ids.shard(s)) {
        ASSERT_EQ(entry.examples, counts[entry.id]);
      }
    }
    EXPECT_EQ(got.first_ms, 1000);
    EXPECT_EQ(got.join.missing_snapshots() + got.join.examples() +
                  got.join.unseen_ads(),
              got.join.served_ads());
    EXPECT_GT(got.join.missing_snapshots(), 0u);
    // Device, price and placement are in every row.
    EXPECT_EQ(got.present[0], want.size());
    EXPECT_EQ(got.present[2], want.size());
    EXPECT_EQ(got.present[6], want.size());
  }
}

TEST(TrainingScan, SamplingKeepsEveryClickAndTheShareOfNegatives) {
  FakeReader reader = RandomLog(3000);
  const auto extractor = AnExtractor();
  IdTable all_ids, ids;
  ASSERT_OK_AND_ASSIGN(const TrainingRows all,
                       Scan(&reader, *extractor, 1, 1, &all_ids));
  ASSERT_OK_AND_ASSIGN(const TrainingRows kept,
                       Scan(&reader, *extractor, 0.25, 2, &ids));
  EXPECT_EQ(kept.seen, all.seen);
  EXPECT_EQ(kept.seen_clicks, all.raw.clicks());
  EXPECT_EQ(kept.raw.clicks(), all.raw.clicks());
  const auto negatives =
      static_cast<double>(all.raw.examples() - all.raw.clicks());
  EXPECT_NEAR(static_cast<double>(kept.raw.examples() - kept.raw.clicks()),
              0.25 * negatives, 4 * std::sqrt(negatives * 0.25 * 0.75));
}

TEST(TrainingScan, TheFilterAndTheDaysAreThoseOfOneRowAfterTheOther) {
  FakeReader reader = RandomLog(3000);
  // Five days instead of three seconds.
  for (size_t i = 0; i < reader.records.size(); ++i) {
    reader.records[i].id.ms = i * 5 * 86'400'000ull / reader.records.size();
  }
  const auto extractor = AnExtractor();
  for (uint32_t threads : {1, 3}) {
    TrainingScanOptions options;
    options.end_ms = int64_t{1} << 40;
    options.threads = threads;
    StepProgress progress(Clock::Real(), false, -1);
    IdFilter filter(1 << 20);
    ASSERT_OK_AND_ASSIGN(
        const uint64_t counted,
        CountIds(&reader, *extractor, options, &filter, &progress));
    IdTable ids;
    ASSERT_OK_AND_ASSIGN(
        const TrainingRows got,
        ScanTraining(&reader, *extractor, options, &ids, &progress));
    EXPECT_EQ(counted, got.raw.examples());
    uint64_t entries = 0, days = 0;
    for (uint32_t s = 0; s < IdTable::kShards; ++s) {
      for (const IdTable::Entry& entry : ids.shard(s)) {
        EXPECT_EQ(filter.AtMost(entry.id),
                  std::min(entry.examples, IdFilter::kMaxCount));
        ++entries;
        days += entry.day;
      }
    }
    // The twin: the last example of each id, by the time of its decision.
    std::map<uint64_t, uint64_t> last;
    for (size_t i = 0; i < reader.records.size(); ++i) {
      FakeReader one = reader;
      one.records = {reader.records[i]};
      std::map<uint64_t, uint32_t> counts;
      SlowRows(&one, *extractor, &counts);
      for (const auto& [id, n] : counts) {
        last[id] = reader.records[i].id.ms / 86'400'000;
      }
    }
    uint64_t want = 0;
    for (const auto& [id, day] : last) want += day;
    EXPECT_EQ(entries, last.size());
    EXPECT_EQ(days, want);
    EXPECT_GT(days, entries);
  }
}

TEST(TrainingScan, ADamagedDecisionIsNamed) {
  FakeReader reader = RandomLog(700);
  reader.records[600].bytes = "\x0f\xff damage";
  IdTable ids;
  EXPECT_THAT(Scan(&reader, *AnExtractor(), 1, 2, &ids),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr(reader.records[600].id.ToHex())));
}

}  // namespace
}  // namespace adrank
