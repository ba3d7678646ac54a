// Frequency caps against an oracle: C1 (never more than the cap in any window),
// C2 (reservations come back).
#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/rng.h"
#include "server/caps/frequency_caps.h"
#include "tests/server/caps_testing.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::AddCap;
using ::adrank::testing::ANestedCatalog;
using ::adrank::testing::AnImpressionEvent;
using ::adrank::testing::AnIndex;
using ::adrank::testing::ARandomCappedCatalog;
using ::adrank::testing::CapsOracle;
using ::adrank::testing::TempDir;

const absl::Time kNoon = absl::FromUnixMillis(1'800'000'000'000);
constexpr int64_t kLateMs = 24 * 3600 * 1000;

v1::Context ContextOf(const std::string& user) {
  v1::Context context;
  context.set_user_id(user);
  return context;
}

std::vector<AdmissionSlot> SlotsOf(const std::vector<uint32_t>& ads) {
  std::vector<AdmissionSlot> slots;
  for (const uint32_t ad : ads) {
    AdmissionSlot slot;
    slot.ad = ad;
    slot.position = static_cast<uint32_t>(slots.size()) + 1;
    slots.push_back(slot);
  }
  return slots;
}

// Up to four distinct ads.
std::vector<uint32_t> SomeAds(size_t ads, Rng* rng) {
  std::vector<uint32_t> out;
  for (uint64_t n = 1 + rng->Below(4); n > 0; --n) {
    const auto ad = static_cast<uint32_t>(rng->Below(ads));
    if (std::find(out.begin(), out.end(), ad) == out.end()) out.push_back(ad);
  }
  return out;
}

// One server and its oracle, one step at a time.
class Twins {
 public:
  Twins(uint64_t seed, size_t cached_users)
      : rng_(seed),
        catalog_(ARandomCappedCatalog(&rng_)),
        index_(AnIndex(catalog_)),
        cached_users_(cached_users),
        oracle_(catalog_, kReservationSeconds * 1000, kLateMs) {
    config_.set_reservation_seconds(kReservationSeconds);
    Restart();
  }

  void Restart() {
    caps_.reset();
    store_.reset();
    auto store = CapStore::Open(dir_.path(), &clock_);
    EXPECT_OK(store);
    store_ = *std::move(store);
    caps_ = std::make_unique<FrequencyCaps>(config_, store_.get(), &clock_,
                                            cached_users_);
  }

  void Step() {
    const uint64_t what = rng_.Below(100);
    if (what < 30) clock_.Advance(SomeTime());
    if (what < 20) return CheckBegin(AUser());
    if (what < 70) return CheckReserve(AUser());
    if (what < 75) return Release();
    if (what < 99) return Report();
    if (rng_.Bernoulli(0.1)) Restart();
  }

  uint64_t accepted() const { return accepted_; }
  uint64_t refused() const { return refused_; }

 private:
  static constexpr uint32_t kReservationSeconds = 600;

