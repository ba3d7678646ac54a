// How soon a change of the catalogue is live, and what requests feel meanwhile:
//
//   bench/run.sh catalog_update [--ads=N,...] [--changes=N]
//
// A catalogue of N ads, each of its own ad group with a targeting of its own (8
// conditions, as in trigger_bench), 10 ad groups a campaign, 100 campaigns an
// advertiser, lies in a CatalogStore. One thread asks for the best 500 ads
// without a pause; changes are applied one at a time, and timed from before
// CatalogStore::Apply (with its fsync) until a new request would be answered
// with it. The floor is the time of building the whole catalogue anew, which is
// how a change was served before; p99_us is a request's while changes are
// served, quiet_p99_us without.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/trigger_workload.h"
#include "server/catalog_loader.h"
#include "server/metrics.h"
#include "server/periodic.h"
#include "server/serving_state.h"
#include "storage/catalog_store.h"

namespace adrank {
namespace {

constexpr size_t kTop = 500;
constexpr size_t kBatch = 20000;  // operations of one Apply
constexpr size_t kGroupsACampaign = 10, kCampaignsAnAdvertiser = 100;

double Seconds(absl::Time start) {
  return absl::ToDoubleSeconds(absl::Now() - start);
}

double Percentile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  const auto i =
      static_cast<size_t>(p * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + i, values.end());
  return values[i];
}

class UpdateBench {
 public:
  UpdateBench(size_t ads, const std::string& dir)
      : ads_(ads), workload_(ads), rng_(ads) {
    auto store = CatalogStore::Open(dir, Clock::Real());
    CHECK(store.ok()) << store.status();
    store_ = *std::move(store);
    Fill();
    loader_ = std::make_unique<CatalogLoader>(store_.get(), &state_, &metrics_);
    const absl::Time start = absl::Now();
    CHECK(loader_->RunOnce().ok());
    whole_s_ = Seconds(start);
    for (int i = 0; i < 500; ++i) requests_.push_back(ARequest());
  }

  void Run(size_t changes) {
    load_ = std::make_unique<Periodic>(
        absl::Seconds(30), [this] { loader_->RunOnce().IgnoreError(); });
    merge_ = std::make_unique<Periodic>(
        absl::Seconds(1), [this] { loader_->Merge().IgnoreError(); });
    std::thread reader([this] { Read(); });
    absl::SleepFor(absl::Seconds(1));
    const double quiet = TakeP99();
    const auto measure = [&](const char* name,
                             const std::function<void()>& change) {
      std::vector<double> ms;
      for (size_t i = 0; i < changes; ++i) {
        const absl::Time start = absl::Now();
        change();
        const int64_t version = store_->Version();
        load_->Notify();
        while (state_.Current()->index->version() < version) {
          absl::SleepFor(absl::Microseconds(100));
        }
        ms.push_back(1e3 * Seconds(start));
      }
      Print(name, ms, quiet);
    };
    measure("bid", [&] { ChangeBids(1); });
    measure("ad", [&] { PauseAd(); });
    measure("campaign", [&] { PauseCampaign(); });
    ChangeBids(ads_ / 100);
    measure("bid_after_1_percent", [&] { ChangeBids(1); });
    stop_ = true;
    reader.join();
    load_.reset();
    merge_.reset();
  }

 private:
  std::string Id(const char* prefix, size_t i) const {
    return absl::StrCat(prefix, i);
  }
  size_t AnyAd() { return rng_.Below(ads_); }

  v1::AdGroup Group(size_t i) {
    v1::AdGroup group;
    group.set_id(Id("g", i));
    group.set_campaign_id(Id("c", i / kGroupsACampaign));
    group.set_bid_micros(workload_.ABid());
    literals_.clear();
    workload_.AppendAd(1, &literals_);
    auto* all = group.mutable_targeting()->mutable_all_of();
    for (const Literal literal : literals_) {
      v1::TargetingExpression* e = all->add_expressions();
      if (literal.negated()) e = e->mutable_none_of()->add_expressions();
      e->mutable_in_set()->set_attribute(
          Id("attribute_", workload_.predicates().attribute(literal)));
      e->mutable_in_set()->add_values(Id("value_", literal.number()));
    }
    return group;
  }
  v1::Campaign Campaign(size_t i) const {
    v1::Campaign campaign;
    campaign.set_id(Id("c", i));
    campaign.set_advertiser_id(Id("v", i / kCampaignsAnAdvertiser));
    return campaign;
  }
  v1::Ad Ad(size_t i) const {
    v1::Ad ad;
    ad.set_id(Id("a", i));
    ad.set_ad_group_id(Id("g", i));
    v1::Attribute* category = ad.add_attributes();
    category->set_name("category");
    category->add_text(Id("category_", i % 100));
    return ad;
  }

