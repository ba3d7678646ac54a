#include "tools/recall.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "tools/table.h"

namespace adrank {
namespace {

// How the ad was found, without the prefix of the enum.
std::string ShortName(v1::MatchType type) {
  constexpr absl::string_view kPrefix = "MATCH_TYPE_";
  return v1::MatchType_Name(type).substr(kPrefix.size());
}

bool Has(const v1::RankResponse& response, v1::Degradation what) {
  return std::find(response.degraded().begin(), response.degraded().end(),
                   what) != response.degraded().end();
}

// Null: the placement is empty.
const v1::RankedAd* Winner(const v1::RankResponse& response, int placement) {
  if (placement >= response.placements_size()) return nullptr;
  const v1::PlacementResult& p = response.placements(placement);
  return p.ads().empty() ? nullptr : &p.ads(0);
}

}  // namespace

absl::StatusOr<std::vector<v1::Decision>> SampleDecisions(EventLogReader* log,
                                                          int64_t begin_ms,
                                                          int64_t end_ms,
                                                          size_t n,
                                                          uint64_t seed) {
  Rng rng(seed);
  std::vector<v1::Decision> sample;
  uint64_t seen = 0;
  const auto cursor = log->Join(begin_ms, end_ms);
  v1::Decision decision;
  for (; cursor->Valid(); cursor->Next()) {
    if (!cursor->record().Parse(&decision) || decision.test() ||
        !decision.request().candidates().empty()) {
      continue;
    }
    if (sample.size() < n) {
      sample.push_back(decision);
    } else if (const uint64_t at = rng.Below(seen + 1); at < n) {
      sample[at] = decision;
    }
    ++seen;
  }
  RETURN_IF_ERROR(cursor->status());
  return sample;
}

v1::RankRequest RequestOf(const v1::Decision& decision) {
  v1::RankRequest request = decision.request();
  *request.mutable_context() = decision.context();
  request.set_request_id(decision.request_id());
  if (request.placements().empty()) {
    for (const std::string& id : decision.placement_ids()) {
      request.add_placements()->set_id(id);
    }
  }
  return request;
}

RecallCounter::RecallCounter(absl::Span<const uint32_t> limits)
    : limits_(limits.begin(), limits.end()), counts_(limits.size()) {}

void RecallCounter::Add(const v1::RankResponse& all,
                        absl::Span<const v1::RankResponse> limited) {
  report_.set_decisions(report_.decisions() + 1);
  const auto in_time = [](const v1::RankResponse& r) {
    return !Has(r, v1::DEGRADATION_DEADLINE);
  };
  if (!in_time(all) || !std::all_of(limited.begin(), limited.end(), in_time)) {
    return report_.set_deadline(report_.deadline() + 1);
  }
  if (Has(all, v1::DEGRADATION_TRUNCATED)) {
    report_.set_truncated(report_.truncated() + 1);
  }
  for (int p = 0; p < all.placements_size(); ++p) {
    const v1::RankedAd* winner = Winner(all, p);
    if (winner == nullptr) {
      report_.set_empty(report_.empty() + 1);
      continue;
    }
    const auto by_chance = [p](const v1::RankResponse& r) {
      const v1::RankedAd* ad = Winner(r, p);
      return ad != nullptr && ad->explored();
    };
    if (by_chance(all) ||
        std::any_of(limited.begin(), limited.end(), by_chance)) {
      report_.set_explored(report_.explored() + 1);
      continue;
    }
    report_.set_placements(report_.placements() + 1);
    for (size_t l = 0; l < limited.size(); ++l) {
      const v1::RankedAd* ad = Winner(limited[l], p);
      Count& count = counts_[l][winner->match_type()];
      ++count.winners;
      count.inside += ad != nullptr && ad->ad_id() == winner->ad_id();
    }
  }
}

v1::RecallReport RecallCounter::Report() const {
  v1::RecallReport report = report_;
  for (size_t l = 0; l < limits_.size(); ++l) {
    v1::RecallReport::Limit* limit = report.add_limits();
    limit->set_max_candidates(limits_[l]);
    const auto add = [&](const std::string& name, const Count& count) {
      v1::RecallReport::Source* source = limit->add_sources();
      source->set_match_type(name);
      source->set_winners(count.winners);
      source->set_inside(count.inside);
      source->set_recall(count.winners == 0
                             ? 0
                             : static_cast<double>(count.inside) /
                                   count.winners);
    };
    Count all;
    std::vector<std::pair<v1::MatchType, Count>> by_type(counts_[l].begin(),
                                                         counts_[l].end());
    for (const auto& [type, count] : by_type) {
      all.winners += count.winners;
      all.inside += count.inside;
    }
    add("", all);
    std::stable_sort(by_type.begin(), by_type.end(),
                     [](const auto& a, const auto& b) {
                       return a.second.winners > b.second.winners;
                     });
    for (const auto& [type, count] : by_type) add(ShortName(type), count);
  }
  return report;
}

absl::StatusOr<v1::RecallReport> MeasureRecall(
    absl::Span<const v1::Decision> decisions, absl::Span<const uint32_t> limits,
    const std::function<absl::StatusOr<v1::RankResponse>(
        const v1::RankRequest& request)>& ask) {
  RecallCounter counter(limits);
  std::vector<v1::RankResponse> limited(limits.size());
  for (const v1::Decision& decision : decisions) {
    v1::RankRequest request = RequestOf(decision);
    request.set_max_candidates(0);
    request.set_deadline_ms(0);
    ASSIGN_OR_RETURN(const v1::RankResponse all, ask(request));
    for (size_t l = 0; l < limits.size(); ++l) {
      request.set_max_candidates(limits[l]);
      ASSIGN_OR_RETURN(limited[l], ask(request));
    }
    counter.Add(all, limited);
  }
  return counter.Report();
}

std::string RecallText(const v1::RecallReport& report) {
  Table table({"candidates", "source", "winners", "inside", "recall"});
  for (const v1::RecallReport::Limit& limit : report.limits()) {
    for (const v1::RecallReport::Source& s : limit.sources()) {
      table.Add({absl::StrCat(limit.max_candidates()),
                 s.match_type().empty() ? "all" : s.match_type(),
                 absl::StrCat(s.winners()), absl::StrCat(s.inside()),
                 absl::StrFormat("%.4f", s.recall())});
    }
  }
  std::string text = table.Print();
  absl::StrAppend(&text, report.decisions(),
                  " decisions: ", report.placements(), " placements compared, ",
                  report.empty(), " empty, ", report.explored(), " explored, ",
                  report.deadline(), " decisions cut by the deadline\n");
  if (report.truncated() > 0) {
    absl::StrAppend(&text, report.truncated(),
                    " decisions have more matches than the server's "
                    "limits.max_candidates: their winner is that of the "
                    "most valuable candidates only\n");
  }
  return text;
}

}  // namespace adrank