  std::string AUser() { return absl::StrCat("u", rng_.Below(5)); }
  absl::Duration SomeTime() {
    return absl::Milliseconds(
        rng_.Below(rng_.Bernoulli(0.05) ? 40'000'000 : 60'000));
  }
  // Requests are answered in another order than they came.
  DecisionId AnId() {
    return {static_cast<uint64_t>(clock_.NowMs()) - rng_.Below(5000), 1,
            sequence_++};
  }

  void CheckBegin(const std::string& user) {
    AdmissionTerms terms;
    caps_->Begin(*index_, ContextOf(user), &terms);
    const int64_t now = clock_.NowMs();
    for (uint32_t i = 0; i < index_->size(); ++i) {
      const CapsOracle::Served s =
          oracle_.Serve(user, std::string(index_->ad_id(i)), {}, 1);
      bool full = false;
      for (const std::string& e : s.entities) {
        full |= oracle_.Full(user, e, now, now);
      }
      ASSERT_EQ(terms.Capped(i, index_->ad(i).group, index_->ad(i).campaign),
                full)
          << s.entities[0];
    }
  }

  void CheckReserve(const std::string& user) {
    const DecisionId id = AnId();
    const int64_t now = clock_.NowMs();
    const auto slots = SlotsOf(SomeAds(index_->size(), &rng_));
    std::vector<SlotRefusal> refused;
    caps_->Reserve(*index_, ContextOf(user), id, slots, &refused);
    std::vector<CapsOracle::Served> taken;
    size_t next = 0;
    for (uint32_t i = 0; i < slots.size(); ++i) {
      const CapsOracle::Served s = oracle_.Serve(
          user, std::string(index_->ad_id(slots[i].ad)), id, slots[i].position);
      int level = -1;  // the widest that is full
      for (int l = 0; l < kCapLevels; ++l) {
        uint32_t more = 1;
        for (const auto& t : taken) more += t.entities[l] == s.entities[l];
        if (oracle_.Full(user, s.entities[l], static_cast<int64_t>(id.ms), now,
                         more)) {
          level = l;
        }
      }
      if (level < 0) {
        taken.push_back(s);
        continue;
      }
      ASSERT_LT(next, refused.size()) << s.entities[level];
      EXPECT_EQ(refused[next].slot, i);
      EXPECT_EQ(refused[next].level, level == 0   ? v1::Refusal::AD
                                     : level == 1 ? v1::Refusal::AD_GROUP
                                                  : v1::Refusal::CAMPAIGN);
      EXPECT_EQ(refused[next].reason, v1::NO_AD_REASON_FREQUENCY_CAP);
      ++next;
    }
    ASSERT_EQ(refused.size(), next);
    ++(refused.empty() ? accepted_ : refused_);
    if (!refused.empty()) return;
    for (const auto& s : taken) {
      if (oracle_.Capped(s)) oracle_.Add(s);
    }
    ids_.push_back(id);
  }

  void Release() {
    if (ids_.empty()) return;
    const DecisionId id = ids_[rng_.Below(ids_.size())];
    caps_->Release(id);
    oracle_.Remove(id);
  }

  // Any decision, any position: again, late, never served.
  void Report() {
    if (ids_.empty()) return;
    const size_t back = std::min<size_t>(ids_.size(), 1 + rng_.Below(30));
    const DecisionId id = ids_[ids_.size() - back];
    const auto position = static_cast<uint32_t>(1 + rng_.Below(5));
    caps_->Confirm(AnImpressionEvent(id, position));
    oracle_.Report(id, position, clock_.NowMs());
  }

  Rng rng_;
  const v1::Catalog catalog_;
  const std::shared_ptr<const AdIndex> index_;
  const size_t cached_users_;
  CapsOracle oracle_;
  v1::CapConfig config_;
  TempDir dir_;
  SimulatedClock clock_{kNoon};
  std::unique_ptr<CapStore> store_;
  std::unique_ptr<FrequencyCaps> caps_;
  std::vector<DecisionId> ids_;
  uint32_t sequence_ = 0;
  uint64_t accepted_ = 0, refused_ = 0;
};

TEST(FrequencyCapsProperty, C1C2EveryAnswerIsTheOracles) {
  uint64_t accepted = 0, refused = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Twins twins(seed, FrequencyCaps::kCachedUsers);
    for (int step = 0; step < 1500; ++step) {
      twins.Step();
      if (::testing::Test::HasFailure()) {
        FAIL() << "at step " << step;
      }
    }
    accepted += twins.accepted();
    refused += twins.refused();
  }
  EXPECT_GT(accepted, 2000u);
  EXPECT_GT(refused, 2000u);
}

// ---- many threads ----

struct Load {
  std::shared_ptr<const AdIndex> index;
  FrequencyCaps* caps;
  SimulatedClock* clock;
  DecisionIdGenerator* ids;
  int users;
  absl::Mutex mu;
  CapsOracle* oracle ABSL_GUARDED_BY(mu);
  std::vector<v1::Event> events ABSL_GUARDED_BY(mu);
};

// A page: asks, serves, and perhaps reports what others served, again and in
// any order.
void OnePage(Load* load, Rng* rng) {
  load->clock->Advance(absl::Milliseconds(rng->Below(3000)));
  const std::string user = absl::StrCat("u", rng->Below(load->users));
  const v1::Context context = ContextOf(user);
  const DecisionId id = load->ids->Next();
  AdmissionTerms terms;
  load->caps->Begin(*load->index, context, &terms);
  std::vector<uint32_t> ads = SomeAds(load->index->size(), rng);
  std::erase_if(ads, [&](uint32_t ad) {
    const IndexedAd& a = load->index->ad(ad);
    return terms.Capped(ad, a.group, a.campaign);
  });
  std::vector<SlotRefusal> refused;
  do {
    refused.clear();
    load->caps->Reserve(*load->index, context, id, SlotsOf(ads), &refused);
    for (size_t r = refused.size(); r-- > 0;) {
      ads.erase(ads.begin() + refused[r].slot);
    }
  } while (!refused.empty());
  if (rng->Bernoulli(0.1)) return load->caps->Release(id);
  std::vector<v1::Event> reports;
  {
    absl::MutexLock lock(&load->mu);
    uint32_t position = 0;
    for (const uint32_t ad : ads) {
      load->oracle->Add(load->oracle->Serve(
          user, std::string(load->index->ad_id(ad)), id, ++position));
      load->events.push_back(AnImpressionEvent(id, position));
    }
    for (uint64_t n = rng->Below(4); n > 0 && !load->events.empty(); --n) {
      reports.push_back(load->events[rng->Below(load->events.size())]);
    }
  }
  for (const v1::Event& event : reports) load->caps->Confirm(event);
}

void RunC1(int threads, int users, size_t cached_users, uint64_t seed) {
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Rng rng(seed);
  const v1::Catalog catalog = ARandomCappedCatalog(&rng);
  // Longer than the test: whatever was served counts, reported or not.
  v1::CapConfig config;
  config.set_reservation_seconds(7 * 86400);
  CapsOracle oracle(catalog, int64_t{7} * 86400 * 1000, kLateMs);
  TempDir dir;
  SimulatedClock clock(kNoon);
  ASSERT_OK_AND_ASSIGN(const auto store, CapStore::Open(dir.path(), &clock));
  FrequencyCaps caps(config, store.get(), &clock, cached_users);
  DecisionIdGenerator ids(&clock, 1, 1);
  Load load{AnIndex(catalog), &caps, &clock, &ids, users, {}, &oracle, {}};
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&load, t, seed] {
      Rng mine(seed * 1000 + static_cast<uint64_t>(t));
      for (int i = 0; i < 400; ++i) OnePage(&load, &mine);
    });
  }
  for (std::thread& thread : running) thread.join();
  uint64_t at_cap = 0;
  EXPECT_EQ(oracle.Excess([](const auto&) { return true; }, &at_cap), 0);
  EXPECT_GT(at_cap, 10u) << "no cap was ever reached";
}

