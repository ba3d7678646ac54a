// Microseconds of retrieval, one thread:
//
//   bench/run.sh trigger [--ads=N,...] [--least=N,...] [--catalog=N,...]
//                        [--keywords=N,...] [--requests=N]
//
// trigger_top500 and trigger_all ask the index of interned predicates below
// AdIndex, so that ten million ads fit and build in seconds: symbols in,
// numbers of ads out, for ads of at least --least predicates (1: many match; 4:
// few do). trigger_ad_index asks AdIndex itself. Each value is the mean (or a
// percentile) over requests of the best of three rounds. trigger_memory is what
// the heap grew by when AdIndex was built from a catalogue, without that: of
// ads with nothing but their own targeting ("plain"), and with a landing page,
// five attributes and a keyword in every fourth group beside it ("rich"). The
// floor is the scan of all ads (keywords) in the same run, whose answers must
// be the same.
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/huge_pages.h"
#include "base/log.h"
#include "base/rng.h"
#include "bench/trigger_workload.h"
#include "features/text.h"
#include "server/trigger/ad_index.h"
#include "server/trigger/conjunction_index.h"
#include "server/trigger/keyword_index.h"
#include "server/trigger/keyword_set.h"
#include "server/trigger/stemmer.h"

namespace adrank {
namespace {

constexpr size_t kTop = 500;
constexpr int kRounds = 3;
// What AdIndex keeps of an ad beside the index: bid, numbers, flags.
constexpr double kDocumentBytes = 24;

double MicrosSince(int64_t start) {
  return 1e-3 * static_cast<double>(absl::GetCurrentTimeNanos() - start);
}

// Bytes in use.
double Heap() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

struct Times {
  std::vector<double> us;  // [requests], the best so far

  void Take(size_t request, double value) {
    if (us.size() <= request) us.resize(request + 1, 1e18);
    us[request] = std::min(us[request], value);
  }
  double Mean() const {
    double sum = 0;
    for (const double v : us) sum += v;
    return sum / static_cast<double>(us.size());
  }
  double Percentile(double p) const {
    std::vector<double> v = us;
    const auto i = static_cast<size_t>(p * static_cast<double>(v.size() - 1));
    std::nth_element(v.begin(), v.begin() + i, v.end());
    return v[i];
  }
};

void Print(const std::string& name, const Times& times, double floor,
           const std::string& params) {
  std::printf(
      "{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"us/request\",\"floor\":%.1f,"
      "\"ratio\":%.5f,\"params\":{%s,\"p50_us\":%.2f,\"p99_us\":%.2f,"
      "\"floor\":\"scan\"}}\n",
      name.c_str(), times.Mean(), floor, times.Mean() / floor, params.c_str(),
      times.Percentile(0.5), times.Percentile(0.99));
  std::fflush(stdout);
}

// ---- targeting ----

struct Ads {
  HugeVector<Literal> literals;
  HugeVector<uint32_t> begin = {0};  // [ads + 1], into literals
  std::vector<int64_t> bids;

  size_t size() const { return bids.size(); }
  absl::Span<const Literal> of(uint32_t ad) const {
    return {literals.data() + begin[ad], begin[ad + 1] - begin[ad]};
  }
};

Ads MakeAds(uint32_t least, size_t n, TargetingWorkload* workload) {
  Ads ads;
  ads.literals.reserve(8 * n + n / 8);
  ads.begin.reserve(n + 1);
  ads.bids.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    workload->AppendAd(least, &ads.literals);
    ads.begin.push_back(static_cast<uint32_t>(ads.literals.size()));
    ads.bids.push_back(workload->ABid());
  }
  return ads;
}

struct Built {
  HugeVector<uint32_t> ad_of;  // [documents]: best bid first, then by number
  ConjunctionIndex index;
};

// Numbers of ads, best bid first, then by number: a radix sort.
HugeVector<uint32_t> ByBid(const Ads& ads) {
  constexpr int kDigit = 12;
  const auto best = static_cast<uint64_t>(
      *std::max_element(ads.bids.begin(), ads.bids.end()));
  HugeVector<uint64_t> keys(ads.size()), sorted(ads.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i] = (best - static_cast<uint64_t>(ads.bids[i])) << 32 | i;
  }
  for (int shift = 32; best >> (shift - 32) != 0; shift += kDigit) {
    const auto digit = [&](uint64_t key) {
      return (key >> shift) & ((1u << kDigit) - 1);
    };
    std::vector<uint32_t> next((1u << kDigit) + 1, 0);
    for (const uint64_t key : keys) ++next[digit(key) + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    for (const uint64_t key : keys) sorted[next[digit(key)]++] = key;
    keys.swap(sorted);
  }
  return {keys.begin(), keys.end()};
}

Built Build(const Ads& ads, const PredicateSet& predicates) {
  const HugeVector<uint32_t> order = ByBid(ads);
  Built built;
  built.ad_of.reserve(order.size());
  ConjunctionIndex::Builder builder(&predicates);
  builder.Reserve(ads.size(), ads.literals.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const uint32_t ad = order[i];
    // The ads lie in another order than they are taken in.
    constexpr size_t kAhead = 16;
    if (i + 2 * kAhead < order.size()) {
      __builtin_prefetch(&ads.begin[order[i + 2 * kAhead]]);
      __builtin_prefetch(ads.of(order[i + kAhead]).data());
    }
    built.ad_of.push_back(ad);
    builder.AddDocument({builder.AddConjunction(ads.of(ad))});
  }
  built.index = std::move(builder).Build();
  return built;
}

class TargetingBench {
 public:
  TargetingBench(uint32_t least, size_t ads, size_t requests)
      : least_(least), workload_(least * 1000 + ads) {
    ads_ = MakeAds(least, ads, &workload_);
    const int64_t start = absl::GetCurrentTimeNanos();
    const std::clock_t cpu = std::clock();
    built_ = Build(ads_, workload_.predicates());
    build_cpu_s_ = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
    build_s_ = 1e-6 * MicrosSince(start);
    for (size_t i = 0; i < requests; ++i) {
      requests_.push_back(workload_.ARequest());
    }
  }

