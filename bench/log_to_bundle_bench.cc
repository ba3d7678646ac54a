// From RocksDB events to a published logistic bundle: impressions a second, and
// where the time goes. Decisions of 10 ads with 39 fields (28 of the context,
// 10 of the ad, position), each ad seen, clicks planted.
//
//   log_to_bundle         all impressions of the log / seconds of RunTraining
//   log_to_bundle_filter  the same with vocabulary.filter_bytes
//
// The floor is what bare iterators over decisions and events of the same log
// take, as impressions a second. "share" is that of the steps; the extract step
// joins and extracts on the same threads at once: "scan_join" is the time that
// the join, parsing and labelling alone take for its window, measured by
// themselves, "extract" the rest of it.
//
//   bench_log_to_bundle [--decisions=N] [--threads=N] [--rounds=N] [--dir=DIR]
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "storage/event_log.h"
#include "storage/event_log_reader.h"
#include "storage/log_database.h"
#include "trainer/config.h"
#include "trainer/labelled_decision.h"
#include "trainer/ordered_scan.h"
#include "trainer/training_run.h"

namespace adrank {
namespace {

constexpr int kAds = 10;
constexpr int kCatalog = 20'000;
constexpr int kContextFields = 28;
constexpr int kAdFields = 10;
constexpr int64_t kStartMs = 1'767'571'200'000;
constexpr int64_t kDayMs = 86'400'000;
constexpr uint64_t kFilterBytes = 64 << 20;

struct Flags {
  uint32_t decisions = 80'000;
  uint32_t threads = 2;
  uint32_t rounds = 3;
  std::string dir;
};

// Rank 1 .. n with probability ~ 1 / rank.
uint64_t Zipf(uint64_t n, Rng* rng) {
  return static_cast<uint64_t>(
      std::exp2(rng->Uniform() * std::log2(static_cast<double>(n))));
}

// Vocabularies from 10 to 3 million, as in display ads.
uint64_t Vocabulary(int field) {
  return static_cast<uint64_t>(
      std::pow(10.0, 1 + 5.5 * field / kContextFields));
}

v1::AdSnapshot MakeAd(int i) {
  Rng rng(static_cast<uint64_t>(i));
  v1::AdSnapshot ad;
  ad.set_ad_id(absl::StrCat("ad-", i));
  ad.set_advertiser_id(absl::StrCat("advertiser-", i / 100));
  for (int f = 0; f < kAdFields; ++f) {
    v1::Attribute* attribute = ad.add_attributes();
    attribute->set_name(absl::StrCat("a", f));
    attribute->add_text(absl::StrCat(Zipf(10 << (f + 2), &rng)));
  }
  return ad;
}

double Effect(uint64_t value) {
  return (static_cast<double>(MixBits(value) >> 40) * 0x1p-24 - 0.5) * 2;
}

class LogWriter {
 public:
  explicit LogWriter(const std::string& dir) {
    v1::StorageConfig config;
    config.set_data_dir(dir);
    config.set_durability(v1::StorageConfig::ASYNC);
    auto log = EventLog::Open(config, Clock::Real());
    CHECK(log.ok()) << log.status();
    log_ = *std::move(log);
    for (int i = 0; i < kCatalog; ++i) {
      ads_.push_back(EncodeAd(MakeAd(i)));
      hashes_.push_back(ads_.back().hash);
    }
  }

  void Write(uint32_t decisions) {
    LogBatch batch;
    batch.ads = std::move(ads_);
    for (uint32_t i = 0; i < decisions; ++i) {
      Add(i, kStartMs + i * kDayMs / decisions, &batch);
      if (batch.decisions.size() < 1000 && i + 1 < decisions) continue;
      CHECK(log_->Write(batch).ok());
      batch = LogBatch();
    }
    CHECK(log_->Flush().ok());
  }