  v1::CatalogEntity* Add(std::vector<v1::CatalogOperation>* ops) {
    if (ops->size() == kBatch) Apply(ops);
    return ops->emplace_back().mutable_upsert();
  }
  void Apply(std::vector<v1::CatalogOperation>* ops) {
    const auto result = store_->Apply(*ops, {});
    CHECK(result.ok()) << result.status();
    CHECK_EQ(result->applied, ops->size()) << result->errors[0];
    ops->clear();
  }
  void Fill() {
    std::vector<v1::CatalogOperation> ops;
    const size_t campaigns = ads_ / kGroupsACampaign + 1;
    for (size_t i = 0; i <= campaigns / kCampaignsAnAdvertiser; ++i) {
      Add(&ops)->mutable_advertiser()->set_id(Id("v", i));
    }
    for (size_t i = 0; i < campaigns; ++i) {
      *Add(&ops)->mutable_campaign() = Campaign(i);
    }
    for (size_t i = 0; i < ads_; ++i) {
      *Add(&ops)->mutable_ad_group() = Group(i);
      *Add(&ops)->mutable_ad() = Ad(i);
    }
    Apply(&ops);
  }

  void ChangeBids(size_t n) {
    std::vector<v1::CatalogOperation> ops;
    for (size_t i = 0; i < n; ++i) {
      *Add(&ops)->mutable_ad_group() = Group(AnyAd());
    }
    Apply(&ops);
  }
  void PauseAd() {
    std::vector<v1::CatalogOperation> ops;
    v1::Ad* ad = Add(&ops)->mutable_ad();
    *ad = Ad(AnyAd());
    ad->set_status(v1::ENTITY_STATUS_PAUSED);
    Apply(&ops);
  }
  void PauseCampaign() {
    std::vector<v1::CatalogOperation> ops;
    v1::Campaign* campaign = Add(&ops)->mutable_campaign();
    *campaign = Campaign(AnyAd() / kGroupsACampaign);
    campaign->set_status(v1::ENTITY_STATUS_PAUSED);
    Apply(&ops);
  }

  v1::Context ARequest() {
    v1::Context context;
    context.set_time_ms(1);
    for (const uint32_t symbol : workload_.ARequest()) {
      v1::Attribute* attribute = context.add_attributes();
      attribute->set_name(Id("attribute_", workload_.predicates().attribute(
                                               Literal::OfSymbol(symbol))));
      attribute->add_text(Id("value_", symbol));
    }
    return context;
  }

  // As a server's thread does, but without a pause.
  void Read() {
    RetrieveScratch scratch;
    Retrieval out;
    for (size_t i = 0; !stop_; ++i) {
      const absl::Time start = absl::Now();
      const auto serving = state_.Current();
      serving->index->Retrieve(
          {&requests_[i % requests_.size()], nullptr, nullptr}, kTop, &scratch,
          &out);
      const double us = 1e6 * Seconds(start);
      absl::MutexLock lock(&mu_);
      latencies_.push_back(us);
    }
  }
  double TakeP99() {
    std::vector<double> us;
    {
      absl::MutexLock lock(&mu_);
      us.swap(latencies_);
    }
    longest_ = Percentile(us, 1);
    return Percentile(std::move(us), 0.99);
  }

  void Print(const char* name, const std::vector<double>& ms, double quiet) {
    const double p99 = TakeP99();
    const auto index = state_.Current()->index;
    std::printf(
        "{\"name\":\"catalog_update\",\"value\":%.2f,\"unit\":\"ms\","
        "\"floor\":%.1f,\"ratio\":%.5f,\"params\":{\"change\":\"%s\",\"ads\":"
        "%zu,\"worst_ms\":%.2f,\"p99_us\":%.1f,\"quiet_p99_us\":%.1f,"
        "\"longest_us\":%.0f,\"changed_ads\":%zu,\"floor\":\"anew\"}}\n",
        Percentile(ms, 0.5), 1e3 * whole_s_,
        Percentile(ms, 0.5) / (1e3 * whole_s_), name, ads_, Percentile(ms, 1),
        p99, quiet, longest_, index->changed_ads().size());
    std::fflush(stdout);
  }

  const size_t ads_;
  TargetingWorkload workload_;
  Rng rng_;
  HugeVector<Literal> literals_;
  std::unique_ptr<CatalogStore> store_;
  Metrics metrics_;
  ServingState state_;
  std::unique_ptr<CatalogLoader> loader_;
  std::unique_ptr<Periodic> load_, merge_;
  double whole_s_ = 0;
  std::vector<v1::Context> requests_;
  std::atomic<bool> stop_{false};
  absl::Mutex mu_;
  std::vector<double> latencies_ ABSL_GUARDED_BY(mu_);
  double longest_ = 0;
};

std::vector<size_t> Sizes(absl::string_view text) {
  std::vector<size_t> sizes;
  for (const auto part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    size_t n = 0;
    CHECK(absl::SimpleAtoi(part, &n)) << part;
    sizes.push_back(n);
  }
  return sizes;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  std::vector<size_t> ads = {10000, 100000, 1000000};
  size_t changes = 20;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--ads=")) {
      ads = adrank::Sizes(argument);
    } else if (absl::ConsumePrefix(&argument, "--changes=") &&
               absl::SimpleAtoi(argument, &changes)) {
    } else {
      std::fprintf(stderr,
                   "usage: bench/run.sh catalog_update [--ads=N,...] "
                   "[--changes=N]\n");
      return 2;
    }
  }
  for (const size_t n : ads) {
    char name[] = "/tmp/adrank_bench.XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    adrank::UpdateBench(n, name).Run(changes);
    std::filesystem::remove_all(name);
  }
  return 0;
}
