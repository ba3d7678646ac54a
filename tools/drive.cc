#include "tools/drive.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/event_service.grpc.pb.h"
#include "proto/ranking_service.grpc.pb.h"
#include "tools/market_log.h"
#include "tools/table.h"

namespace adrank {
namespace {

constexpr int kReportAttempts = 5;

// What one connection counted.
struct Tally {
  v1::DriveReport report;
  std::vector<double> rank_ms, log_events_ms;
};

v1::Latency Summarise(std::vector<double> ms) {
  v1::Latency latency;
  latency.set_calls(ms.size());
  if (ms.empty()) return latency;
  std::sort(ms.begin(), ms.end());
  double sum = 0;
  for (double x : ms) sum += x;
  const auto quantile = [&ms](double q) {
    return ms[static_cast<size_t>(q * static_cast<double>(ms.size() - 1))];
  };
  latency.set_mean_ms(sum / static_cast<double>(ms.size()));
  latency.set_p50_ms(quantile(0.5));
  latency.set_p90_ms(quantile(0.9));
  latency.set_p99_ms(quantile(0.99));
  latency.set_max_ms(ms.back());
  return latency;
}

template <typename Map>
void AddCounts(const Map& from, Map* to) {
  for (const auto& [key, count] : from) (*to)[key] += count;
}

void AddTally(const v1::DriveReport& from, v1::DriveReport* to) {
  to->set_requests(to->requests() + from.requests());
  to->set_answers(to->answers() + from.answers());
  to->set_ads(to->ads() + from.ads());
  to->set_empty_slots(to->empty_slots() + from.empty_slots());
  to->set_foreign_ads(to->foreign_ads() + from.foreign_ads());
  to->set_degraded_answers(to->degraded_answers() + from.degraded_answers());
  to->set_impressions(to->impressions() + from.impressions());
  to->set_clicks(to->clicks() + from.clicks());
  to->set_expected_clicks(to->expected_clicks() + from.expected_clicks());
  AddCounts(from.errors(), to->mutable_errors());
  AddCounts(from.event_results(), to->mutable_event_results());
  AddCounts(from.model_versions(), to->mutable_model_versions());
}

std::string CodeName(const grpc::Status& status) {
  return absl::StatusCodeToString(
      static_cast<absl::StatusCode>(status.error_code()));
}

// One connection: a frontend that asks, shows and reports, one visit at a time.
class Frontend {
 public:
  Frontend(const Market& market, const DriveOptions& options,
           std::shared_ptr<grpc::Channel> channel)
      : market_(market),
        options_(options),
        ranking_(v1::RankingService::NewStub(channel)),
        events_(v1::EventService::NewStub(channel)),
        effects_(market.click_model().EffectsOfDay(options.day)) {}

  // The i-th request of the drive.
  void Serve(uint64_t i) {
    const uint64_t per_day = market_.config().decisions_per_day();
    const uint64_t index = options_.first + i;
    const int32_t day = options_.day + static_cast<int32_t>(index / per_day);
    Rng rng = market_.visits().AfterVisit(day, index % per_day);
    const Visit visit =
        options_.now ? market_.visits().At(Clock::Real()->NowMs(), &rng)
                     : market_.visits().OfDay(day, index % per_day, per_day);
    if (effects_.day != visit.day) {
      effects_ = market_.click_model().EffectsOfDay(visit.day);
    }
    v1::RankResponse response;
    if (!Rank(MakeRankRequest(market_, visit, options_.test), &response)) {
      return;
    }
    v1::LogEventsRequest seen = See(visit, response, &rng);
    if (seen.events_size() > 0) Report(std::move(seen));
  }

  Tally& tally() { return tally_; }

 private:
  void SetDeadline(grpc::ClientContext* context) const {
    context->set_deadline(absl::ToChronoTime(
        absl::Now() + absl::Milliseconds(options_.timeout_ms)));
  }

  void CountError(const char* rpc, const grpc::Status& status) {
    ++(*tally_.report
            .mutable_errors())[absl::StrCat(rpc, " ", CodeName(status))];
  }

  bool Rank(const v1::RankRequest& request, v1::RankResponse* response) {
    v1::DriveReport& r = tally_.report;
    r.set_requests(r.requests() + 1);
    grpc::ClientContext context;
    SetDeadline(&context);
    const absl::Time start = absl::Now();
    const grpc::Status status = ranking_->Rank(&context, request, response);
    tally_.rank_ms.push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
    if (!status.ok()) {
      CountError("Rank", status);
      return false;
    }
    r.set_answers(r.answers() + 1);
    if (response->degraded_size() > 0) {
      r.set_degraded_answers(r.degraded_answers() + 1);
    }
    ++(*r.mutable_model_versions())[response->model_version()];
    return true;
  }

