// Microseconds of the 100 nearest of 1e4, 1e5 and 1e6 vectors of 64 components
// (one thread): exact, approximate, and a plain scan in float. The floor is the
// time in which this machine reads the bytes of the exact scan. Directions lie
// around 1,000 centres, with as much noise as centre; requests too.
//
//   bench/run.sh vector_search [largest number of vectors]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/rng.h"
#include "model/kernels/vector.h"
#include "server/trigger/vector_index.h"

namespace adrank {
namespace {

constexpr size_t kDims = 64, kBest = 100, kCentres = 1000, kQueries = 100;

class Directions {
 public:
  explicit Directions(Rng* rng) : rng_(*rng), centres_(kCentres * kDims) {
    for (float& x : centres_) x = static_cast<float>(rng_.Normal());
  }
  std::vector<float> Next() {
    const float* centre = &centres_[rng_.Below(kCentres) * kDims];
    std::vector<float> v(kDims);
    for (size_t i = 0; i < kDims; ++i) {
      v[i] = centre[i] + static_cast<float>(rng_.Normal());
    }
    return v;
  }

 private:
  Rng& rng_;
  std::vector<float> centres_;
};

double Now() { return 1e-9 * static_cast<double>(absl::GetCurrentTimeNanos()); }

struct Times {
  double median, p99;
};

template <typename F>
Times Measure(F f) {
  std::vector<double> us;
  for (size_t q = 0; q < kQueries; ++q) {
    const double start = Now();
    f(q);
    us.push_back(1e6 * (Now() - start));
  }
  std::sort(us.begin(), us.end());
  return {us[us.size() / 2], us[us.size() * 99 / 100]};
}

void Print(const std::string& name, size_t n, const std::string& params,
           Times t, double floor, double recall) {
  std::printf(
      "{\"name\":\"vector_search/%s\",\"value\":%.1f,\"unit\":\"us\","
      "\"floor\":%.1f,\"ratio\":%.2f,\"params\":{\"vectors\":%zu,\"dims\":%zu,"
      "\"best\":%zu%s,\"p99_us\":%.1f,\"recall\":%.4f}}\n",
      name.c_str(), t.median, floor, t.median / floor, n, kDims, kBest,
      params.c_str(), t.p99, recall);
  std::fflush(stdout);
}

using Hits = std::vector<VectorIndex::Hit>;

double Recall(const std::vector<Hits>& found, const std::vector<Hits>& truth) {
  double both = 0, all = 0;
  for (size_t q = 0; q < truth.size(); ++q) {
    std::set<uint32_t> ads;
    for (const auto& hit : found[q]) ads.insert(hit.ad);
    for (const auto& hit : truth[q]) both += ads.count(hit.ad) > 0;
    all += static_cast<double>(truth[q].size());
  }
  return all == 0 ? 1 : both / all;
}

// Reads the bytes once, as eight sums.
double SecondsToRead(const std::vector<uint64_t>& words) {
  static volatile uint64_t sink;
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    const double start = Now();
    uint64_t sums[8] = {};
    for (size_t i = 0; i + 8 <= words.size(); i += 8) {
      for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
    }
    for (const uint64_t s : sums) sink = sink + s;
    best = std::min(best, Now() - start);
  }
  return best;
}

class Bench {
 public:
  Bench(size_t n, Rng* rng) : n_(n), rng_(*rng) {
    Directions directions(rng);
    raw_.reserve(n * kDims);
    for (size_t i = 0; i < n; ++i) {
      const std::vector<float> v = directions.Next();
      raw_.insert(raw_.end(), v.begin(), v.end());
    }
    for (size_t q = 0; q < kQueries; ++q) queries_.push_back(directions.Next());
    floor_ = 1e6 * SecondsToRead(std::vector<uint64_t>(n * kDims / 8, 1));
  }

