// How fast the event log appends and joins, as a share of what RocksDB does
// with the same bytes in the same run.
//
//   event_log_append_async    vs. unsynced WriteBatches, same records per batch
//   event_log_append_group    vs. synced WriteBatches, same records per batch
//   event_log_load            records/s of EventLog::Write (issue: >= 200,000)
//   event_log_join            vs. bare iterators over both families
//
// Medians over rounds that alternate the two sides. Files lie in /dev/shm when
// there is one ("dir" says), so that the disk is not what is measured.
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "storage/event_log.h"
#include "storage/event_log_reader.h"
#include "storage/log_database.h"
#include "storage/log_format.h"

namespace adrank {
namespace {

constexpr int kRounds = 9;
constexpr uint32_t kAppends = 40'000;
constexpr uint32_t kLoadDecisions = 100'000;
constexpr int kAdsPerDecision = 10;
constexpr int kCatalogAds = 500;
constexpr int kContextAttributes = 29;  // with 10 of an ad: 39 fields a row
// Few enough to stay in the cache: a server appends what it has just built.
constexpr int kPool = 64;
constexpr int64_t kStartMs = 1'800'000'000'000;

class BenchDir {
 public:
  BenchDir() {
    const bool shm = std::filesystem::is_directory("/dev/shm");
    std::string pattern = absl::StrCat(
        shm ? "/dev/shm" : std::filesystem::temp_directory_path().string(),
        "/adrank_bench.XXXXXX");
    CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
    kind_ = shm ? "tmpfs" : "disk";
  }
  ~BenchDir() { std::filesystem::remove_all(path_); }
  std::string Fresh() {
    std::filesystem::remove_all(path_ + "/data");
    return path_ + "/data";
  }
  const char* kind() const { return kind_; }

 private:
  std::string path_;
  const char* kind_;
};

struct Records {
  std::vector<std::shared_ptr<const EncodedAd>> ads;
  std::vector<v1::Decision> decisions;  // without ids
  // Of each decision its snapshots.
  std::vector<std::vector<std::shared_ptr<const EncodedAd>>> served;
  std::vector<std::string> values;  // as stored
};

std::string Word(Rng* rng) {
  return absl::StrCat(absl::Hex((*rng)() >> (32 + rng->Below(24))));
}

v1::Decision MakeDecision(Rng* rng, const Records& records,
                          std::vector<std::shared_ptr<const EncodedAd>>* ads) {
  v1::Decision decision;
  decision.set_request_id(absl::StrCat("req-", Word(rng)));
  v1::Context* context = decision.mutable_context();
  context->set_time_ms(kStartMs);
  context->set_user_id(Word(rng) + Word(rng));
  context->set_query(absl::StrCat(Word(rng), " ", Word(rng)));
  for (int i = 0; i < kContextAttributes; ++i) {
    v1::Attribute* attribute = context->add_attributes();
    attribute->set_name(absl::StrCat("field", i));
    if (i % 3 == 0) {
      attribute->add_number(static_cast<double>(rng->Below(1000)));
    } else {
      attribute->add_text(Word(rng));
    }
  }
  decision.add_placement_ids("top");
  decision.set_model_version(12);
  decision.set_catalog_version(345);
  for (int i = 0; i < kAdsPerDecision; ++i) {
    ads->push_back(records.ads[rng->Below(records.ads.size())]);
    v1::ServedAd* ad = decision.add_ads();
    ad->set_ad_hash(ads->back()->hash);
    ad->set_position(i + 1);
    ad->set_position_in_placement(i + 1);
    ad->set_pctr(static_cast<float>(rng->Uniform()));
    ad->set_logit(static_cast<float>(rng->Normal()));
    ad->set_bid_micros(rng->Below(5'000'000));
    ad->set_price_micros(rng->Below(2'000'000));
    ad->set_score(rng->Uniform() * 1000);
    ad->set_propensity(1);
    ad->set_match_type(v1::MATCH_TYPE_BROAD);
    ad->set_keyword(Word(rng));
    ad->set_feature_fingerprint((*rng)());
  }
  return decision;
}

Records MakeRecords() {
  Rng rng(1);
  Records records;
  for (int i = 0; i < kCatalogAds; ++i) {
    v1::AdSnapshot ad;
    ad.set_ad_id(absl::StrCat("ad-", i));
    ad.set_ad_group_id(absl::StrCat("group-", i / 5));
    ad.set_campaign_id(absl::StrCat("campaign-", i / 20));
    ad.set_advertiser_id(absl::StrCat("advertiser-", i / 100));
    for (int f = 0; f < 10; ++f) {
      v1::Attribute* attribute = ad.add_attributes();
      attribute->set_name(absl::StrCat("ad_field", f));
      attribute->add_text(Word(&rng));
    }
    records.ads.push_back(std::make_shared<const EncodedAd>(EncodeAd(ad)));
  }
  for (int i = 0; i < kPool; ++i) {
    records.served.emplace_back();
    records.decisions.push_back(
        MakeDecision(&rng, records, &records.served.back()));
    log_format::AppendDecisionValue(records.decisions.back(),
                                    &records.values.emplace_back());
  }
  return records;
}

DecisionId IdOf(uint32_t i) { return {kStartMs + uint64_t{i} / 4, 1, i}; }

v1::StorageConfig Config(const std::string& dir,
                         v1::StorageConfig::Durability durability) {
  v1::StorageConfig config;
  config.set_data_dir(dir);
  config.set_durability(durability);
  return config;
}

// Of all threads of the process.
double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec +
                                    usage.ru_stime.tv_usec);
}