  // What the user sees and clicks.
  v1::LogEventsRequest See(const Visit& visit, const v1::RankResponse& response,
                           Rng* rng) {
    v1::DriveReport& r = tally_.report;
    v1::LogEventsRequest request;
    uint32_t served = 0;
    for (const v1::PlacementResult& placement : response.placements()) {
      for (const v1::RankedAd& ad : placement.ads()) {
        ++served;
        const absl::StatusOr<uint32_t> index = market_.FindAd(ad.ad_id());
        if (!index.ok()) r.set_foreign_ads(r.foreign_ads() + 1);
        const double ctr =
            index.ok() ? market_.click_model().Ctr(effects_, visit, *index,
                                                   ad.position_in_placement())
                       : 0;
        Outcome outcome =
            DrawOutcome(market_.config(), visit.time_ms, ctr, rng);
        if (!outcome.seen) continue;
        if (options_.now) {  // nothing may be reported before it happens
          outcome.impression_ms = outcome.click_ms = Clock::Real()->NowMs();
        }
        const auto add = [&](v1::EventType type, int64_t time_ms) {
          v1::Event* event = request.add_events();
          event->set_decision_id(response.decision_id());
          event->set_position(ad.position());
          event->set_type(type);
          event->set_time_ms(time_ms);
        };
        add(v1::EVENT_TYPE_IMPRESSION, outcome.impression_ms);
        r.set_impressions(r.impressions() + 1);
        r.set_expected_clicks(r.expected_clicks() + ctr);
        if (!outcome.clicked) continue;
        add(v1::EVENT_TYPE_CLICK, outcome.click_ms);
        r.set_clicks(r.clicks() + 1);
      }
    }
    r.set_ads(r.ads() + served);
    const uint32_t slots = market_.config().slots();
    r.set_empty_slots(r.empty_slots() + (served < slots ? slots - served : 0));
    return request;
  }

  void Report(v1::LogEventsRequest request) {
    for (int attempt = 1; request.events_size() > 0; ++attempt) {
      v1::LogEventsResponse response;
      grpc::ClientContext context;
      SetDeadline(&context);
      const absl::Time start = absl::Now();
      const grpc::Status status =
          events_->LogEvents(&context, request, &response);
      tally_.log_events_ms.push_back(
          absl::ToDoubleMilliseconds(absl::Now() - start));
      const bool answered =
          status.ok() && response.results_size() == request.events_size();
      if (!status.ok()) CountError("LogEvents", status);
      v1::LogEventsRequest again;
      for (int i = 0; i < request.events_size(); ++i) {
        const v1::EventResult::Code code =
            answered ? response.results(i).code()
                     : v1::EventResult::CODE_UNAVAILABLE;
        if (code == v1::EventResult::CODE_UNAVAILABLE &&
            attempt < kReportAttempts) {
          *again.add_events() = std::move(*request.mutable_events(i));
        } else {
          ++(*tally_.report
                  .mutable_event_results())[v1::EventResult::Code_Name(code)];
        }
      }
      request = std::move(again);
      if (request.events_size() > 0) {
        absl::SleepFor(absl::Milliseconds(20) * (1 << attempt));
      }
    }
  }

  const Market& market_;
  const DriveOptions& options_;
  const std::unique_ptr<v1::RankingService::Stub> ranking_;
  const std::unique_ptr<v1::EventService::Stub> events_;
  DayEffects effects_;
  Tally tally_;
};

absl::Status CheckOptions(const Market& market, const DriveOptions& o) {
  if (o.count == 0 && o.duration_s <= 0) {
    return absl::InvalidArgumentError(
        "neither a count nor a duration says when to stop");
  }
  if (o.concurrency < 1 || o.concurrency > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("concurrency ", o.concurrency, " not in [1, 1024]"));
  }
  if (!(o.rate >= 0) || o.day < 0) {
    return absl::InvalidArgumentError("rate and day must not be negative");
  }
  if (o.now && Clock::Real()->NowMs() < market.first_day_ms()) {
    return absl::InvalidArgumentError(absl::StrCat("the market starts on ",
                                                   market.config().first_day(),
                                                   ", which is in the future"));
  }
  return absl::OkStatus();
}

}  // namespace

v1::RankRequest MakeRankRequest(const Market& market, const Visit& visit,
                                bool test) {
  v1::RankRequest request;
  market.ToContext(visit, request.mutable_context());
  v1::Placement* placement = request.add_placements();
  placement->set_id(market.PlacementId(visit));
  placement->set_count(market.config().slots());
  request.set_test(test);
  return request;
}