  void Run() {
    CheckAndScan();
    Times top, all;
    size_t matches = 0;
    const size_t some = std::min<size_t>(
        requests_.size(), std::max<size_t>(50, 100000000 / ads_.size()));
    for (int round = 0; round < kRounds; ++round) {
      matches = 0;
      for (size_t r = 0; r < requests_.size(); ++r) {
        top.Take(r, Ask(requests_[r], kTop));
      }
      for (size_t r = 0; r < some; ++r) {
        all.Take(r, Ask(requests_[r], ads_.size()));
        matches += found_.size();
      }
    }
    const std::string params =
        absl::StrCat("\"ads\":", ads_.size(), ",\"least_predicates\":", least_,
                     ",\"matches\":", matches / some);
    Print("trigger_top500", top, scan_.Mean(), params);
    Print("trigger_all", all, scan_.Mean(), params);
    PrintBuild();
  }

 private:
  // Leaves the best `limit` in found_.
  double Ask(const std::vector<uint32_t>& request, size_t limit) {
    const PredicateSet& predicates = workload_.predicates();
    found_.clear();
    const int64_t start = absl::GetCurrentTimeNanos();
    predicates.Clear(&context_);
    for (const uint32_t symbol : request) predicates.Put(symbol, &context_);
    built_.index.Start(context_, limit, &walk_);
    while (found_.size() < limit &&
           built_.index.Next(predicates, context_, &walk_)) {
      const size_t n = std::min(walk_.found.size(), limit - found_.size());
      for (size_t i = 0; i < n; ++i) {
        found_.push_back(built_.ad_of[walk_.found[i]]);
      }
    }
    return MicrosSince(start);
  }

  void CheckAndScan() {
    std::vector<uint32_t> scanned;
    for (size_t r = 0; r < std::min<size_t>(10, requests_.size()); ++r) {
      const double us = Scan(requests_[r], &scanned);
      scan_.Take(r, us);
      std::sort(scanned.begin(), scanned.end(), [&](uint32_t a, uint32_t b) {
        return ads_.bids[a] != ads_.bids[b] ? ads_.bids[a] > ads_.bids[b]
                                            : a < b;
      });
      Ask(requests_[r], ads_.size());
      CHECK(found_ == scanned);
      Ask(requests_[r], kTop);
      scanned.resize(std::min(scanned.size(), kTop));
      CHECK(found_ == scanned);
    }
  }

  double Scan(const std::vector<uint32_t>& request,
              std::vector<uint32_t>* matches) {
    const PredicateSet& predicates = workload_.predicates();
    matches->clear();
    const int64_t start = absl::GetCurrentTimeNanos();
    predicates.Clear(&context_);
    for (const uint32_t symbol : request) predicates.Put(symbol, &context_);
    for (uint32_t ad = 0; ad < ads_.size(); ++ad) {
      const auto literals = ads_.of(ad);
      if (std::all_of(literals.begin(), literals.end(), [&](Literal l) {
            return predicates.Holds(l, context_);
          })) {
        matches->push_back(ad);
      }
    }
    return MicrosSince(start);
  }

