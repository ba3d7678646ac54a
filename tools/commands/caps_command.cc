#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "proto/cap_service.grpc.pb.h"
#include "tools/commands/commands.h"
#include "tools/table.h"

namespace adrank {
namespace {

std::string When(int64_t ms) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMillis(ms),
                          absl::UTCTimeZone());
}

// "3 a day", "20 in 2 weeks".
std::string CapText(const v1::CapState& cap) {
  struct Unit {
    int64_t seconds;
    const char* name;
  };
  constexpr Unit kUnits[] = {
      {7 * 86400, "week"}, {86400, "day"}, {3600, "hour"}, {60, "minute"}};
  for (const Unit& unit : kUnits) {
    if (cap.window_seconds() % unit.seconds != 0) continue;
    const int64_t n = cap.window_seconds() / unit.seconds;
    return n == 1
               ? absl::StrCat(cap.impressions(),
                              unit.seconds == 3600 ? " an " : " a ", unit.name)
               : absl::StrCat(cap.impressions(), " in ", n, " ", unit.name,
                              "s");
  }
  return absl::StrCat(cap.impressions(), " in ", cap.window_seconds(), " s");
}

std::string TypeText(v1::EntityType type) {
  return type == v1::ENTITY_TYPE_UNSPECIFIED
             ? "(no cap now)"
             : absl::AsciiStrToLower(
                   v1::EntityType_Name(type).substr(12));  // "ENTITY_TYPE_"
}

void Print(const v1::UserCaps& user) {
  if (user.damaged()) {
    absl::PrintF(
        "the user's counters are damaged: no ad with a cap is shown to the "
        "user until \"adrankctl caps USER --forget\"\n");
    return;
  }
  Table table({"entity", "id", "impressions", "reserved", "expired",
               "last (UTC)", "cap", "counted", "free (UTC)"});
  for (const v1::EntityCaps& e : user.entities()) {
    const auto add = [&](const std::string& cap, const std::string& counted,
                         const std::string& free) {
      table.Add({TypeText(e.type()), e.id(), absl::StrCat(e.impressions()),
                 absl::StrCat(e.reserved()), absl::StrCat(e.expired()),
                 When(e.last_ms()), cap, counted, free});
    };
    for (const v1::CapState& cap : e.caps()) {
      add(CapText(cap), absl::StrCat(cap.counted()),
          cap.free_ms() == 0 ? "now" : When(cap.free_ms()));
    }
    if (e.caps().empty()) add("", "", "");
  }
  absl::PrintF("%s", table.Print());
}

absl::Status Show(const std::string& user_id, const ClientOptions& options) {
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::GetUserCapsRequest request;
  request.set_user_id(user_id);
  v1::UserCaps response;
  RETURN_IF_ERROR(FromGrpc(v1::CapService::NewStub(Connect(options.admin))
                               ->GetUser(&context, request, &response),
                           options.admin));
  if (options.json) {
    absl::PrintF("%s", ToJson(response));
  } else {
    Print(response);
  }
  return absl::OkStatus();
}

absl::Status Forget(const std::string& user_id, const ClientOptions& options) {
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::ForgetUserCapsRequest request;
  request.set_user_id(user_id);
  v1::ForgetUserCapsResponse response;
  return FromGrpc(v1::CapService::NewStub(Connect(options.admin))
                      ->ForgetUser(&context, request, &response),
                  options.admin);
}

}  // namespace

void AddCapsCommand(const CommandLine& line) {
  auto user = std::make_shared<std::string>();
  auto forget = std::make_shared<bool>(false);
  CLI::App* verb = line.app->add_subcommand(
      "caps", "what a user was shown of what has frequency caps (admin port)");
  verb->add_option("user", *user, "user_id of the requests")->required();
  verb->add_flag("--forget", *forget, "remove the user's counters instead");
  verb->callback([line, user, forget] {
    *line.result =
        *forget ? Forget(*user, *line.options) : Show(*user, *line.options);
  });
}

}  // namespace adrank