absl::StatusOr<v1::DriveReport> Drive(
    const Market& market, const DriveOptions& options,
    const std::function<void(uint64_t done)>& progress) {
  if (absl::Status s = CheckOptions(market, options); !s.ok()) return s;
  std::vector<std::unique_ptr<Frontend>> frontends;
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    grpc::ChannelArguments args;
    args.SetInt("adrank.connection", static_cast<int>(i));  // own connection
    auto channel = grpc::CreateCustomChannel(
        options.server, grpc::InsecureChannelCredentials(), args);
    if (i == 0 && !channel->WaitForConnected(
                      absl::ToChronoTime(absl::Now() + absl::Seconds(3)))) {
      return absl::UnavailableError(
          absl::StrCat(options.server, ": no server answers"));
    }
    frontends.push_back(std::make_unique<Frontend>(market, options, channel));
  }
  std::atomic<uint64_t> next{0}, done{0};
  std::atomic<uint32_t> running{options.concurrency};
  const absl::Time start = absl::Now();
  const absl::Time end = options.duration_s > 0
                             ? start + absl::Seconds(options.duration_s)
                             : absl::InfiniteFuture();
  std::vector<std::thread> threads;
  for (auto& frontend : frontends) {
    threads.emplace_back([&, f = frontend.get()] {
      for (;;) {
        const uint64_t i = next++;
        if (options.count > 0 && i >= options.count) break;
        if (options.rate > 0) {
          // Each request has its moment, whatever became of those before.
          const absl::Time due =
              start + absl::Seconds(static_cast<double>(i) / options.rate);
          if (due >= end) break;
          absl::SleepFor(due - absl::Now());
        }
        if (absl::Now() >= end) break;
        f->Serve(i);
        ++done;
      }
      --running;
    });
  }
  while (running > 0) {
    absl::SleepFor(absl::Milliseconds(20));
    if (progress) progress(done);
  }
  for (std::thread& thread : threads) thread.join();
  v1::DriveReport report;
  std::vector<double> rank_ms, log_events_ms;
  for (auto& f : frontends) {
    const Tally& t = f->tally();
    AddTally(t.report, &report);
    rank_ms.insert(rank_ms.end(), t.rank_ms.begin(), t.rank_ms.end());
    log_events_ms.insert(log_events_ms.end(), t.log_events_ms.begin(),
                         t.log_events_ms.end());
  }
  report.set_seconds(absl::ToDoubleSeconds(absl::Now() - start));
  report.set_requests_per_second(static_cast<double>(report.requests()) /
                                 report.seconds());
  *report.mutable_rank() = Summarise(std::move(rank_ms));
  *report.mutable_log_events() = Summarise(std::move(log_events_ms));
  return report;
}

std::string PrintDriveReport(const v1::DriveReport& report) {
  std::string out = absl::StrFormat(
      "%u requests in %.1f s (%.0f/s), %u answers with %u ads, %u empty "
      "slots, %u degraded\n%u impressions, %u clicks (%.1f expected)\n",
      report.requests(), report.seconds(), report.requests_per_second(),
      report.answers(), report.ads(), report.empty_slots(),
      report.degraded_answers(), report.impressions(), report.clicks(),
      report.expected_clicks());
  if (report.foreign_ads() > 0) {
    absl::StrAppendFormat(&out, "%u ads of another market\n",
                          report.foreign_ads());
  }
  Table latencies({"call", "calls", "mean ms", "p50", "p90", "p99", "max"});
  const auto add = [&](const char* name, const v1::Latency& l) {
    latencies.Add({name, absl::StrCat(l.calls()),
                   absl::StrFormat("%.3f", l.mean_ms()),
                   absl::StrFormat("%.3f", l.p50_ms()),
                   absl::StrFormat("%.3f", l.p90_ms()),
                   absl::StrFormat("%.3f", l.p99_ms()),
                   absl::StrFormat("%.3f", l.max_ms())});
  };
  add("Rank", report.rank());
  add("LogEvents", report.log_events());
  absl::StrAppend(&out, "\n", latencies.Print());
  // Maps of protobuf have no order.
  Table counts({"count of", "n"});
  std::vector<std::pair<std::string, uint64_t>> lines;
  for (const auto& [name, n] : report.errors()) {
    lines.emplace_back(absl::StrCat("error ", name), n);
  }
  for (const auto& [name, n] : report.event_results()) {
    lines.emplace_back(absl::StrCat("event ", name), n);
  }
  for (const auto& [version, n] : report.model_versions()) {
    lines.emplace_back(absl::StrCat("answers of model version ", version), n);
  }
  std::sort(lines.begin(), lines.end());
  for (const auto& [name, n] : lines) counts.Add({name, absl::StrCat(n)});
  if (!lines.empty()) absl::StrAppend(&out, "\n", counts.Print());
  return out;
}

}  // namespace adrank
