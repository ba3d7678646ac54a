#include "storage/ledger_store.h"

#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "tests/storage/faulty_env.h"
#include "tests/storage/log_testing.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AFaultyEnv;
using ::adrank::testing::Faults;
using ::adrank::testing::IdAt;
using ::adrank::testing::kStartMs;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Kind = LedgerEntry::Kind;

const std::string& CampaignId(int i) {
  static const std::vector<std::string> ids = {"c1", "c2", "", "c\0x"};
  return ids[i];
}

LedgerEntry AnEntry(Kind kind, uint32_t decision, int64_t micros,
                    bool reserved = true) {
  LedgerEntry e;
  e.kind = kind;
  e.reserved = reserved;
  e.event = v1::EVENT_TYPE_CLICK;
  e.slot.id = IdAt(kStartMs + decision);
  e.slot.position = 1;
  e.slot.day = static_cast<int32_t>(decision % 3);
  e.slot.micros = micros;
  e.slot.pctr = 0.25f;
  e.campaign = &CampaignId(static_cast<int>(decision % 4));
  return e;
}

// What the ledger should hold, in the plainest way.
struct Model {
  struct Sums {
    int64_t reserved = 0, spent = 0, unbilled = 0;
    friend bool operator==(const Sums&, const Sums&) = default;
  };
  std::map<std::pair<std::string, int32_t>, Sums> accounts;
  std::map<DecisionId, int64_t> reservations;
  int64_t covered_ms = 0;

  void Apply(const LedgerEntry& e) {
    for (const int32_t day : {e.slot.day, LedgerAccount::kLife}) {
      Sums& s = accounts[{*e.campaign, day}];
      const bool held =
          e.kind == Kind::kRelease || (e.kind != Kind::kReserve && e.reserved);
      if (e.kind == Kind::kReserve) s.reserved += e.slot.micros;
      if (held) s.reserved -= e.slot.micros;
      if (e.kind == Kind::kBill) s.spent += e.slot.micros;
      if (e.kind == Kind::kRefuse) s.unbilled += e.slot.micros;
    }
    if (e.kind == Kind::kReserve) {
      reservations[e.slot.id] = e.slot.micros;
    } else {
      reservations.erase(e.slot.id);
    }
  }
  friend bool operator==(const Model&, const Model&) = default;
};

Model ModelOf(const LedgerContents& contents) {
  Model model;
  model.covered_ms = contents.covered_ms;
  for (const auto& a : contents.accounts) {
    model.accounts[{a.campaign, a.day}] = {
        static_cast<int64_t>(a.account.reserved.balance()),
        static_cast<int64_t>(a.account.spent.balance()),
        static_cast<int64_t>(a.account.unbilled)};
  }
  for (const auto& r : contents.reservations) {
    model.reservations[r.slot.id] = r.slot.micros;
  }
  return model;
}

void ExpectHolds(LedgerStore* store, const Model& model) {
  ASSERT_OK_AND_ASSIGN(const LedgerContents contents, store->Load());
  EXPECT_TRUE(ModelOf(contents) == model);
  ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, store->Audit());
  EXPECT_THAT(audit.errors, IsEmpty());
  EXPECT_TRUE(audit.debits == audit.credits);
}

// Decisions reserve, then are billed, refused or released; some are billed
// without a reservation.
class Traffic {
 public:
  explicit Traffic(uint64_t seed) : rng_(seed) {}

  std::vector<LedgerEntry> Batch() {
    std::vector<LedgerEntry> batch;
    const uint64_t n = rng_.Below(6);
    for (uint64_t i = 0; i < n; ++i) batch.push_back(Next());
    return batch;
  }

 private:
  LedgerEntry Next() {
    const auto micros = static_cast<int64_t>(1 + rng_.Below(1000));
    if (open_.empty() || rng_.Bernoulli(0.5)) {
      const uint32_t decision = next_++;
      if (rng_.Bernoulli(0.1)) {
        return AnEntry(rng_.Bernoulli(0.5) ? Kind::kBill : Kind::kRefuse,
                       decision, micros, /*reserved=*/false);
      }
      open_.push_back({decision, micros});
      return AnEntry(Kind::kReserve, decision, micros);
    }
    const size_t i = rng_.Below(open_.size());
    const auto [decision, held] = open_[i];
    open_.erase(open_.begin() + static_cast<int64_t>(i));
    constexpr Kind kEnds[] = {Kind::kBill, Kind::kRefuse, Kind::kRelease};
    return AnEntry(kEnds[rng_.Below(3)], decision, held);
  }

  Rng rng_;
  uint32_t next_ = 0;
  std::vector<std::pair<uint32_t, int64_t>> open_;
};