  void PrintBuild() const {
    const double n = static_cast<double>(ads_.size());
    const double bytes = static_cast<double>(built_.index.bytes() +
                                             workload_.predicates().bytes());
    std::printf(
        "{\"name\":\"trigger_build\",\"value\":%.3f,\"unit\":\"s\","
        "\"floor\":null,\"ratio\":null,\"params\":{\"ads\":%zu,"
        "\"least_predicates\":%u,\"cpu_s\":%.3f,\"bytes_per_ad\":%.1f}}\n",
        build_s_, ads_.size(), least_, build_cpu_s_,
        bytes / n + kDocumentBytes);
    std::fflush(stdout);
  }

  const uint32_t least_;
  TargetingWorkload workload_;
  Ads ads_;
  Built built_;
  double build_s_ = 0, build_cpu_s_ = 0;
  std::vector<std::vector<uint32_t>> requests_;
  ResolvedContext context_;
  ConjunctionIndex::Walk walk_;
  std::vector<uint32_t> found_;
  Times scan_;
};

// ---- the whole of AdIndex: names and texts in, the catalogue's ads out ----

class CatalogBench {
 public:
  CatalogBench(uint32_t least, size_t ads, size_t requests, bool rich)
      : least_(least), rich_(rich), workload_(least * 1000 + ads) {
    const double before = Heap();
    v1::Catalog catalog;
    catalog.add_advertisers()->set_id("v");
    v1::Campaign* campaign = catalog.add_campaigns();
    campaign->set_id("c");
    campaign->set_advertiser_id("v");
    for (size_t i = 0; i < ads; ++i) AddAd(i, &catalog);
    const double with_catalog = Heap();
    const int64_t start = absl::GetCurrentTimeNanos();
    const std::clock_t cpu = std::clock();
    auto index = AdIndex::Build(catalog, 1);
    build_s_ = 1e-6 * MicrosSince(start);
    build_cpu_s_ = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
    CHECK(index.ok()) << index.status();
    index_ = *std::move(index);
    const auto n = static_cast<double>(ads);
    catalog_bytes_ = (with_catalog - before) / n;
    bytes_ = (Heap() - with_catalog) / n;
    for (size_t r = 0; r < requests; ++r) {
      v1::Context& context = requests_.emplace_back();
      context.set_time_ms(1);
      for (const uint32_t symbol : workload_.ARequest()) {
        v1::Attribute* attribute = context.add_attributes();
        attribute->set_name(Name(Literal::OfSymbol(symbol)));
        attribute->add_text(absl::StrCat("value_", symbol));
      }
    }
  }

  void Run() {
    Times times;
    size_t matches = 0;
    for (int round = 0; round < kRounds; ++round) {
      matches = 0;
      for (size_t r = 0; r < requests_.size(); ++r) {
        const int64_t start = absl::GetCurrentTimeNanos();
        index_->Retrieve({&requests_[r], nullptr}, kTop, &scratch_, &out_);
        times.Take(r, MicrosSince(start));
        matches += out_.matches.size();
      }
    }
    std::printf(
        "{\"name\":\"trigger_ad_index\",\"value\":%.2f,\"unit\":"
        "\"us/request\",\"floor\":null,\"ratio\":null,\"params\":{\"ads\":"
        "%zu,\"least_predicates\":%u,\"matches\":%zu,\"p99_us\":%.2f,"
        "\"ads_are\":\"%s\"}}\n",
        times.Mean(), index_->size(), least_, matches / requests_.size(),
        times.Percentile(0.99), rich_ ? "rich" : "plain");
    PrintMemory();
    std::fflush(stdout);
  }

 private:
  void PrintMemory() const {
    const auto n = static_cast<double>(index_->size());
    const AdIndex::Bytes bytes = index_->bytes();
    const auto per_ad = [n](size_t b) { return static_cast<double>(b) / n; };
    std::printf(
        "{\"name\":\"trigger_memory\",\"value\":%.1f,\"unit\":\"bytes/ad\","
        "\"floor\":null,\"ratio\":null,\"params\":{\"ads\":%zu,"
        "\"least_predicates\":%u,\"ads_are\":\"%s\",\"targeting\":%.1f,"
        "\"entries\":%.1f,\"texts\":%.1f,\"keywords\":%.1f,"
        "\"catalog_bytes\":%.0f,\"build_s\":%.3f,\"build_cpu_s\":%.3f}}\n",
        bytes_, index_->size(), least_, rich_ ? "rich" : "plain",
        per_ad(bytes.targeting), per_ad(bytes.entries), per_ad(bytes.texts),
        per_ad(bytes.keywords), catalog_bytes_, build_s_, build_cpu_s_);
    std::fflush(stdout);
  }

