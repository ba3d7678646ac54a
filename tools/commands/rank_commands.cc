#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "proto/ranking_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/explanation_text.h"
#include "tools/table.h"

namespace adrank {
namespace {

using v1::RankingService;

constexpr int kReplayMs = 120000;
constexpr int kAnotherAnswer = 3;  // exit code

// A request from a file, or put together from flags.
struct RequestArgs {
  std::string file;
  std::string query;
  std::string user;
  int64_t time_ms = 0;
  std::vector<std::string> attributes;
  std::vector<std::string> placements;
  std::vector<std::string> candidates;
  std::vector<std::string> explain;
  std::string decision;
  bool test = false;
};

void AddContextOptions(CLI::App* verb, RequestArgs* args) {
  verb->add_option("--request", args->file,
                   "file with the whole request, JSON or text proto; - is "
                   "standard input");
  verb->add_option("--query", args->query, "what the user typed");
  verb->add_option("--user", args->user, "user id");
  verb->add_option("--time-ms", args->time_ms, "time; default: now");
  verb->add_option("--attr", args->attributes,
                   "context attribute name=value; a number stays a number when "
                   "written name:=value; may repeat");
  verb->add_option("--candidate", args->candidates,
                   "ad id; may repeat: only these are considered");
}

absl::Status FillContext(const RequestArgs& args, v1::Context* context) {
  if (!args.query.empty()) context->set_query(args.query);
  if (!args.user.empty()) context->set_user_id(args.user);
  if (args.time_ms != 0) context->set_time_ms(args.time_ms);
  for (const std::string& text : args.attributes) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--attr ", text, ": not name=value"));
    }
    const bool number = text[equals - 1] == ':';
    const std::string name = text.substr(0, equals - (number ? 1 : 0));
    const std::string value = text.substr(equals + 1);
    v1::Attribute* attribute = nullptr;
    for (v1::Attribute& a : *context->mutable_attributes()) {
      if (a.name() == name) attribute = &a;
    }
    if (attribute == nullptr) attribute = context->add_attributes();
    attribute->set_name(name);
    double parsed = 0;
    if (!number) {
      attribute->add_text(value);
    } else if (absl::SimpleAtod(value, &parsed)) {
      attribute->add_number(parsed);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--attr ", text, ": \"", value, "\" is not a number"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::RankRequest> MakeRankRequest(const RequestArgs& args) {
  v1::RankRequest request;
  if (!args.file.empty()) RETURN_IF_ERROR(ReadMessage(args.file, &request));
  RETURN_IF_ERROR(FillContext(args, request.mutable_context()));
  for (const std::string& text : args.placements) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(text, absl::MaxSplits(':', 1));
    uint32_t count = 1;
    if (!parts.second.empty() && !absl::SimpleAtoi(parts.second, &count)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--placement ", text, ": not id:count"));
    }
    v1::Placement* placement = request.add_placements();
    placement->set_id(parts.first);
    placement->set_count(count);
  }
  for (const std::string& id : args.candidates) {
    request.add_candidates()->set_ad_id(id);
  }
  if (args.test) request.set_test(true);
  return request;
}

// The keyword, or how near the vectors are.
std::string Evidence(const v1::RankedAd& ad) {
  switch (ad.match_type()) {
    case v1::MATCH_TYPE_EMBEDDING:
      return absl::StrFormat("(cosine %.3f)", ad.similarity());
    case v1::MATCH_TYPE_MODEL:
      return absl::StrFormat("(product %.3f)", ad.similarity());
    default:
      return ad.keyword();
  }
}

void PrintResponse(const v1::RankResponse& response) {
  Table table({"placement", "pos", "ad", "advertiser", "match", "keyword",
               "pctr", "bid", "score", "price"});
  for (const v1::PlacementResult& placement : response.placements()) {
    for (const v1::RankedAd& ad : placement.ads()) {
      std::string match = v1::MatchType_Name(ad.match_type());
      table.Add({placement.id(), absl::StrCat(ad.position()), ad.ad_id(),
                 ad.advertiser_id(), match.substr(match.rfind('_') + 1),
                 Evidence(ad), absl::StrFormat("%.5f", ad.pctr()),
                 FormatMicros(ad.bid_micros()),
                 FormatMicros(static_cast<int64_t>(ad.score())),
                 FormatMicros(ad.price_micros())});
    }
  }
  absl::PrintF("%s", table.Print());
  for (const v1::PlacementResult& placement : response.placements()) {
    if (placement.no_ad_reason() == v1::NO_AD_REASON_UNSPECIFIED) continue;
    absl::PrintF("%s: empty slot: %s\n", placement.id(),
                 v1::NoAdReason_Name(placement.no_ad_reason()));
  }
  for (const int d : response.degraded()) {
    absl::PrintF("degraded: %s\n",
                 v1::Degradation_Name(static_cast<v1::Degradation>(d)));
  }
  absl::PrintF(
      "decision %s  model %d  catalog %d  matched %d, filtered %d, predicted "
      "%d  %d us\n",
      response.decision_id(), response.model_version(),
      response.catalog_version(), response.counts().matched(),
      response.counts().filtered(), response.counts().predicted(),
      response.timings().total_us());
}

void PrintExplanation(const v1::AdExplanation& ad) {
  absl::PrintF("\n%s: %s\n", ad.ad_id(), ad.outcome());
  absl::PrintF("%s", StageText(ad));
  if (ad.bid_micros() == 0) return;
  absl::PrintF("%s", ScoreText(ad));
  if (ad.contributions().empty()) return;
  absl::PrintF("%s", ContributionsText(ad));
}

absl::Status Rank(const RequestArgs& args, const ClientOptions& options, int*) {
  ASSIGN_OR_RETURN(const v1::RankRequest request, MakeRankRequest(args));
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::RankResponse response;
  RETURN_IF_ERROR(FromGrpc(RankingService::NewStub(Connect(options.server))
                               ->Rank(&context, request, &response),
                           options.server));
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
  } else {
    PrintResponse(response);
  }
  return absl::OkStatus();
}

absl::Status Predict(const RequestArgs& args, const ClientOptions& options,
                     int*) {
  v1::PredictRequest request;
  if (!args.file.empty()) RETURN_IF_ERROR(ReadMessage(args.file, &request));
  RETURN_IF_ERROR(FillContext(args, request.mutable_context()));
  if (!args.placements.empty()) request.set_placement_id(args.placements[0]);
  for (const std::string& id : args.candidates) {
    request.add_candidates()->set_ad_id(id);
  }
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::PredictResponse response;
  RETURN_IF_ERROR(FromGrpc(RankingService::NewStub(Connect(options.server))
                               ->Predict(&context, request, &response),
                           options.server));
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
    return absl::OkStatus();
  }
  Table table({"ad", "pctr", "logit", "fingerprint"});
  for (const v1::Prediction& p : response.predictions()) {
    table.Add({p.ad_id(), absl::StrFormat("%.6f", p.pctr()),
               absl::StrFormat("%+.5f", p.logit()),
               absl::StrFormat("%016x", p.feature_fingerprint())});
  }
  absl::PrintF("%smodel %d\n", table.Print(), response.model_version());
  return absl::OkStatus();
}