  void Run() {
    const VectorIndex exact = Build(0);
    truth_ = {};
    Print("exact", n_, "", Search(exact, false, All(), &truth_), floor_, 1);
    PlainScan(exact);
    const VectorIndex lists = Build(1);
    std::vector<Hits> found;
    const Times t = Search(lists, true, All(), &found);
    Print("approximate", n_, "", t, floor_, Recall(found, truth_));
    for (const double share : {0.5, 0.1, 0.01, 0.001}) {
      const std::string params = absl::StrCat(",\"eligible\":", share);
      std::vector<uint8_t> pass(n_);
      for (auto& p : pass) p = rng_.Bernoulli(share);
      std::vector<Hits> truth;
      Print("exact_filtered", n_, params, Search(exact, false, pass, &truth),
            floor_, 1);
      const Times among = Among(exact, pass, &found);
      Print("among_eligible", n_, params, among, floor_, Recall(found, truth));
      const Times near = Search(lists, true, pass, &found);
      Print("approximate_filtered", n_, params, near, floor_,
            Recall(found, truth));
    }
  }

 private:
  std::vector<uint8_t> All() const { return std::vector<uint8_t>(n_, 1); }

  VectorIndex Build(size_t from) const {
    VectorIndex::Builder builder;
    for (size_t i = 0; i < n_; ++i) {
      builder.Add(static_cast<uint32_t>(i), {&raw_[i * kDims], kDims})
          .IgnoreError();
    }
    const double start = Now();
    VectorIndex index = std::move(builder).Build(from);
    std::printf(
        "{\"name\":\"vector_search/build_%s\",\"value\":%.3f,\"unit\":\"s\","
        "\"params\":{\"vectors\":%zu,\"bytes_per_ad\":%.0f}}\n",
        from == 0 ? "exact" : "approximate", Now() - start, n_,
        static_cast<double>(index.bytes()) / static_cast<double>(n_));
    return index;
  }

  // A vector passes by its ad's number: lists are in another order.
  Times Search(const VectorIndex& index, bool approximately,
               const std::vector<uint8_t>& pass, std::vector<Hits>* found) {
    found->assign(kQueries, {});
    VectorIndex::Query query;
    VectorIndex::Top top;
    const auto filter = [&](uint32_t i) { return pass[index.ad(i)] != 0; };
    return Measure([&](size_t q) {
      index.Prepare(queries_[q], &query);
      top.Start(kBest, -1);
      approximately ? index.SearchApproximately(filter, &query, &top)
                    : index.Search(filter, &query, &top);
      (*found)[q] = top.Finish();
    });
  }

  Times Among(const VectorIndex& index, const std::vector<uint8_t>& pass,
              std::vector<Hits>* found) {
    std::vector<uint32_t> among;
    for (uint32_t i = 0; i < n_; ++i) {
      if (pass[index.ad(i)]) among.push_back(i);
    }
    found->assign(kQueries, {});
    VectorIndex::Query query;
    VectorIndex::Top top;
    return Measure([&](size_t q) {
      index.Prepare(queries_[q], &query);
      top.Start(kBest, -1);
      index.SearchAmong(
          among, [](uint32_t) { return true; }, &query, &top);
      (*found)[q] = top.Finish();
    });
  }

  // Every cosine in float; those above the worst of the best so far are kept.
  void PlainScan(const VectorIndex& index) {
    VectorIndex::Query query;
    VectorIndex::Top top;
    std::vector<Hits> found(kQueries);
    const Times t = Measure([&](size_t q) {
      index.Prepare(queries_[q], &query);
      top.Start(kBest, -1);
      for (uint32_t i = 0; i < n_; ++i) {
        const VectorIndex::Hit hit = {index.Similarity(i, query), i, i};
        if (top.Wants(hit)) top.Add(hit);
      }
      found[q] = top.Finish();
    });
    Print("plain_float", n_, "", t, floor_, Recall(found, truth_));
  }

  const size_t n_;
  Rng& rng_;
  std::vector<float> raw_;
  std::vector<std::vector<float>> queries_;
  double floor_ = 0;
  std::vector<Hits> truth_;
};

}  // namespace
}  // namespace adrank

int main(int argc, char** argv) {
  const double largest = argc > 1 ? std::atof(argv[1]) : 1e6;
  adrank::Rng rng(7);
  for (const size_t n : {10000, 100000, 1000000}) {
    if (static_cast<double>(n) <= largest) adrank::Bench(n, &rng).Run();
  }
  return 0;
}