struct Timing {
  double seconds = 0;
  double cpu_seconds = 0;
};

Timing Time(const std::function<void()>& work) {
  const absl::Time start = absl::Now();
  const double cpu_start = CpuSeconds();
  work();
  return {absl::ToDoubleSeconds(absl::Now() - start), CpuSeconds() - cpu_start};
}

double Seconds(const std::function<void()>& work) { return Time(work).seconds; }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void Print(const char* name, double value, const char* unit, double floor,
           const std::string& params) {
  printf(
      "{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"%s\",\"floor\":%.0f,"
      "\"ratio\":%.3f,\"params\":{%s}}\n",
      name, value, unit, floor, value / floor, params.c_str());
  fflush(stdout);
}

// kAppends decisions through the log until they are committed.
Timing AppendThroughLog(const std::string& dir, const Records& records,
                        v1::StorageConfig::Durability durability,
                        uint64_t* commits) {
  auto log = EventLog::Open(Config(dir, durability), Clock::Real());
  CHECK(log.ok()) << log.status();
  const Timing timing = Time([&] {
    for (uint32_t i = 0; i < kAppends; ++i) {
      const size_t r = i % kPool;
      while (!(*log)->AppendDecision(IdOf(i), records.decisions[r],
                                     records.served[r])) {
        std::this_thread::yield();
      }
    }
    CHECK((*log)->Flush().ok());
  });
  *commits = (*log)->Stats().commits;
  return timing;
}

// The same bytes in bare WriteBatches of `per_batch` records.
Timing AppendBare(const std::string& dir, const Records& records, bool sync,
                  uint32_t per_batch) {
  auto log = LogDatabase::Open(dir, nullptr);
  CHECK(log.ok()) << log.status();
  rocksdb::WriteOptions options;
  options.sync = sync;
  return Time([&] {
    rocksdb::WriteBatch batch;
    for (const auto& ad : records.ads) {
      batch.Put((*log)->snapshots(), ad->hash, ad->bytes);
    }
    std::string key;
    for (uint32_t i = 0; i < kAppends; ++i) {
      key.clear();
      IdOf(i).AppendTo(&key);
      batch.Put((*log)->decisions(), key, records.values[i % kPool]);
      if ((i + 1) % per_batch == 0 || i + 1 == kAppends) {
        CHECK((*log)->db()->Write(options, &batch).ok());
        batch.Clear();
      }
    }
  });
}

// Callers encode on one core while the log's thread writes on another: with a
// core each the ratio is that of the slower of the two to a bare write. Where
// other processes leave less than that (cpu_seconds of a round below its
// seconds), it falls towards cpu_us of the floor over cpu_us.
void BenchAppend(BenchDir* dir, const Records& records, const char* name,
                 v1::StorageConfig::Durability durability) {
  std::vector<double> ours, bare, ours_cpu, bare_cpu;
  uint64_t commits = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Timing log =
        AppendThroughLog(dir->Fresh(), records, durability, &commits);
    const uint32_t per_batch = std::max<uint32_t>(1, kAppends / commits);
    const Timing floor =
        AppendBare(dir->Fresh(), records,
                   durability != v1::StorageConfig::ASYNC, per_batch);
    ours.push_back(log.seconds);
    ours_cpu.push_back(log.cpu_seconds);
    bare.push_back(floor.seconds);
    bare_cpu.push_back(floor.cpu_seconds);
  }
  const auto micros = [](const std::vector<double>& cpu) {
    return absl::StrFormat("%.2f", Median(cpu) / kAppends * 1e6);
  };
  Print(name, kAppends / Median(ours), "decisions/s", kAppends / Median(bare),
        absl::StrCat("\"decisions\":", kAppends,
                     ",\"bytes\":", records.values[0].size(),
                     ",\"ads\":", kAdsPerDecision, ",\"commits\":", commits,
                     ",\"rounds\":", kRounds, ",\"cpu_us\":", micros(ours_cpu),
                     ",\"floor_cpu_us\":", micros(bare_cpu), ",\"dir\":\"",
                     dir->kind(), "\""));
}

