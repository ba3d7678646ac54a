// Nanoseconds of reserving budget for one decision, on 1 and 2 threads, of 1
// and 4 slots over 1,000 campaigns; and entries a second that the background
// writes. The floor of the first is one atomic addition to a random campaign's
// counter for each slot, taken in turns with the measured work: what any exact
// counter costs. Ratio = value / floor.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "server/budget/ledger.h"
#include "storage/ledger_store.h"

namespace adrank {
namespace {

constexpr int kCampaigns = 1000;
constexpr uint32_t kDecisions = 20'000;  // of one thread in a round
constexpr int kRounds = 25;

// Takes everything and keeps nothing: the hot path alone.
class NullStore final : public LedgerStore {
 public:
  absl::StatusOr<LedgerContents> Load() override { return LedgerContents(); }
  absl::Status Write(uint64_t, absl::Span<const LedgerEntry>, int64_t,
                     bool) override {
    return absl::OkStatus();
  }
  absl::StatusOr<bool> IsSettled(const DecisionId&, uint8_t,
                                 v1::EventType) override {
    return false;
  }
  absl::StatusOr<bool> Prune(int64_t, int32_t, size_t) override {
    return false;
  }
  absl::StatusOr<LedgerAudit> Audit() override { return LedgerAudit(); }
};

struct alignas(64) Counter {
  std::atomic<int64_t> value{0};
};

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

// Seconds that `threads` threads take for work(thread).
template <typename Work>
double Seconds(int threads, const Work& work) {
  const absl::Time start = absl::Now();
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back([&, t] { work(t); });
  work(0);
  for (std::thread& thread : others) thread.join();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

std::unique_ptr<Ledger> ALedger(std::unique_ptr<LedgerStore> store,
                                const Clock* clock,
                                std::vector<LedgerCampaign*>* campaigns) {
  Ledger::Options options;
  options.sync = false;
  auto ledger = Ledger::Open(std::move(store), options, clock);
  CHECK(ledger.ok()) << ledger.status();
  v1::Budget budget;
  budget.set_daily_micros(int64_t{1} << 50);
  budget.set_total_micros(int64_t{1} << 55);
  for (int i = 0; i < kCampaigns; ++i) {
    campaigns->push_back((*ledger)->Campaign(absl::StrCat("campaign", i)));
    (*ledger)->SetTerms(campaigns->back(), budget, absl::UTCTimeZone(), 1);
  }
  return *std::move(ledger);
}

// `n` decisions of `slots` slots each.
void ReserveMany(Ledger* ledger, const std::vector<LedgerCampaign*>& campaigns,
                 int64_t now_ms, uint16_t node, uint32_t n, int slots) {
  Rng rng(node);
  std::vector<LedgerSlot> page(slots);
  std::vector<uint32_t> refused;
  for (uint32_t i = 0; i < n; ++i) {
    for (int s = 0; s < slots; ++s) {
      page[s] = {campaigns[rng.Below(kCampaigns)], static_cast<uint8_t>(s + 1),
                 v1::BID_TYPE_CPC, static_cast<int64_t>(100'000 + s), 0.01f};
    }
    ledger->Reserve({static_cast<uint64_t>(now_ms), node, i}, page, &refused);
  }
}

void MeasureReserve(int threads, int slots) {
  SimulatedClock clock(absl::FromUnixMillis(1'800'000'000'000));
  std::vector<LedgerCampaign*> campaigns;
  const auto ledger =
      ALedger(std::make_unique<NullStore>(), &clock, &campaigns);
  std::vector<Counter> counters(kCampaigns);
  std::vector<double> values, floors;
  for (int round = 0; round < kRounds; ++round) {
    values.push_back(Seconds(threads, [&](int t) {
      ReserveMany(ledger.get(), campaigns, clock.NowMs(),
                  static_cast<uint16_t>(t), kDecisions, slots);
    }));
    floors.push_back(Seconds(threads, [&](int t) {
      Rng rng(t);
      for (uint32_t i = 0; i < kDecisions * slots; ++i) {
        counters[rng.Below(kCampaigns)].value.fetch_add(100'000);
      }
    }));
    // All expire, so that the next round begins as this one did.
    clock.Advance(absl::Hours(2));
    CHECK(ledger->Flush().ok());
  }
  // A thread's own time: all do as many decisions.
  const double scale = 1e9 / kDecisions;
  const double value = scale * Median(values), floor = scale * Median(floors);
  std::printf(
      "{\"name\":\"ledger_reserve\",\"value\":%.0f,\"unit\":\"ns\","
      "\"floor\":%.1f,\"ratio\":%.1f,\"params\":{\"threads\":%d,\"slots\":%d,"
      "\"campaigns\":%d,\"floor\":\"an atomic addition a slot\"}}\n",
      value, floor, value / floor, threads, slots, kCampaigns);
}

void MeasureWrite() {
  SimulatedClock clock(absl::FromUnixMillis(1'800'000'000'000));
  const std::string dir =
      (std::filesystem::temp_directory_path() / "adrank_ledger_bench").string();
  std::filesystem::remove_all(dir);
  std::vector<LedgerCampaign*> campaigns;
  {
    auto store = LedgerStore::Open(dir);
    CHECK(store.ok()) << store.status();
    const auto ledger = ALedger(*std::move(store), &clock, &campaigns);
    std::vector<double> seconds;
    for (int round = 0; round < kRounds; ++round) {
      ReserveMany(ledger.get(), campaigns, clock.NowMs(), 1, kDecisions, 1);
      clock.Advance(absl::Hours(2));
      // One entry reserves, one releases.
      seconds.push_back(
          Seconds(1, [&](int) { CHECK(ledger->RunOnce().ok()); }));
    }
    std::printf(
        "{\"name\":\"ledger_write\",\"value\":%.0f,\"unit\":\"entries/s\","
        "\"params\":{\"entries\":%u}}\n",
        2 * kDecisions / Median(seconds), 2 * kDecisions);
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace adrank

int main() {
  for (const int slots : {1, 4}) {
    for (const int threads : {1, 2}) adrank::MeasureReserve(threads, slots);
  }
  adrank::MeasureWrite();
  return 0;
}
