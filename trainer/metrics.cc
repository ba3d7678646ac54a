#include "trainer/metrics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/rng.h"

namespace adrank {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kNormal975 = 1.959963984540054;

v1::Interval MakeInterval(double estimate, double low, double high) {
  v1::Interval interval;
  interval.set_estimate(estimate);
  interval.set_low(low);
  interval.set_high(high);
  return interval;
}

double Entropy(double rate) {
  return -rate * std::log(rate) - (1 - rate) * std::log1p(-rate);
}

double Loss(double p, bool label) {
  p = std::clamp(p, 1e-15, 1 - 1e-15);
  return label ? -std::log(p) : -std::log1p(-p);
}

// Floats in their order as unsigned integers; -0 and 0 alike.
uint32_t Ordered(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x == 0 ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Indexes of `which` in order of pctr, ties in the order given.
// High word: the ordered score; low word: the index.
void SortByScore(const Scored& s, std::vector<uint64_t>* which) {
  for (uint64_t& i : *which) i |= uint64_t{Ordered(s.pctr[i])} << 32;
  std::sort(which->begin(), which->end());
}

std::vector<uint64_t> Indexes(size_t n) {
  CHECK_LT(n, 0xffffffffull);
  std::vector<uint64_t> indexes(n);
  for (size_t i = 0; i < n; ++i) indexes[i] = i;
  return indexes;
}

struct Mass {
  double clicks = 0;
  double others = 0;
};

// Calls visit(first, last, below, tied) for each run of equal scores:
// [first, last) of `sorted`, the mass below the run and in it. Returns all
// mass.
template <typename Visit>
Mass ForEachTie(const Scored& s, const std::vector<uint64_t>& sorted,
                Visit visit) {
  Mass below;
  for (size_t first = 0, last = 0; first < sorted.size(); first = last) {
    Mass tied;
    while (last < sorted.size() && sorted[last] >> 32 == sorted[first] >> 32) {
      const auto i = static_cast<uint32_t>(sorted[last++]);
      (s.labels[i] ? tied.clicks : tied.others) += s.weight(i);
    }
    visit(first, last, below, tied);
    below.clicks += tied.clicks;
    below.others += tied.others;
  }
  return below;
}

// AUC of the examples in `which`; all[0] = their mass.
double AucOf(const Scored& s, std::vector<uint64_t>* which) {
  SortByScore(s, which);
  double pairs = 0;
  const Mass all = ForEachTie(
      s, *which, [&pairs](size_t, size_t, const Mass& below, const Mass& tied) {
        pairs += tied.clicks * (below.others + tied.others / 2);
      });
  if (all.clicks == 0 || all.others == 0) return kNan;
  return pairs / (all.clicks * all.others);
}

// For each click the share of non-clicks below it, for each non-click the share
// of clicks above it (ties half): DeLong's V10 and V01. Both average to the
// AUC.
struct Placements {
  std::vector<double> value;
  Mass mass;
  double auc = kNan;
};

Placements ComputePlacements(const Scored& s) {
  Placements p;
  p.value.resize(s.size());
  std::vector<uint64_t> sorted = Indexes(s.size());
  SortByScore(s, &sorted);
  double pairs = 0;
  const auto visit = [&](size_t first, size_t last, const Mass& below,
                         const Mass& tied) {
    pairs += tied.clicks * (below.others + tied.others / 2);
    for (size_t k = first; k < last; ++k) {
      const auto i = static_cast<uint32_t>(sorted[k]);
      p.value[i] = s.labels[i] ? below.others + tied.others / 2
                               : below.clicks + tied.clicks / 2;
    }
  };
  p.mass = ForEachTie(s, sorted, visit);
  for (size_t i = 0; i < s.size(); ++i) {
    p.value[i] = s.labels[i] ? p.value[i] / p.mass.others
                             : 1 - p.value[i] / p.mass.clicks;
  }
  p.auc = pairs / (p.mass.clicks * p.mass.others);
  return p;
}

// Variance of the mean of clicks' values plus that of non-clicks' values:
// DeLong et al. 1988, equation for S; NaN with fewer than two of a class.
template <typename Value>
double PlacementVariance(const Scored& s, const Mass& mass, double mean,
                         Value value) {
  double squares[2] = {0, 0};
  double counts[2] = {0, 0};
  for (size_t i = 0; i < s.size(); ++i) {
    const double share =
        s.weight(i) / (s.labels[i] ? mass.clicks : mass.others);
    if (share == 0) continue;
    const double deviation = value(i) - mean;
    squares[s.labels[i]] += share * share * deviation * deviation;
    counts[s.labels[i]] += 1;
  }
  double variance = 0;
  for (int label : {0, 1}) {
    if (counts[label] < 2) return kNan;
    variance += squares[label] * counts[label] / (counts[label] - 1);
  }
  return variance;
}

// Sums of one group, or of all.
struct Sums {
  double weight = 0;
  double clicks = 0;
  double pctr = 0;
  double loss = 0;

  void Add(const Sums& other, double times) {
    weight += other.weight * times;
    clicks += other.clicks * times;
    pctr += other.pctr * times;
    loss += other.loss * times;
  }
  void AddExample(const Scored& s, size_t i) {
    const double w = s.weight(i);
    weight += w;
    if (s.labels[i]) clicks += w;
    pctr += w * s.pctr[i];
    loss += w * Loss(s.pctr[i], s.labels[i] != 0);
  }
  bool both() const { return clicks > 0 && clicks < weight; }
  double LogLoss() const { return weight > 0 ? loss / weight : kNan; }
  double Ne() const {
    return both() ? LogLoss() / Entropy(clicks / weight) : kNan;
  }
  double Calibration() const { return clicks > 0 ? pctr / clicks : kNan; }
};

Sums SumAll(const Scored& s) {
  Sums sums;
  for (size_t i = 0; i < s.size(); ++i) sums.AddExample(s, i);
  return sums;
}

// visit(sums, examples) of `bins` bins of equally many examples, in order.
template <typename Visit>
void ForEachBin(const Scored& s, const std::vector<uint64_t>& sorted, int bins,
                Visit visit) {
  for (int b = 0; b < bins; ++b) {
    const size_t begin = sorted.size() * b / bins;
    const size_t end = sorted.size() * (b + 1) / bins;
    Sums bin;
    for (size_t k = begin; k < end; ++k) {
      bin.AddExample(s, static_cast<uint32_t>(sorted[k]));
    }
    visit(bin, end - begin);
  }
}

// 95 % score interval of a rate seen in n draws (Wilson 1927).
v1::Interval Wilson(double rate, double n) {
  const double z2 = kNormal975 * kNormal975;
  const double center = (rate + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kNormal975 *
                      std::sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) /
                      (1 + z2 / n);
  return MakeInterval(rate, center - half, center + half);
}

// (group, example), by group, then example.
std::vector<std::pair<uint64_t, uint32_t>> ByGroup(const Scored& s) {
  std::vector<std::pair<uint64_t, uint32_t>> order(s.size());
  for (size_t i = 0; i < s.size(); ++i) {
    order[i] = {s.groups.empty() ? i : s.groups[i], static_cast<uint32_t>(i)};
  }
  std::sort(order.begin(), order.end());
  return order;
}

struct GroupSums {
  std::vector<uint64_t> id;
  std::vector<Sums> sums;
};

GroupSums SumByGroup(const Scored& s) {
  GroupSums groups;
  for (const auto& [id, i] : ByGroup(s)) {
    if (groups.id.empty() || groups.id.back() != id) {
      groups.id.push_back(id);
      groups.sums.emplace_back();
    }
    groups.sums.back().AddExample(s, i);
  }
  return groups;
}

// A Poisson(1) number from uniform bits, by its distribution function; above 10
// has probability 1e-8 and counts as 11.
int PoissonOne(uint64_t bits) {
  static const std::array<double, 11> kCumulative = [] {
    std::array<double, 11> cumulative;
    double term = std::exp(-1.0), sum = 0;
    for (int k = 0; k < 11; ++k) {
      sum += term;
      cumulative[k] = sum;
      term /= k + 1;
    }
    return cumulative;
  }();
  const double u = static_cast<double>(bits >> 11) * 0x1.0p-53;
  int k = 0;
  while (k < 11 && u >= kCumulative[k]) ++k;
  return k;
}

// visit(replicate's multiplicity function) for each replicate.
template <typename Visit>
void ForEachReplicate(const std::vector<uint64_t>& ids, int replicates,
                      uint64_t seed, Visit visit) {
  for (int b = 0; b < replicates; ++b) {
    const uint64_t stream = MixBits(MixBits(seed) + static_cast<uint64_t>(b));
    visit([&ids, stream](size_t g) {
      return PoissonOne(MixBits(stream ^ MixBits(ids[g])));
    });
  }
}

// Linear interpolation between order statistics. REQUIRES: sorted, not empty.
double Quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(place);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] +
         (place - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

v1::Interval PercentileInterval(double estimate, std::vector<double> values) {
  std::erase_if(values, [](double x) { return std::isnan(x); });
  if (values.size() < 2) return MakeInterval(estimate, kNan, kNan);
  std::sort(values.begin(), values.end());
  return MakeInterval(estimate, Quantile(values, 0.025),
                      Quantile(values, 0.975));
}

}  // namespace

double Auc(const Scored& s) {
  std::vector<uint64_t> which = Indexes(s.size());
  return AucOf(s, &which);
}

double AucVariance(const Scored& s) {
  const Placements p = ComputePlacements(s);
  return PlacementVariance(s, p.mass, p.auc,
                           [&p](size_t i) { return p.value[i]; });
}

v1::Interval AucInterval(const Scored& s) {
  const double auc = Auc(s);
  const double half = kNormal975 * std::sqrt(AucVariance(s));
  if (std::isnan(half)) return MakeInterval(auc, kNan, kNan);
  return MakeInterval(auc, std::max(0.0, auc - half),
                      std::min(1.0, auc + half));
}

v1::Interval DeltaAuc(const Scored& a, const Scored& b) {
  CHECK_EQ(a.size(), b.size());
  const Placements pa = ComputePlacements(a);
  const Placements pb = ComputePlacements(b);
  const double delta = pa.auc - pb.auc;
  const double half = kNormal975 * std::sqrt(PlacementVariance(
                                       a, pa.mass, delta, [&pa, &pb](size_t i) {
                                         return pa.value[i] - pb.value[i];
                                       }));
  return MakeInterval(delta, delta - half, delta + half);
}

double Gauc(const Scored& s) {
  const auto order = ByGroup(s);
  double sum = 0, mass = 0;
  std::vector<uint64_t> which;
  for (size_t first = 0, last = 0; first < order.size(); first = last) {
    which.clear();
    double weight = 0;
    for (; last < order.size() && order[last].first == order[first].first;
         ++last) {
      which.push_back(order[last].second);
      weight += s.weight(order[last].second);
    }
    const double auc = AucOf(s, &which);
    if (std::isnan(auc)) continue;
    sum += weight * auc;
    mass += weight;
  }
  return mass > 0 ? sum / mass : kNan;
}

double LogLoss(const Scored& s) { return SumAll(s).LogLoss(); }
double NormalizedEntropy(const Scored& s) { return SumAll(s).Ne(); }
double CalibrationRatio(const Scored& s) { return SumAll(s).Calibration(); }

double ExpectedCalibrationError(const Scored& s, int bins) {
  std::vector<uint64_t> sorted = Indexes(s.size());
  SortByScore(s, &sorted);
  double error = 0, mass = 0;
  ForEachBin(s, sorted, bins, [&](const Sums& bin, size_t) {
    error += std::fabs(bin.pctr - bin.clicks);
    mass += bin.weight;
  });
  return mass > 0 ? error / mass : kNan;
}

double AveragePrecision(const Scored& s) {
  std::vector<uint64_t> sorted = Indexes(s.size());
  SortByScore(s, &sorted);
  Mass all;
  for (size_t i = 0; i < s.size(); ++i) {
    (s.labels[i] ? all.clicks : all.others) += s.weight(i);
  }
  double sum = 0;
  ForEachTie(s, sorted,
             [&](size_t, size_t, const Mass& below, const Mass& tied) {
               if (tied.clicks == 0) return;
               const double clicks = all.clicks - below.clicks;
               const double others = all.others - below.others;
               sum += tied.clicks * clicks / (clicks + others);
             });
  return all.clicks > 0 ? sum / all.clicks : kNan;
}

std::vector<v1::ReliabilityBin> Reliability(const Scored& s, int bins) {
  std::vector<uint64_t> sorted = Indexes(s.size());
  SortByScore(s, &sorted);
  std::vector<v1::ReliabilityBin> rows;
  ForEachBin(s, sorted, bins, [&](const Sums& sums, size_t examples) {
    if (sums.weight == 0) return;
    v1::ReliabilityBin& row = rows.emplace_back();
    row.set_examples(examples);
    row.set_clicks(static_cast<uint64_t>(std::llround(sums.clicks)));
    row.set_mean_pctr(sums.pctr / sums.weight);
    *row.mutable_ctr() = Wilson(sums.clicks / sums.weight, sums.weight);
  });
  return rows;
}

double PopulationStabilityIndex(absl::Span<const float> reference,
                                absl::Span<const float> other, int bins) {
  if (reference.empty() || other.empty()) return kNan;
  std::vector<float> sorted(reference.begin(), reference.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<float> edges;  // bin b: edges[b - 1] <= x < edges[b]
  for (int b = 1; b < bins; ++b) {
    const float edge = sorted[sorted.size() * b / bins];
    if (edge > (edges.empty() ? sorted[0] : edges.back())) {
      edges.push_back(edge);
    }
  }
  const auto shares = [&edges](absl::Span<const float> values) {
    std::vector<double> share(edges.size() + 1, 0.5);
    for (float x : values) {
      share[std::upper_bound(edges.begin(), edges.end(), x) - edges.begin()] +=
          1;
    }
    const double all = static_cast<double>(values.size()) +
                       0.5 * static_cast<double>(share.size());
    for (double& q : share) q /= all;
    return share;
  };
  const std::vector<double> p = shares(reference), q = shares(other);
  double psi = 0;
  for (size_t b = 0; b < p.size(); ++b) {
    psi += (q[b] - p[b]) * std::log(q[b] / p[b]);
  }
  return psi;
}

v1::Metrics ComputeMetrics(const Scored& s) {
  v1::Metrics m;
  const Sums all = SumAll(s);
  m.set_examples(s.size());
  m.set_clicks(static_cast<uint64_t>(
      std::count_if(s.labels.begin(), s.labels.end(),
                    [](uint8_t label) { return label != 0; })));
  m.set_mean_pctr(all.weight > 0 ? all.pctr / all.weight : kNan);
  m.set_ctr(all.weight > 0 ? all.clicks / all.weight : kNan);
  *m.mutable_auc_interval() = AucInterval(s);
  m.set_auc(m.auc_interval().estimate());
  m.set_gauc(Gauc(s));
  m.set_logloss(all.LogLoss());
  m.set_normalized_entropy(all.Ne());
  m.set_calibration_ratio(all.Calibration());
  m.set_ece(ExpectedCalibrationError(s));
  m.set_pr_auc(AveragePrecision(s));
  return m;
}

v1::Interval CalibrationInterval(const Scored& s, int replicates,
                                 uint64_t seed) {
  const GroupSums groups = SumByGroup(s);
  std::vector<double> values;
  if (groups.id.size() >= 2) {
    ForEachReplicate(groups.id, replicates, seed, [&](auto times) {
      Sums sums;
      for (size_t g = 0; g < groups.id.size(); ++g) {
        sums.Add(groups.sums[g], times(g));
      }
      values.push_back(sums.Calibration());
    });
  }
  return PercentileInterval(SumAll(s).Calibration(), std::move(values));
}

Deltas BootstrapDeltas(const Scored& a, const Scored& b, int replicates,
                       uint64_t seed) {
  CHECK_EQ(a.size(), b.size());
  const GroupSums ga = SumByGroup(a);
  const GroupSums gb = SumByGroup(b);
  CHECK(ga.id == gb.id);
  std::vector<double> logloss, ne;
  if (ga.id.size() >= 2) {
    ForEachReplicate(ga.id, replicates, seed, [&](auto times) {
      Sums sa, sb;
      for (size_t g = 0; g < ga.id.size(); ++g) {
        const int count = times(g);
        if (count == 0) continue;
        sa.Add(ga.sums[g], count);
        sb.Add(gb.sums[g], count);
      }
      logloss.push_back(sa.LogLoss() - sb.LogLoss());
      ne.push_back(sa.Ne() - sb.Ne());
    });
  }
  const Sums sa = SumAll(a), sb = SumAll(b);
  return {PercentileInterval(sa.LogLoss() - sb.LogLoss(), std::move(logloss)),
          PercentileInterval(sa.Ne() - sb.Ne(), std::move(ne))};
}

}  // namespace adrank