TEST(FrequencyCapsProperty, C1NoWindowExceedsACapUnderManyThreads) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    RunC1(/*threads=*/8, /*users=*/3, FrequencyCaps::kCachedUsers, seed);
  }
}

TEST(FrequencyCapsProperty, C1HoldsWhenTheCacheIsSmallerThanItsUsers) {
  // A user a shard, and more users than shards.
  for (uint64_t seed = 11; seed <= 12; ++seed) {
    RunC1(/*threads=*/8, /*users=*/300, /*cached_users=*/1, seed);
  }
}

// ---- large caps ----

TEST(FrequencyCapsProperty, C1HoldsForCapsThatAreCountedCoarsely) {
  Rng rng(5);
  v1::Catalog catalog = ANestedCatalog();
  auto* campaign = catalog.mutable_campaigns(0)->mutable_frequency_caps();
  AddCap(campaign, 700, v1::FrequencyCap::WEEK);
  AddCap(campaign, 30, v1::FrequencyCap::HOUR);
  CapsOracle oracle(catalog, 3600 * 1000, kLateMs);
  CapsOracle exact = oracle;  // takes whatever the caps allow
  TempDir dir;
  SimulatedClock clock(kNoon);
  ASSERT_OK_AND_ASSIGN(const auto store, CapStore::Open(dir.path(), &clock));
  FrequencyCaps caps({}, store.get(), &clock);
  DecisionIdGenerator ids(&clock, 1, 1);
  const auto index = AnIndex(catalog);
  uint64_t accepted = 0, possible = 0;
  // Three weeks, a request every three minutes or so.
  for (int i = 0; i < 10000; ++i) {
    clock.Advance(absl::Milliseconds(rng.Below(360'000)));
    const DecisionId id = ids.Next();
    CapsOracle::Served s = oracle.Serve("u", "a00", id, 1);
    s.confirmed = true;
    const auto ms = static_cast<int64_t>(id.ms);
    if (!exact.Full("u", "campaign c0", ms, ms)) {
      ++possible;
      exact.Add(s);
    }
    std::vector<SlotRefusal> refused;
    caps.Reserve(*index, ContextOf("u"), id, SlotsOf({0}), &refused);
    if (!refused.empty()) continue;
    ++accepted;
    caps.Confirm(AnImpressionEvent(id, 1));
    oracle.Add(s);
  }
  uint64_t at_cap = 0;
  EXPECT_EQ(oracle.Excess([](const auto&) { return true; }, &at_cap), 0);
  EXPECT_LT(possible, 3000u) << "the caps never bound";
  // Each impression counts at most 1/128 of a window longer than it should, so
  // the second and the third week's begin up to 79 minutes later each, in which
  // 27 requests come.
  EXPECT_LE(possible - accepted, 2 * 27);
  EXPECT_LE(accepted, possible);
  ASSERT_OK_AND_ASSIGN(const CapRow row, caps.Lookup("u"));
  EXPECT_LE(row.size(), 3 * kExactRecords);
}

}  // namespace
}  // namespace adrank