  std::string Name(Literal literal) const {
    return absl::StrCat("attribute_",
                        workload_.predicates().attribute(literal));
  }

  void AddAd(size_t i, v1::Catalog* catalog) {
    v1::AdGroup* group = catalog->add_ad_groups();
    group->set_id(absl::StrCat("g", i));
    group->set_campaign_id("c");
    group->set_bid_micros(workload_.ABid());
    literals_.clear();
    workload_.AppendAd(least_, &literals_);
    auto* all = group->mutable_targeting()->mutable_all_of();
    for (const Literal literal : literals_) {
      v1::TargetingExpression* e = all->add_expressions();
      if (literal.negated()) e = e->mutable_none_of()->add_expressions();
      e->mutable_in_set()->set_attribute(Name(literal));
      e->mutable_in_set()->add_values(absl::StrCat("value_", literal.number()));
    }
    v1::Ad* ad = catalog->add_ads();
    ad->set_id(absl::StrCat("a", i));
    ad->set_ad_group_id(group->id());
    if (rich_) Enrich(i, group, ad);
  }

  void Enrich(size_t i, v1::AdGroup* group, v1::Ad* ad) {
    const auto text = [&](const char* name, const std::string& value) {
      v1::Attribute* attribute = ad->add_attributes();
      attribute->set_name(name);
      attribute->add_text(value);
    };
    ad->set_landing_url(absl::StrCat("https://shop.example/products/", i));
    text("title", absl::StrCat("The very best product number ", i));
    text("category", absl::StrCat("category ", rng_.Below(500)));
    text("brand", absl::StrCat("brand ", rng_.Below(5000)));
    text("format", absl::StrCat("format ", rng_.Below(5)));
    v1::Attribute* price = ad->add_attributes();
    price->set_name("price");
    price->add_number(static_cast<double>(rng_.Below(100000)) / 100);
    if (i % 4 != 0) return;
    v1::Keyword* keyword = group->add_keywords();
    keyword->set_text(
        absl::StrCat("word", rng_.Below(50000), " word", rng_.Below(50000)));
  }

  const uint32_t least_;
  const bool rich_;
  TargetingWorkload workload_;
  Rng rng_{1};
  HugeVector<Literal> literals_;
  std::shared_ptr<const AdIndex> index_;
  double build_s_ = 0, build_cpu_s_ = 0, bytes_ = 0, catalog_bytes_ = 0;
  std::vector<v1::Context> requests_;
  RetrieveScratch scratch_;
  Retrieval out_;
};

// ---- keywords ----

// Of 1 to 5 words of 200,000 (Zipf), all BROAD: the type with most matches.
// With `stemmer`, words have endings and match by their stems.
class KeywordBench {
 public:
  KeywordBench(size_t keywords, size_t requests,
               std::unique_ptr<Stemmer> stemmer = nullptr)
      : rng_(keywords),
        requests_(requests),
        word_(200000),
        stemmer_(std::move(stemmer)) {
    for (size_t i = 0; i < keywords; ++i) {
      const std::string words = Words(1 + rng_.Below(5));
      StemWords(words);
      postings_.push_back(
          {stemmer_ == nullptr ? set_.Add(words) : set_.AddWords(stems_),
           v1::MATCH_TYPE_BROAD});
    }
    const int64_t start = absl::GetCurrentTimeNanos();
    index_ = KeywordIndex(set_, postings_);
    build_s_ = 1e-6 * MicrosSince(start);
  }

  void Run() {
    for (const uint64_t words : {1, 3, 6, 12}) RunWords(words);
    std::printf(
        "{\"name\":\"trigger_keywords_build\",\"value\":%.3f,\"unit\":\"s\","
        "\"floor\":null,\"ratio\":null,\"params\":{\"keywords\":%zu,"
        "\"bytes_per_keyword\":%.1f}}\n",
        build_s_, postings_.size(),
        static_cast<double>(index_.bytes()) /
            static_cast<double>(postings_.size()));
  }

 private:
  std::string Words(uint64_t n) {
    std::string text;
    for (uint64_t i = 0; i < n; ++i) {
      absl::StrAppend(&text, i == 0 ? "w" : " w", word_(&rng_));
      constexpr const char* kEndings[] = {"", "s", "ing", "ed"};
      if (stemmer_ != nullptr) {
        absl::StrAppend(&text, "er", kEndings[rng_.Below(4)]);
      }
    }
    return text;
  }

