// Nanoseconds of the frequency caps of one request: Begin, Reserve of two slots
// and one reported impression, of a million users with ten impressions each.
// "cached": the user's row is in memory; "stored": it is read from the store.
// The floor is what the store must do in any case, in the same run and order:
// one RocksDB write of such a row for "cached", and one read beside it for
// "stored" (where Begin alone has the read as its floor).
#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "server/caps/frequency_caps.h"
#include "server/trigger/ad_index.h"

namespace adrank {
namespace {

constexpr int kCampaigns = 1000;
constexpr int kRequests = 20000;  // a round
constexpr int kRounds = 5;
constexpr size_t kHot = 10000;  // users of "cached"

std::shared_ptr<const AdIndex> ACatalogue() {
  v1::Catalog catalog;
  catalog.add_advertisers()->set_id("v");
  for (int i = 0; i < kCampaigns; ++i) {
    v1::Campaign* c = catalog.add_campaigns();
    c->set_id(absl::StrCat("c", i));
    c->set_advertiser_id("v");
    for (const auto unit : {v1::FrequencyCap::HOUR, v1::FrequencyCap::WEEK}) {
      v1::FrequencyCap* cap = c->add_frequency_caps();
      cap->set_impressions(1000);
      cap->set_unit(unit);
    }
    v1::AdGroup* g = catalog.add_ad_groups();
    g->set_id(absl::StrCat("g", i));
    g->set_campaign_id(c->id());
    g->set_bid_micros(1000);
    v1::Ad* ad = catalog.add_ads();
    ad->set_id(absl::StrCat("a", i));
    ad->set_ad_group_id(g->id());
  }
  auto index = AdIndex::Build(catalog, 1);
  CHECK(index.ok()) << index.status();
  return *index;
}

struct Bench {
  explicit Bench(uint64_t users) : users(users) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "bench_caps.XXXXXX").string();
    CHECK(mkdtemp(pattern.data()) != nullptr);
    dir = pattern;
    auto opened = CapStore::Open(dir, Clock::Real());
    CHECK(opened.ok()) << opened.status();
    store = *std::move(opened);
    const int64_t now = Clock::Real()->NowMs();
    // Ten impressions of five campaigns in the last hours.
    for (int e = 0; e < 5; ++e) {
      for (int i = 0; i < 2; ++i) {
        CapRecord r;
        r.key = CapKey(CapLevel::kCampaign, absl::StrCat("c", 7 * e));
        r.ms = now - 3'600'000 * (2 - i) - e;
        r.keep_s = 7 * 86400;
        r.confirmed = true;
        row.push_back(r);
      }
    }
    std::sort(row.begin(), row.end(), [](const auto& a, const auto& b) {
      return a.key != b.key ? a.key < b.key : a.ms < b.ms;
    });
    for (uint64_t u = 0; u < users; ++u) {
      CHECK(store->Write(CapUserOf(absl::StrCat("user", u)), row, {}, {}).ok());
    }
    CHECK(store->Compact().ok());
  }

  ~Bench() {
    store.reset();
    std::filesystem::remove_all(dir);
  }

  std::string dir;
  const uint64_t users;
  std::unique_ptr<CapStore> store;
  std::shared_ptr<const AdIndex> index = ACatalogue();
  CapRow row;
};

struct Times {
  double begin = 0, reserve = 0, confirm = 0, get = 0, put = 0;
  double all() const { return begin + reserve + confirm; }
};

double Since(int64_t start) {
  return static_cast<double>(absl::GetCurrentTimeNanos() - start) / kRequests;
}

