#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "proto/ranking_service.grpc.pb.h"
#include "storage/recall.h"
#include "tools/commands/commands.h"
#include "tools/recall.h"

namespace adrank {
namespace {

struct RecallArgs {
  std::string data_dir;
  std::vector<uint32_t> limits = {100, 500};
  uint32_t sample = 1000;
  uint64_t seed = 1;
  double hours = 24;
};

absl::StatusOr<v1::RecallReport> Measure(const RecallArgs& args,
                                         const ClientOptions& options) {
  ASSIGN_OR_RETURN(const auto log, EventLogReader::Open(args.data_dir));
  ASSIGN_OR_RETURN(const auto range, log->TimeRange());
  const auto window_ms = static_cast<int64_t>(args.hours * 3600 * 1000);
  const int64_t end_ms = range.second + 1;
  ASSIGN_OR_RETURN(const std::vector<v1::Decision> decisions,
                   SampleDecisions(log.get(), end_ms - window_ms, end_ms,
                                   args.sample, args.seed));
  const auto stub = v1::RankingService::NewStub(Connect(options.server));
  const auto ask =
      [&](const v1::RankRequest& request) -> absl::StatusOr<v1::RankResponse> {
    v1::ExplainRequest explain;
    *explain.mutable_request() = request;
    grpc::ClientContext context;
    SetDeadline(options, &context);
    v1::ExplainResponse response;
    RETURN_IF_ERROR(
        FromGrpc(stub->Explain(&context, explain, &response), options.server));
    return std::move(*response.mutable_response());
  };
  return MeasureRecall(decisions, args.limits, ask);
}

absl::Status Recall(const RecallArgs& args, const ClientOptions& options) {
  ASSIGN_OR_RETURN(const v1::RecallReport report, Measure(args, options));
  absl::PrintF("%s", options.json ? ToJson(report) : RecallText(report));
  return absl::OkStatus();
}

}  // namespace

void AddRecallCommand(const CommandLine& line) {
  auto args = std::make_shared<RecallArgs>();
  CLI::App* verb = line.app->add_subcommand(
      "recall",
      "of logged decisions, asked again of the running server: how often the "
      "ad that wins among all candidates is among the first --candidates; "
      "nothing is logged");
  verb->add_option("--data-dir", args->data_dir,
                   "storage.data_dir of the server")
      ->required();
  verb->add_option("--candidates", args->limits,
                   "limits to compare; each at most the server's "
                   "limits.max_candidates, which stands for all")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  verb->add_option("--sample", args->sample, "decisions to ask again")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  verb->add_option("--hours", args->hours,
                   "of the log, back from its last decision")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  verb->add_option("--seed", args->seed, "of the sample")
      ->capture_default_str();
  verb->callback([line, args] { *line.result = Recall(*args, *line.options); });
}

}  // namespace adrank