 private:
  void Add(uint32_t i, int64_t ms, LogBatch* batch) {
    LogBatch::DecisionRecord record;
    record.id = {static_cast<uint64_t>(ms), 1, i};
    v1::Decision& decision = record.decision;
    v1::Context* context = decision.mutable_context();
    context->set_time_ms(ms);
    double logit = -3.2;
    const uint64_t user = Zipf(1'000'000, &rng_);
    context->set_user_id(absl::StrCat("user-", user));
    for (int f = 0; f < kContextFields; ++f) {
      v1::Attribute* attribute = context->add_attributes();
      attribute->set_name(absl::StrCat("c", f));
      const uint64_t value = Zipf(Vocabulary(f), &rng_);
      attribute->add_text(absl::StrCat("v", value));
      if (f < 4) logit += 0.5 * Effect(value + 1000 * static_cast<uint64_t>(f));
    }
    decision.add_placement_ids("top");
    for (int p = 1; p <= kAds; ++p) {
      const uint64_t ad = Zipf(kCatalog, &rng_) - 1;
      v1::ServedAd& served = *decision.add_ads();
      served.set_ad_hash(hashes_[ad]);
      served.set_position(static_cast<uint32_t>(p));
      served.set_position_in_placement(static_cast<uint32_t>(p));
      served.set_pctr(0.05f);
      served.set_bid_micros(1'000'000);
      served.set_price_micros(500'000);
      AddEvent(record, p, v1::EVENT_TYPE_IMPRESSION, 200, batch);
      const double x = logit + 1.5 * Effect(ad << 20) - 0.05 * p;
      if (rng_.Uniform() < 1 / (1 + std::exp(-x))) {
        AddEvent(record, p, v1::EVENT_TYPE_CLICK, 9000, batch);
      }
    }
    batch->decisions.push_back(std::move(record));
  }

  static void AddEvent(const LogBatch::DecisionRecord& record, int position,
                       v1::EventType type, int64_t after_ms, LogBatch* batch) {
    v1::Event event;
    event.set_decision_id(record.id.ToHex());
    event.set_position(static_cast<uint32_t>(position));
    event.set_type(type);
    event.set_time_ms(static_cast<int64_t>(record.id.ms) + after_ms);
    batch->events.push_back(std::move(event));
  }

  Rng rng_{1};
  std::unique_ptr<EventLog> log_;
  std::vector<EncodedAd> ads_;
  std::vector<std::string> hashes_;
};

v1::TrainerConfig MakeConfig(const std::string& data, const std::string& models,
                             const Flags& flags, bool filter) {
  v1::TrainerConfig config;
  config.set_data_dir(data);
  config.set_model_dir(models);
  config.set_threads(flags.threads);
  const auto field = [&](const std::string& name, const std::string& source) {
    v1::Field* f = config.mutable_feature_spec()->add_fields();
    f->set_name(name);
    f->set_source(source);
  };
  for (int f = 0; f < kContextFields; ++f) field(absl::StrCat("c", f), "");
  for (int f = 0; f < kAdFields; ++f) {
    field(absl::StrCat("a", f), absl::StrCat("ad.a", f));
  }
  field("position", "position");
  // An id of a context occurs in the 10 examples of a decision: seen twice.
  config.mutable_logistic()->set_min_count(kAds + 1);
  config.mutable_gate()->set_min_calibration(0.5);
  config.mutable_gate()->set_max_calibration(2);
  config.mutable_gate()->set_max_ne(2);
  if (filter) config.mutable_vocabulary()->set_filter_bytes(kFilterBytes);
  auto resolved = ResolveConfig(config);
  CHECK(resolved.ok()) << resolved.status();
  return *resolved;
}

double Seconds(absl::FunctionRef<void()> work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
      .count();
}

double ScanBare(const std::string& dir) {
  auto log = LogDatabase::Open(dir, nullptr);
  CHECK(log.ok()) << log.status();
  uint64_t bytes = 0;
  const double seconds = Seconds([&] {
    for (auto* family : {(*log)->decisions(), (*log)->events()}) {
      std::unique_ptr<rocksdb::Iterator> it(
          (*log)->db()->NewIterator(rocks::ScanOptions(), family));
      for (it->SeekToFirst(); it->Valid(); it->Next()) {
        bytes += it->key().size() + it->value().size();
      }
    }
  });
  CHECK_GT(bytes, 0u);
  return seconds;
}

// Join, parse and label of the training window as the extract step does it.
double ScanAndJoin(const std::string& dir, int64_t end_ms, uint32_t threads) {
  auto reader = EventLogReader::Open(dir);
  CHECK(reader.ok()) << reader.status();
  std::vector<LabelledDecision> labelled;
  for (uint32_t t = 0; t < threads; ++t) labelled.emplace_back(LabelOptions());
  return Seconds([&] {
    auto cursor = (*reader)->Join(0, end_ms);
    CHECK(OrderedScan<int>::Run(
              cursor.get(), threads,
              [&](size_t w, const RecordBatch& batch, int*) {
                for (size_t i = 0; i < batch.size(); ++i) {
                  CHECK(labelled[w].Read(batch.record(i)).ok());
                }
                return absl::OkStatus();
              },
              [](int*) { return absl::OkStatus(); })
              .ok());
  });
}

struct Round {
  double seconds;
  double bare;
  double scan_join;
  v1::TrainingReport report;
};

Round Measure(const std::string& dir, const Flags& flags, bool filter) {
  Round round;
  const std::string models = dir + "/models";
  std::filesystem::remove_all(models);
  const v1::TrainerConfig config =
      MakeConfig(dir + "/log", models, flags, filter);
  round.bare = ScanBare(dir + "/log");
  StepProgress progress(Clock::Real(), false, -1);
  round.seconds = Seconds([&] {
    auto report = RunTraining(config, &progress);
    CHECK(report.ok()) << report.status();
    round.report = *report;
  });
  CHECK(round.report.verdict() == v1::TrainingReport::PUBLISHED)
      << round.report.DebugString();
  round.scan_join =
      ScanAndJoin(dir + "/log", round.report.train_end_ms(), flags.threads);
  return round;
}

void Print(const char* name, const Round& round, const Flags& flags) {
  const double rows = static_cast<double>(round.report.join().examples());
  std::string shares =
      absl::StrFormat("\"scan_join\":%.3f", round.scan_join / round.seconds);
  double other = round.seconds;
  for (auto [step, seconds] : round.report.seconds()) {
    other -= seconds;
    if (step == "extract") seconds = std::max(0.0, seconds - round.scan_join);
    absl::StrAppendFormat(&shares, ",\"%s\":%.3f", step,
                          seconds / round.seconds);
  }
  uint64_t peak = 0;
  for (const auto& [step, bytes] :
       round.report.memory().peak_resident_bytes()) {
    peak = std::max(peak, bytes);
  }
  absl::PrintF(
      "{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"impressions/s\","
      "\"floor\":%.0f,\"ratio\":%.3f,\"params\":{\"threads\":%d,"
      "\"impressions\":%.0f,\"fields\":%d,\"seconds\":%.2f,\"ids\":%d,"
      "\"rows\":%d,\"peak_mib\":%d,\"ne\":%.4f,\"share\":{%s,\"other\":%.3f}}}"
      "\n",
      name, rows / round.seconds, rows / round.bare, round.bare / round.seconds,
      flags.threads, rows, kContextFields + kAdFields + 1, round.seconds,
      round.report.memory().interned_ids(), round.report.vocabulary_rows(),
      peak >> 20, round.report.candidate().normalized_entropy(), shares,
      other / round.seconds);
  fflush(stdout);
}

int Main(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    absl::string_view arg = argv[i];
    if ((absl::ConsumePrefix(&arg, "--decisions=") &&
         absl::SimpleAtoi(arg, &flags.decisions)) ||
        (absl::ConsumePrefix(&arg, "--threads=") &&
         absl::SimpleAtoi(arg, &flags.threads)) ||
        (absl::ConsumePrefix(&arg, "--rounds=") &&
         absl::SimpleAtoi(arg, &flags.rounds))) {
      continue;
    }
    if (absl::ConsumePrefix(&arg, "--dir=")) {
      flags.dir = std::string(arg);
      continue;
    }
    absl::FPrintF(stderr, "unknown argument: %s\n", argv[i]);
    return 2;
  }
  if (flags.dir.empty()) {
    flags.dir = std::filesystem::is_directory("/dev/shm")
                    ? "/dev/shm"
                    : std::filesystem::temp_directory_path().string();
  }
  std::string dir = flags.dir + "/adrank_bench.XXXXXX";
  CHECK(mkdtemp(dir.data()) != nullptr);
  LogWriter(dir + "/log").Write(flags.decisions);
  for (const bool filter : {false, true}) {
    std::vector<Round> rounds;
    for (uint32_t r = 0; r < flags.rounds; ++r) {
      rounds.push_back(Measure(dir, flags, filter));
    }
    std::sort(rounds.begin(), rounds.end(), [](const Round& a, const Round& b) {
      return a.seconds < b.seconds;
    });
    Print(filter ? "log_to_bundle_filter" : "log_to_bundle",
          rounds[rounds.size() / 2], flags);
  }
  std::filesystem::remove_all(dir);
  return 0;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) { return adrank::Main(argc, argv); }
