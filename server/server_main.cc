// adrank-server --config FILE [--check_config]
#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/log.h"
#include "base/textproto.h"
#include "base/textproto_lines.h"
#include "proto/server_config.pb.h"
#include "server/server.h"

namespace {

constexpr char kUsage[] =
    "usage: adrank-server --config FILE [--check_config]\n"
    "  --config FILE    text proto adrank.v1.ServerConfig\n"
    "  --check_config   report what is wrong with the file and exit\n"
    "Serves until SIGTERM or SIGINT, then finishes what it has begun.\n"
    "Exit codes: 0 done, 1 failed, 2 bad usage or config.\n";

struct Arguments {
  std::string config;
  bool check_only = false;
  bool help = false;
};

// False: the arguments are wrong.
bool Parse(int argc, char** argv, Arguments* out) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view arg = argv[i];
    if (arg == "--config" && i + 1 < argc) {
      out->config = argv[++i];
    } else if (arg.substr(0, 9) == "--config=") {
      out->config = std::string(arg.substr(9));
    } else if (arg == "--check_config") {
      out->check_only = true;
    } else if (arg == "--help") {
      out->help = true;
    } else {
      return false;
    }
  }
  return out->help || !out->config.empty();
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, &arguments)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  if (arguments.help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  adrank::InitLogging(argv[0]);
  auto config =
      adrank::ReadTextProto<adrank::v1::ServerConfig>(arguments.config);
  absl::Status good = config.status();
  if (good.ok()) {
    good = adrank::AtItsLine(adrank::ValidateConfig(*config), arguments.config,
                             *config);
  }
  if (!good.ok()) {
    std::fprintf(stderr, "adrank-server: %s\n",
                 std::string(good.message()).c_str());
    return 2;
  }
  if (arguments.check_only) {
    std::printf("%s: OK\n", arguments.config.c_str());
    return 0;
  }

  // Before any thread starts, so that all inherit the mask and only sigwait
  // below sees the signals.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // A file that would grow past RLIMIT_FSIZE is a failed write, not the end.
  signal(SIGXFSZ, SIG_IGN);

  auto server = adrank::Server::Start(*config, adrank::Clock::Real());
  if (!server.ok()) {
    std::fprintf(stderr, "adrank-server: %s\n",
                 std::string(server.status().message()).c_str());
    return 1;
  }
  const adrank::Server::Ports ports = (*server)->ports();
  LOG(INFO) << "ready: grpc " << ports.grpc << ", http " << ports.http
            << ", admin " << ports.admin;
  int received = 0;
  sigwait(&signals, &received);
  LOG(INFO) << "stopping on " << (received == SIGTERM ? "SIGTERM" : "SIGINT");
  const absl::Status stopped = (*server)->Shutdown(absl::Seconds(5));
  if (!stopped.ok()) {
    LOG(ERROR) << "shutdown: " << stopped;
    return 1;
  }
  LOG(INFO) << "stopped; everything acknowledged is on disk";
  return 0;
}
