// The ledger against a model that keeps a list of slots and adds them up anew
// each time, over random sequences of serving, events, time, changes of budgets
// and crashes.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "server/budget/ledger.h"
#include "tests/server/ledger_testing.h"
#include "tests/testing/memory_ledger_store.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::ABudget;
using ::adrank::testing::APolicy;
using ::adrank::testing::LedgerDisk;
using ::adrank::testing::MemoryLedgerStore;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kStartMs = 1'800'000'000'000;  // 2027-01-15 08:00 UTC
constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kMaxPrice = 100;
const char* const kZones[] = {"", "Europe/Berlin", "America/New_York"};

absl::TimeZone Zone(int campaign) { return *FindTimeZone(kZones[campaign]); }

// ---- the model ----

struct ModelSlot {
  enum State { kSoft, kFull, kBilled, kRefused, kGone };
  DecisionId id;
  uint8_t position = 0;
  int campaign = 0;
  v1::BidType type = v1::BID_TYPE_CPC;
  int64_t price = 0;
  float p = 0;
  int32_t day = 0;
  State state = kGone;
  bool known = false;  // to the running ledger: not expired, not lost

  double probability() const { return type == v1::BID_TYPE_CPM ? 1 : p; }
  bool IsBillable(v1::EventType event) const {
    return (event == v1::EVENT_TYPE_IMPRESSION) == (type == v1::BID_TYPE_CPM);
  }
};

struct ModelEvent {
  size_t slot = 0;
  v1::EventType type = v1::EVENT_TYPE_CLICK;
  int64_t received_ms = 0;
};

struct Model {
  BudgetPolicy policy;
  std::vector<ModelSlot> slots;
  std::vector<ModelEvent> late;
  v1::Budget terms[3];
  std::map<int32_t, int64_t> day_budgets[3];
  // Of an event with a reservation, which hard mode promises a budget.
  uint64_t refused_reserved = 0;

  int64_t DayBudget(int c, int32_t day) {
    return day_budgets[c]
        .try_emplace(day, terms[c].daily_micros())
        .first->second;
  }
  int64_t Budget(int c, int32_t day) {
    return day == LedgerAccount::kLife ? terms[c].total_micros()
                                       : DayBudget(c, day);
  }
  bool Counts(const ModelSlot& s, int c, int32_t day) const {
    return s.campaign == c && (day == LedgerAccount::kLife || s.day == day);
  }
  int64_t Spent(int c, int32_t day) const {
    int64_t spent = 0;
    for (const ModelSlot& s : slots) {
      if (Counts(s, c, day) && s.state == ModelSlot::kBilled) spent += s.price;
    }
    return spent;
  }
  int64_t Full(int c, int32_t day) const {
    int64_t full = 0;
    for (const ModelSlot& s : slots) {
      if (Counts(s, c, day) && s.state == ModelSlot::kFull) full += s.price;
    }
    return full;
  }
  // With `extra` held as expected, if not null.
  int64_t Held(int c, int32_t day, const ModelSlot* extra = nullptr) const {
    int64_t full = 0, soft = 0;
    double mean = 0, variance = 0;
    const auto add = [&](const ModelSlot& s) {
      const double q = s.probability();
      soft += s.price;
      mean += std::ceil(q * static_cast<double>(s.price));
      variance +=
          std::floor(static_cast<double>(s.price * s.price) * q * (1 - q));
    };
    for (const ModelSlot& s : slots) {
      if (!Counts(s, c, day)) continue;
      if (s.state == ModelSlot::kFull) full += s.price;
      if (s.state == ModelSlot::kSoft) add(s);
    }
    if (extra != nullptr) add(*extra);
    const double spread = std::ceil(policy.deviations * std::sqrt(variance));
    return full + std::min(soft, static_cast<int64_t>(mean + spread));
  }
  int64_t Free(int c, int32_t day, const ModelSlot* extra = nullptr) {
    const int64_t budget = Budget(c, day);
    return budget == 0 ? INT64_MAX
                       : budget - Spent(c, day) - Held(c, day, extra);
  }