// Loads a log of decisions, an impression for each ad, and clicks; returns the
// records.
uint64_t Load(const std::string& dir, const Records& records, double* seconds) {
  auto log = EventLog::Open(Config(dir, v1::StorageConfig::GROUP_COMMIT),
                            Clock::Real());
  CHECK(log.ok()) << log.status();
  Rng rng(2);
  uint64_t count = 0;
  *seconds = 0;
  for (uint32_t begin = 0; begin < kLoadDecisions; begin += 1000) {
    LogBatch batch;
    if (begin == 0) {
      for (const auto& ad : records.ads) batch.ads.push_back(*ad);
    }
    for (uint32_t i = begin; i < begin + 1000; ++i) {
      batch.decisions.push_back({IdOf(i), records.decisions[i % kPool]});
      v1::Event event;
      event.set_decision_id(IdOf(i).ToHex());
      for (int position = 1; position <= kAdsPerDecision; ++position) {
        event.set_position(position);
        event.set_type(v1::EVENT_TYPE_IMPRESSION);
        event.set_time_ms(static_cast<int64_t>(IdOf(i).ms) + 50);
        batch.events.push_back(event);
        if (!rng.Bernoulli(0.05)) continue;
        event.set_type(v1::EVENT_TYPE_CLICK);
        batch.events.push_back(event);
      }
    }
    count += batch.decisions.size() + batch.events.size();
    *seconds += Seconds([&] { CHECK((*log)->Write(batch).ok()); });
  }
  return count;
}

double JoinAll(const std::string& dir, uint64_t expected) {
  auto reader = EventLogReader::Open(dir);
  CHECK(reader.ok()) << reader.status();
  uint64_t records = 0, bytes = 0;
  const double seconds = Seconds([&] {
    auto cursor = (*reader)->Join(0, kStartMs * 2);
    for (; cursor->Valid(); cursor->Next()) {
      records += 1 + cursor->record().events.size();
      bytes += cursor->record().decision.size();
    }
    CHECK(cursor->status().ok()) << cursor->status();
  });
  CHECK_EQ(records, expected);
  CHECK_GT(bytes, 0u);
  return seconds;
}

double ScanBare(const std::string& dir, uint64_t expected) {
  auto log = LogDatabase::Open(dir, nullptr);
  CHECK(log.ok()) << log.status();
  uint64_t records = 0, bytes = 0;
  const double seconds = Seconds([&] {
    for (auto* family : {(*log)->decisions(), (*log)->events()}) {
      std::unique_ptr<rocksdb::Iterator> it(
          (*log)->db()->NewIterator(rocks::ScanOptions(), family));
      for (it->SeekToFirst(); it->Valid(); it->Next()) {
        ++records;
        bytes += it->key().size() + it->value().size();
      }
    }
  });
  CHECK_EQ(records, expected);
  CHECK_GT(bytes, 0u);
  return seconds;
}

void BenchLoadAndJoin(BenchDir* dir, const Records& records) {
  std::vector<double> loads;
  uint64_t count = 0;
  std::string path;
  for (int round = 0; round < 3; ++round) {
    path = dir->Fresh();
    double seconds = 0;
    count = Load(path, records, &seconds);
    loads.push_back(seconds);
  }
  const std::string params =
      absl::StrCat("\"decisions\":", kLoadDecisions, ",\"records\":", count,
                   ",\"dir\":\"", dir->kind(), "\"");
  Print("event_log_load", count / Median(loads), "records/s", 200'000, params);
  std::vector<double> ours, bare;
  for (int round = 0; round < kRounds; ++round) {
    // The writer's open flushes nothing that the reader would then find in
    // another place: both sides read the same files.
    bare.push_back(ScanBare(path, count));
    ours.push_back(JoinAll(path, count));
  }
  Print("event_log_join", count / Median(ours), "records/s",
        count / Median(bare), params);
}

int Main() {
  const Records records = MakeRecords();
  BenchDir dir;
  BenchAppend(&dir, records, "event_log_append_async",
              v1::StorageConfig::ASYNC);
  BenchAppend(&dir, records, "event_log_append_group",
              v1::StorageConfig::GROUP_COMMIT);
  BenchLoadAndJoin(&dir, records);
  return 0;
}

}  // namespace
}  // namespace adrank

int main() { return adrank::Main(); }