// Syncs are not what most of these tests are about.
class LedgerStoreTest : public ::testing::Test {
 protected:
  LedgerStoreTest() { faults_.skip_syncs = true; }
  absl::StatusOr<std::unique_ptr<LedgerStore>> Open(const std::string& dir) {
    return LedgerStore::Open(dir, env_.get());
  }

  TempDir dir_;
  Faults faults_;
  std::unique_ptr<rocksdb::Env> env_ = AFaultyEnv(&faults_);
};

TEST_F(LedgerStoreTest, KeepsEverythingAcrossReopening) {
  Model model;
  Traffic traffic(20260300);
  for (uint64_t life = 1; life <= 20; ++life) {
    ASSERT_OK_AND_ASSIGN(auto store, Open(dir_.path()));
    ExpectHolds(store.get(), model);
    const std::vector<LedgerEntry> batch = traffic.Batch();
    model.covered_ms = static_cast<int64_t>(100 + life);
    ASSERT_OK(store->Write(life, batch, model.covered_ms, life % 2 == 0));
    for (const LedgerEntry& e : batch) model.Apply(e);
    ExpectHolds(store.get(), model);
  }
}

// A copy of the files of a database that is being written is what a crash at
// this moment leaves.
TEST_F(LedgerStoreTest, B2IsBalancedAfterACrashBehindEveryBatch) {
  for (const uint64_t seed : {20260301, 20260302}) {
    SCOPED_TRACE(seed);
    TempDir dir;
    ASSERT_OK_AND_ASSIGN(auto store, Open(dir.path()));
    Traffic traffic(seed);
    Model model;
    for (int i = 0; i < 40; ++i) {
      const std::vector<LedgerEntry> batch = traffic.Batch();
      model.covered_ms = i + 1;
      ASSERT_OK(store->Write(static_cast<uint64_t>(i + 1), batch,
                             model.covered_ms, false));
      for (const LedgerEntry& e : batch) model.Apply(e);
      TempDir copy;
      std::filesystem::copy(dir / "ledger", copy / "ledger");
      ASSERT_OK_AND_ASSIGN(auto reopened, Open(copy.path()));
      ExpectHolds(reopened.get(), model);
    }
  }
}

// The write-ahead log is torn at every kind of place: what is left is what some
// number of whole batches made.
TEST_F(LedgerStoreTest, B2IsBalancedWhereverTheLastWriteIsTorn) {
  std::vector<Model> after = {Model()};
  {
    ASSERT_OK_AND_ASSIGN(auto store, Open(dir_.path()));
    Traffic traffic(20260304);
    for (int i = 0; i < 100; ++i) {
      const std::vector<LedgerEntry> batch = traffic.Batch();
      Model model = after.back();
      model.covered_ms = i + 1;
      ASSERT_OK(store->Write(static_cast<uint64_t>(i + 1), batch,
                             model.covered_ms, false));
      for (const LedgerEntry& e : batch) model.Apply(e);
      after.push_back(model);
    }
    std::filesystem::copy(dir_ / "ledger", dir_ / "crashed");
  }
  std::filesystem::path log;
  for (const auto& file :
       std::filesystem::directory_iterator(dir_ / "crashed")) {
    if (file.path().extension() == ".log") log = file.path().filename();
  }
  const auto size = std::filesystem::file_size(dir_ / "crashed" / log);
  ASSERT_GT(size, 10000u);
  Rng rng(20260305);
  size_t most = 0;
  for (int i = 0; i < 100; ++i) {
    TempDir copy;
    std::filesystem::copy(dir_ / "crashed", copy / "ledger");
    const uint64_t cut = i == 0 ? size : rng.Below(size);
    std::filesystem::resize_file(copy / "ledger" / log, cut);
    SCOPED_TRACE(cut);
    ASSERT_OK_AND_ASSIGN(auto store, Open(copy.path()));
    ASSERT_OK_AND_ASSIGN(const LedgerContents contents, store->Load());
    const auto batches = static_cast<size_t>(contents.covered_ms);
    ASSERT_LT(batches, after.size());
    ExpectHolds(store.get(), after[batches]);
    most = std::max(most, batches);
  }
  EXPECT_EQ(most, 100u);
}

TEST_F(LedgerStoreTest, B2AFailedWriteChangesNothingAndCanBeRepeated) {
  for (auto fault : {&Faults::writes, &Faults::syncs, &Faults::full}) {
    TempDir dir;
    ASSERT_OK_AND_ASSIGN(auto store, Open(dir.path()));
    Traffic traffic(20260306);
    Rng rng(20260307);
    Model model;
    int failures = 0;
    for (int i = 0; i < 12; ++i) {
      const std::vector<LedgerEntry> batch = traffic.Batch();
      model.covered_ms = i + 1;
      faults_.*fault = rng.Bernoulli(0.3);
      absl::Status status = store->Write(static_cast<uint64_t>(i + 1), batch,
                                         model.covered_ms, true);
      for (int again = 0; again < 3 && !status.ok(); ++again) {
        ++failures;
        EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable,
                                     Not(HasSubstr("balanced"))));
        if (again == 1) faults_.*fault = false;
        status = store->Write(static_cast<uint64_t>(i + 1), batch,
                              model.covered_ms, true);
      }
      faults_.*fault = false;
      ASSERT_OK(status);
      for (const LedgerEntry& e : batch) model.Apply(e);
      ExpectHolds(store.get(), model);
    }
    EXPECT_GT(failures, 2);
  }
}