  // False: refused.
  bool Take(ModelSlot* s) {
    const int32_t books[] = {s->day, LedgerAccount::kLife};
    bool soft = true, fits = true;
    for (const int32_t day : books) {
      const int64_t budget = Budget(s->campaign, day);
      if (budget == 0) continue;
      const int64_t unspent = budget - Spent(s->campaign, day);
      if (unspent - Full(s->campaign, day) < s->price) return false;
      const bool tight = policy.hard_share == 1 ||
                         static_cast<double>(unspent) <
                             policy.hard_share * static_cast<double>(budget);
      soft = soft && !tight && Free(s->campaign, day, s) >= 0;
      fits = fits && Free(s->campaign, day) >= s->price;
    }
    if (!soft && !fits) return false;
    s->state = soft ? ModelSlot::kSoft : ModelSlot::kFull;
    return true;
  }
  bool Serve(std::vector<ModelSlot> page, std::vector<uint32_t>* refused) {
    const size_t before = slots.size();
    for (uint32_t i = 0; i < page.size(); ++i) {
      if (Take(&page[i])) {
        slots.push_back(page[i]);
      } else {
        refused->push_back(i);
      }
    }
    if (!refused->empty()) slots.resize(before);
    return refused->empty();
  }
  void OnEvent(const ModelEvent& event) {
    ModelSlot& s = slots[event.slot];
    if (!s.known) return late.push_back(event);
    if (!s.IsBillable(event.type)) return;
    if (s.state != ModelSlot::kSoft && s.state != ModelSlot::kFull) return;
    s.state = ModelSlot::kGone;
    bool room = true;
    for (const int32_t day : {s.day, LedgerAccount::kLife}) {
      const int64_t budget = Budget(s.campaign, day);
      room =
          room && (budget == 0 || Spent(s.campaign, day) + s.price <= budget);
    }
    refused_reserved += !room;
    s.state = room ? ModelSlot::kBilled : ModelSlot::kRefused;
  }
  void ChargeLate(const ModelEvent& event) {
    ModelSlot& s = slots[event.slot];
    if (event.received_ms - static_cast<int64_t>(s.id.ms) > policy.billing_ms ||
        !s.IsBillable(event.type) || s.state == ModelSlot::kBilled ||
        s.state == ModelSlot::kRefused) {
      return;
    }
    bool room = true;
    for (const int32_t day : {s.day, LedgerAccount::kLife}) {
      room = room && Free(s.campaign, day) >= s.price;
    }
    s.state = room ? ModelSlot::kBilled : ModelSlot::kRefused;
  }
  void Run(int64_t now_ms) {
    for (const ModelEvent& event : late) ChargeLate(event);
    late.clear();
    for (ModelSlot& s : slots) {
      if (!s.known ||
          static_cast<int64_t>(s.id.ms) + policy.reservation_ms > now_ms) {
        continue;
      }
      s.known = false;
      if (s.state == ModelSlot::kSoft || s.state == ModelSlot::kFull) {
        s.state = ModelSlot::kGone;
      }
    }
  }
  void SetTerms(int c, const v1::Budget& budget, int64_t now_ms) {
    terms[c] = budget;
    const int32_t today = DayOf(now_ms, Zone(c)).day;
    for (auto& [day, amount] : day_budgets[c]) {
      if (day >= today) amount = budget.daily_micros();
    }
  }
};

// ---- the ledger beside it ----

class Harness {
 public:
  Harness(uint64_t seed, const BudgetPolicy& policy) : rng_(seed) {
    model_.policy = policy;
    Open();
    for (int c = 0; c < 3; ++c) {
      model_.terms[c] = RandomBudget();
      SetTerms(c, model_.terms[c]);
    }
    saved_ = model_;
  }