absl::StatusOr<v1::ExplainRequest> MakeExplainRequest(const RequestArgs& args) {
  v1::ExplainRequest request;
  request.mutable_ad_ids()->Assign(args.explain.begin(), args.explain.end());
  ASSIGN_OR_RETURN(v1::RankRequest live, MakeRankRequest(args));
  if (live.context().ByteSizeLong() == 0) live.clear_context();
  if (args.decision.empty()) {
    *request.mutable_request() = std::move(live);
  } else if (live.ByteSizeLong() > 0) {
    return absl::InvalidArgumentError(
        "--decision names a request that was answered; it goes with --ad only");
  }
  request.set_decision_id(args.decision);
  return request;
}

void PrintReplay(const v1::ExplainResponse& response) {
  if (response.replay_identical()) {
    absl::PrintF("replayed: identical to the logged decision\n");
  } else {
    absl::PrintF("replayed: NOT the logged decision: %s\n",
                 response.replay_difference());
  }
}

absl::Status Explain(const RequestArgs& args, const ClientOptions& options,
                     int* exit_code) {
  ASSIGN_OR_RETURN(const v1::ExplainRequest request, MakeExplainRequest(args));
  const bool replay = !args.decision.empty();
  grpc::ClientContext context;
  ClientOptions patient = options;
  // The catalogue and the model of then may have to be loaded.
  if (replay) patient.timeout_ms += kReplayMs;
  SetDeadline(patient, &context);
  v1::ExplainResponse response;
  RETURN_IF_ERROR(FromGrpc(RankingService::NewStub(Connect(options.server))
                               ->Explain(&context, request, &response),
                           options.server));
  if (replay && !response.replay_identical()) *exit_code = kAnotherAnswer;
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
    return absl::OkStatus();
  }
  PrintResponse(response.response());
  if (replay) PrintReplay(response);
  for (const v1::AdExplanation& ad : response.ads()) PrintExplanation(ad);
  return absl::OkStatus();
}

}  // namespace

void AddRankCommands(const CommandLine& line) {
  const auto add = [&](const char* name, const char* about, auto run) {
    auto args = std::make_shared<RequestArgs>();
    CLI::App* verb = line.app->add_subcommand(name, about);
    AddContextOptions(verb, args.get());
    verb->add_option("--placement", args->placements,
                     "placement id or id:count; may repeat");
    verb->callback([line, args, run] {
      *line.result = run(*args, *line.options, line.exit_code);
    });
    return std::pair(verb, args);
  };
  const auto rank =
      add("rank", "rank ads for a request, as a frontend does", Rank);
  rank.first->add_flag("--test", rank.second->test,
                       "mark as test traffic: never trained on");
  add("predict", "pCTR of given ads; nothing is logged", Predict);
  const auto explain =
      add("explain",
          "rank without logging, or answer a past decision again, and say why",
          Explain);
  explain.first->add_option(
      "--decision", explain.second->decision,
      "id of a logged decision to answer again, from the catalogue, the model "
      "and the state of then; exit code 3: the answer is another one");
  explain.first->add_option("--ad", explain.second->explain,
                            "ad id to explain although it is not served; may "
                            "repeat");
}

}  // namespace adrank