TEST_F(LedgerStoreTest, KnowsWhatWasSettledUntilItIsPruned) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(dir_.path()));
  ASSERT_OK(store->Write(
      1,
      {AnEntry(Kind::kReserve, 0, 50), AnEntry(Kind::kReserve, 1, 60),
       AnEntry(Kind::kReserve, 2, 70), AnEntry(Kind::kBill, 0, 50),
       AnEntry(Kind::kRefuse, 1, 60)},
      7, true));
  const auto settled = [&](uint32_t decision) {
    const auto known =
        store->IsSettled(IdAt(kStartMs + decision), 1, v1::EVENT_TYPE_CLICK);
    EXPECT_OK(known);
    return known.ok() && *known;
  };
  EXPECT_TRUE(settled(0));
  EXPECT_TRUE(settled(1));
  EXPECT_FALSE(settled(2));
  // Nothing is old enough.
  EXPECT_THAT(store->Prune(kStartMs, 0, 100), testing::IsOk());
  EXPECT_TRUE(settled(0));
  // One at a time; days stay while something is reserved or settled.
  ASSERT_OK_AND_ASSIGN(bool more, store->Prune(kStartMs + 10, 100, 1));
  EXPECT_TRUE(more);
  while (more) {
    ASSERT_OK_AND_ASSIGN(more, store->Prune(kStartMs + 10, 100, 1));
    ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, store->Audit());
    EXPECT_THAT(audit.errors, IsEmpty());
  }
  EXPECT_FALSE(settled(0));
  ASSERT_OK_AND_ASSIGN(const LedgerContents contents, store->Load());
  std::vector<std::tuple<std::string, int32_t, int>> left;
  for (const auto& a : contents.accounts) {
    left.push_back(
        {a.campaign, a.day, static_cast<int>(a.account.spent.balance())});
  }
  constexpr int32_t kLife = LedgerAccount::kLife;
  EXPECT_THAT(left,
              ::testing::UnorderedElementsAre(std::make_tuple("c1", kLife, 50),
                                              std::make_tuple("c2", kLife, 0),
                                              std::make_tuple("", kLife, 0),
                                              std::make_tuple("", 2, 0)));
}

TEST_F(LedgerStoreTest, AnAuditTellsABillThatHasNoEvent) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(dir_.path()));
  ASSERT_OK(store->Write(
      1, {AnEntry(Kind::kReserve, 0, 50), AnEntry(Kind::kBill, 0, 50)}, 1,
      true));
  // The same event once more: a charge without a row of its own.
  ASSERT_OK(store->Write(2, {AnEntry(Kind::kBill, 0, 50, /*reserved=*/false)},
                         1, true));
  ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, store->Audit());
  EXPECT_THAT(
      audit.errors,
      ElementsAre(HasSubstr("\"c1\" day 0: spent 100, its billed events 50"),
                  HasSubstr("\"c1\": spent 100, its billed events 50")));
}

TEST_F(LedgerStoreTest, AnAuditTellsAReservationThatWasEndedTwice) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(dir_.path()));
  ASSERT_OK(store->Write(
      1,
      {AnEntry(Kind::kReserve, 0, 50), AnEntry(Kind::kRelease, 0, 50),
       AnEntry(Kind::kRelease, 0, 50)},
      1, true));
  ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, store->Audit());
  EXPECT_THAT(audit.errors,
              ElementsAre(HasSubstr("reserved -50, its reservations 0"),
                          HasSubstr("reserved -50, its reservations 0")));
}

TEST_F(LedgerStoreTest, SumsBeyond64BitsAreExact) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(dir_.path()));
  constexpr int64_t kLargest = int64_t{1} << 62;
  for (uint32_t i = 0; i < 40; i += 4) {
    ASSERT_OK(store->Write(
        i + 1, {AnEntry(Kind::kBill, 12 * i, kLargest, false)}, 1, false));
  }
  ASSERT_OK_AND_ASSIGN(const LedgerAudit audit, store->Audit());
  EXPECT_THAT(audit.errors, IsEmpty());
  EXPECT_TRUE(audit.spent == WideMicros{10} * kLargest);
}

}  // namespace
}  // namespace adrank