  void Step() {
    const double what = rng_.Uniform();
    if (what < 0.45) {
      Serve();
    } else if (what < 0.72) {
      Report();
    } else if (what < 0.84) {
      Run();
    } else if (what < 0.94) {
      const double jump = rng_.Uniform();
      clock_.Advance(absl::Milliseconds(static_cast<int64_t>(
          jump < 0.1 ? rng_.Below(20 * kHourMs) : rng_.Below(kHourMs / 4))));
    } else if (what < 0.97) {
      const int c = static_cast<int>(rng_.Below(3));
      lowered_ = true;
      SetTerms(c, RandomBudget());
    } else {
      Crash();
    }
    Compare();
  }
  void Serve() {
    const DecisionId id = {static_cast<uint64_t>(clock_.NowMs()), 1, next_++};
    std::vector<ModelSlot> page(1 + rng_.Below(3));
    std::vector<LedgerSlot> slots;
    constexpr float kProbabilities[] = {0, 0.01f, 0.3f, 1};
    for (size_t i = 0; i < page.size(); ++i) {
      ModelSlot& s = page[i];
      s.id = id;
      s.position = static_cast<uint8_t>(i + 1);
      s.campaign = static_cast<int>(rng_.Below(3));
      s.type = rng_.Bernoulli(0.3) ? v1::BID_TYPE_CPM : v1::BID_TYPE_CPC;
      s.price = static_cast<int64_t>(1 + rng_.Below(kMaxPrice));
      s.p = kProbabilities[rng_.Below(4)];
      s.day = DayOf(clock_.NowMs(), Zone(s.campaign)).day;
      s.known = true;
      slots.push_back(
          {campaigns_[s.campaign], s.position, s.type, s.price, s.p});
    }
    std::vector<uint32_t> refused, expected;
    const bool served = model_.Serve(page, &expected);
    ledger_->Reserve(id, slots, &refused);
    ASSERT_EQ(refused, expected);
    if (!served) return;
    if (rng_.Bernoulli(0.1)) {  // the caller has gone
      ledger_->Release(id);
      model_.slots.resize(model_.slots.size() - page.size());
      return;
    }
    served_.insert(served_.end(), page.begin(), page.end());
  }
  void Report() {
    if (model_.slots.empty()) return;
    // Mostly of late decisions, some of old ones.
    const size_t n = model_.slots.size();
    const size_t back = rng_.Bernoulli(0.7) ? std::min<size_t>(n, 20) : n;
    ModelEvent event;
    event.slot = n - 1 - rng_.Below(back);
    event.type =
        rng_.Bernoulli(0.5) ? v1::EVENT_TYPE_CLICK : v1::EVENT_TYPE_IMPRESSION;
    event.received_ms = clock_.NowMs();
    const ModelSlot& s = model_.slots[event.slot];
    // The log tells each once.
    if (!reported_.insert({s.id, s.position, event.type}).second) return;
    log_.push_back(event);
    const int64_t begun = ledger_->BeginEvents();
    ledger_->OnEvent(s.id, s.position, event.type, begun);
    ledger_->EndEvents(begun);
    model_.OnEvent(event);
  }
  void Run() {
    if (rng_.Bernoulli(0.1)) {
      disk_.fails = true;
      disk_.lost_answer = rng_.Bernoulli(0.5);
      // The entries wait; memory goes on.
      EXPECT_FALSE(ledger_->Flush().ok());
      model_.Run(clock_.NowMs());
      Serve();
      Report();
      disk_.fails = false;
    }
    ASSERT_OK(ledger_->Flush());
    model_.Run(clock_.NowMs());
    saved_ = model_;
    const auto audit = ledger_->Audit();
    ASSERT_OK(audit);
    EXPECT_THAT(audit->errors, IsEmpty());
  }
  // Without a last write. What the ledger was told since the one before is
  // lost, but the log has the events and the decisions.
  void Crash() {
    ledger_.reset();
    const std::vector<ModelSlot> lost(
        model_.slots.begin() + static_cast<int64_t>(saved_.slots.size()),
        model_.slots.end());
    const v1::Budget terms[3] = {model_.terms[0], model_.terms[1],
                                 model_.terms[2]};
    model_ = saved_;
    for (ModelSlot s : lost) {
      s.state = ModelSlot::kGone;
      model_.slots.push_back(s);
    }
    for (ModelSlot& s : model_.slots) {
      s.known = s.state == ModelSlot::kSoft || s.state == ModelSlot::kFull;
    }
    Open();
    for (int c = 0; c < 3; ++c) {
      // What past days had is not in the ledger.
      for (auto& [day, amount] : model_.day_budgets[c]) {
        amount = terms[c].daily_micros();
      }
      SetTerms(c, terms[c]);
    }
    std::vector<ModelEvent> events = log_;
    std::stable_sort(events.begin(), events.end(), [&](auto& a, auto& b) {
      return model_.slots[a.slot].id < model_.slots[b.slot].id;
    });
    for (const ModelEvent& event : events) {
      if (event.received_ms < ledger_->covered_ms()) continue;
      const ModelSlot& s = model_.slots[event.slot];
      ASSERT_OK(
          ledger_->Replay(s.id, s.position, event.type, event.received_ms));
      if (s.IsBillable(event.type) &&
          (s.state == ModelSlot::kBilled || s.state == ModelSlot::kRefused)) {
        continue;
      }
      model_.OnEvent(event);
    }
    Run();
    ++crashes_;
  }
  void Compare() {
    for (int c = 0; c < 3; ++c) {
      const CampaignSpend spend = ledger_->Spend(campaigns_[c]);
      const int32_t day = spend.day.day;
      constexpr int32_t kLife = LedgerAccount::kLife;
      ASSERT_EQ(static_cast<int64_t>(spend.spent_total),
                model_.Spent(c, kLife));
      ASSERT_EQ(static_cast<int64_t>(spend.spent_today), model_.Spent(c, day));
      ASSERT_EQ(static_cast<int64_t>(spend.reserved_total),
                model_.Held(c, kLife));
      ASSERT_EQ(static_cast<int64_t>(spend.reserved_today),
                model_.Held(c, day));
      // Closed only when some ad cannot be had. Until the ledger looks at the
      // time, its today may be yesterday.
      const int64_t free = std::min(model_.Free(c, day), model_.Free(c, kLife));
      if (spend.closed && clock_.NowMs() < spend.day.end_ms) {
        ASSERT_LT(free, kMaxPrice);
      }
    }
  }
  // Everything that was reported and can be billed was charged once or refused.
  void CheckEvents() {
    Run();
    const auto audit = ledger_->Audit();
    ASSERT_OK(audit);
    int64_t billed = 0;
    for (const ModelSlot& s : model_.slots) {
      if (s.state != ModelSlot::kBilled) continue;
      billed += s.price;
      const auto billable = s.type == v1::BID_TYPE_CPM
                                ? v1::EVENT_TYPE_IMPRESSION
                                : v1::EVENT_TYPE_CLICK;
      EXPECT_TRUE(reported_.contains({s.id, s.position, billable}));
    }
    EXPECT_EQ(static_cast<int64_t>(audit->spent), billed);
    billed_ = billed;
  }
  void SetTerms(int c, const v1::Budget& budget) {
    model_.SetTerms(c, budget, clock_.NowMs());
    ledger_->SetTerms(campaigns_[c], budget, Zone(c), ++version_);
  }
  bool lowered() const { return lowered_; }
  int crashes() const { return crashes_; }
  int64_t billed() const { return billed_; }
  const Model& model() const { return model_; }