  void StemWords(const std::string& text) {
    if (stemmer_ == nullptr) return;
    TokenizeInto(text, &resolved_.normalized, &resolved_.words);
    stems_.resize(resolved_.words.size());
    for (size_t i = 0; i < stems_.size(); ++i) {
      const absl::string_view stem = stemmer_->Stem(resolved_.words[i]);
      stems_[i].assign(stem.data(), stem.size());
    }
  }

  void Resolve(const std::string& query) {
    if (stemmer_ == nullptr) return set_.Resolve(query, &resolved_);
    StemWords(query);
    set_.ResolveWords(stems_, stems_.size(), &resolved_);
  }

  void RunWords(uint64_t words) {
    std::vector<std::string> queries;
    for (size_t i = 0; i < requests_; ++i) queries.push_back(Words(words));
    Times scan, match;
    size_t hits = 0;
    for (size_t r = 0; r < std::min<size_t>(10, requests_); ++r) {
      scan.Take(r, Scan(queries[r]));
      Ask(queries[r]);
      std::sort(found_.begin(), found_.end());
      CHECK(found_ == scanned_);
    }
    for (int round = 0; round < kRounds; ++round) {
      hits = 0;
      for (size_t r = 0; r < requests_; ++r) {
        match.Take(r, Ask(queries[r]));
        hits += found_.size();
      }
    }
    Print(stemmer_ == nullptr ? "trigger_keywords" : "trigger_keywords_stemmed",
          match, scan.Mean(),
          absl::StrCat("\"keywords\":", postings_.size(), ",\"query_words\":",
                       words, ",\"matches\":", hits / requests_));
  }

  double Ask(const std::string& query) {
    const int64_t start = absl::GetCurrentTimeNanos();
    Resolve(query);
    index_.Match(set_, resolved_, &scratch_, &found_);
    return MicrosSince(start);
  }

  double Scan(const std::string& query) {
    scanned_.clear();
    const int64_t start = absl::GetCurrentTimeNanos();
    Resolve(query);
    for (uint32_t i = 0; i < postings_.size(); ++i) {
      if (set_.Matches(postings_[i].keyword, postings_[i].type, resolved_)) {
        scanned_.push_back(i);
      }
    }
    return MicrosSince(start);
  }

  Rng rng_;
  const size_t requests_;
  ZipfSampler word_;
  const std::unique_ptr<Stemmer> stemmer_;
  std::vector<std::string> stems_;
  KeywordSet set_;
  std::vector<KeywordPosting> postings_;
  KeywordIndex index_;
  double build_s_ = 0;
  ResolvedQuery resolved_;
  KeywordIndex::Scratch scratch_;
  std::vector<uint32_t> found_, scanned_;
};

std::vector<size_t> Sizes(absl::string_view text) {
  std::vector<size_t> sizes;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    uint64_t n = 0;
    CHECK(absl::SimpleAtoi(part, &n)) << "not a number: " << std::string(part);
    if (n != 0) sizes.push_back(n);
  }
  return sizes;
}

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  std::string ads = "1000,100000,1000000", keywords = "100000,1000000";
  std::string catalog = "100000", least = "1,4";  // many match; few do
  size_t requests = 1000;
  for (int i = 1; i < argc; ++i) {
    const absl::string_view arg = argv[i];
    if (absl::StartsWith(arg, "--ads=")) {
      ads = std::string(arg.substr(6));
    } else if (absl::StartsWith(arg, "--catalog=")) {
      catalog = std::string(arg.substr(10));
    } else if (absl::StartsWith(arg, "--least=")) {
      least = std::string(arg.substr(8));
    } else if (absl::StartsWith(arg, "--keywords=")) {
      keywords = std::string(arg.substr(11));
    } else if (absl::StartsWith(arg, "--requests=")) {
      requests = adrank::Sizes(arg.substr(11)).at(0);
    } else {
      LOG(FATAL) << "unknown argument " << argv[i];
    }
  }
  for (const size_t n : adrank::Sizes(ads)) {
    for (const size_t predicates : adrank::Sizes(least)) {
      adrank::TargetingBench(static_cast<uint32_t>(predicates), n, requests)
          .Run();
    }
  }
  for (const size_t n : adrank::Sizes(catalog)) {
    for (const size_t predicates : adrank::Sizes(least)) {
      for (const bool rich : {false, true}) {
        adrank::CatalogBench(static_cast<uint32_t>(predicates), n, requests,
                             rich)
            .Run();
      }
    }
  }
  for (const size_t n : adrank::Sizes(keywords)) {
    adrank::KeywordBench(n, requests).Run();
    adrank::KeywordBench(n, requests, *adrank::Stemmer::Create("english"))
        .Run();
  }
  return 0;
}