Times OneRound(Bench* bench, FrequencyCaps* caps, uint64_t users, Rng* rng) {
  static DecisionIdGenerator ids(Clock::Real(), 1, 1);
  std::vector<v1::Context> contexts(kRequests);
  std::vector<DecisionId> decisions(kRequests);
  std::vector<v1::Event> events(kRequests);
  std::vector<AdmissionSlot> slots(2 * kRequests);
  for (int i = 0; i < kRequests; ++i) {
    contexts[i].set_user_id(absl::StrCat("user", rng->Below(users)));
    decisions[i] = ids.Next();
    for (uint32_t p = 0; p < 2; ++p) {
      slots[2 * i + p].ad = static_cast<uint32_t>(rng->Below(kCampaigns));
      slots[2 * i + p].position = p + 1;
    }
    events[i].set_decision_id(decisions[i].ToHex());
    events[i].set_position(1);
    events[i].set_type(v1::EVENT_TYPE_IMPRESSION);
  }
  Times times;
  AdmissionTerms terms;
  std::vector<SlotRefusal> refused;
  int64_t start = absl::GetCurrentTimeNanos();
  for (const v1::Context& context : contexts) {
    terms.Clear();
    caps->Begin(*bench->index, context, &terms);
  }
  times.begin = Since(start);
  start = absl::GetCurrentTimeNanos();
  for (int i = 0; i < kRequests; ++i) {
    caps->Reserve(*bench->index, contexts[i], decisions[i],
                  absl::MakeConstSpan(&slots[2 * i], 2), &refused);
  }
  times.reserve = Since(start);
  CHECK(refused.empty());
  start = absl::GetCurrentTimeNanos();
  for (const v1::Event& event : events) caps->Confirm(event);
  times.confirm = Since(start);
  // The floor: other users, the same distribution.
  std::vector<CapUser> keys;
  for (int i = 0; i < kRequests; ++i) {
    keys.push_back(CapUserOf(absl::StrCat("user", rng->Below(users))));
  }
  CapRow got;
  start = absl::GetCurrentTimeNanos();
  for (const CapUser& key : keys) CHECK(bench->store->Read(key, &got).ok());
  times.get = Since(start);
  start = absl::GetCurrentTimeNanos();
  for (int i = 0; i < kRequests; ++i) {
    CHECK(bench->store
              ->Write(CapUserOf(absl::StrCat("floor", i)), bench->row, {}, {})
              .ok());
  }
  times.put = Since(start);
  return times;
}

double Median(const std::vector<Times>& rounds, double (*of)(const Times&)) {
  std::vector<double> values;
  for (const Times& t : rounds) values.push_back(of(t));
  std::nth_element(values.begin(), values.begin() + values.size() / 2,
                   values.end());
  return values[values.size() / 2];
}

void Print(const char* name, double value, double floor, const char* what,
           uint64_t users) {
  std::printf(
      "{\"name\": \"caps_%s\", \"value\": %.0f, \"unit\": \"ns\", \"floor\": "
      "%.0f, \"ratio\": %.2f, \"params\": {\"users\": %llu, \"floor_is\": "
      "\"%s\"}}\n",
      name, value, floor, value / floor, static_cast<unsigned long long>(users),
      what);
}

void Run(const char* name, Bench* bench, size_t cached, uint64_t users) {
  FrequencyCaps caps({}, bench->store.get(), Clock::Real(), cached);
  Rng rng(1);
  OneRound(bench, &caps, users, &rng);  // warm
  std::vector<Times> rounds;
  for (int i = 0; i < kRounds; ++i) {
    rounds.push_back(OneRound(bench, &caps, users, &rng));
  }
  const double get = Median(rounds, [](const Times& t) { return t.get; });
  const double put = Median(rounds, [](const Times& t) { return t.put; });
  Print(absl::StrCat(name, "_begin").c_str(),
        Median(rounds, [](const Times& t) { return t.begin; }), get,
        "one read of a row", users);
  Print(absl::StrCat(name, "_reserve").c_str(),
        Median(rounds, [](const Times& t) { return t.reserve; }), put,
        "one write of a row", users);
  Print(absl::StrCat(name, "_confirm").c_str(),
        Median(rounds, [](const Times& t) { return t.confirm; }), put,
        "one write of a row", users);
  Print(absl::StrCat(name, "_request").c_str(),
        Median(rounds, [](const Times& t) { return t.all(); }), get + 2 * put,
        "a read and two writes of rows", users);
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  adrank::InitLogging(argv[0]);
  adrank::Bench bench(1'000'000);
  adrank::Run("cached", &bench, adrank::FrequencyCaps::kCachedUsers,
              adrank::kHot);
  adrank::Run("stored", &bench, /*cached=*/1, bench.users);
}