 private:
  v1::Budget RandomBudget() {
    const auto amount = [&](int64_t most) {
      return rng_.Bernoulli(0.2) ? 0
                                 : static_cast<int64_t>(rng_.Below(most)) + 1;
    };
    return ABudget(amount(2000), amount(6000));
  }
  void Open() {
    Ledger::Options options;
    options.policy = model_.policy;
    auto ledger = Ledger::Open(std::make_unique<MemoryLedgerStore>(&disk_),
                               options, &clock_);
    ASSERT_OK(ledger);
    ledger_ = *std::move(ledger);
    ledger_->SetLookup([this](const DecisionId& id,
                              uint8_t position) -> absl::StatusOr<LoggedSlot> {
      for (const ModelSlot& s : served_) {
        if (s.id != id || s.position != position) continue;
        return LoggedSlot{absl::StrCat("c", s.campaign), s.type, s.price, s.p};
      }
      return absl::NotFoundError("");
    });
    for (int c = 0; c < 3; ++c) {
      campaigns_[c] = ledger_->Campaign(absl::StrCat("c", c));
    }
  }

  Rng rng_;
  SimulatedClock clock_{absl::FromUnixMillis(kStartMs)};
  LedgerDisk disk_;
  std::unique_ptr<Ledger> ledger_;
  LedgerCampaign* campaigns_[3] = {};
  Model model_, saved_;
  std::vector<ModelSlot> served_;  // the log's decisions
  std::vector<ModelEvent> log_;
  std::set<std::tuple<DecisionId, uint8_t, int>> reported_;
  uint32_t next_ = 0;
  int64_t version_ = 0;
  bool lowered_ = false;
  int crashes_ = 0;
  int64_t billed_ = 0;
};

TEST(LedgerProperty, B1B2B3B6AgreesWithTheModelThroughCrashes) {
  int crashes = 0;
  int64_t billed = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    constexpr double kShares[] = {0.01, 0.1, 0.5, 1};
    Harness harness(seed, APolicy(kShares[seed % 4], seed % 3 == 0 ? 1 : 3));
    for (int i = 0; i < 150; ++i) {
      harness.Step();
      if (::testing::Test::HasFailure()) return;
    }
    harness.CheckEvents();
    crashes += harness.crashes();
    billed += harness.billed();
  }
  EXPECT_GT(crashes, 500);
  EXPECT_GT(billed, 100000);
}

// No event of a reservation is refused while no budget is lowered and nothing
// is lost in a crash.
TEST(LedgerProperty, B1HardModeNeverOverspends) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Harness harness(seed, APolicy(1));
    for (int i = 0; i < 150; ++i) {
      harness.Serve();
      harness.Report();
      harness.Report();
      if (i % 10 == 0) harness.Run();
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_EQ(harness.model().refused_reserved, 0u);
  }
}

}  // namespace
}  // namespace adrank
