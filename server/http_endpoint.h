// Metrics, health and status over HTTP.
#ifndef ADRANK_SERVER_HTTP_ENDPOINT_H_
#define ADRANK_SERVER_HTTP_ENDPOINT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace adrank {

// GET /metrics  Prometheus text
// GET /healthz  200 "ok" while the process lives
// GET /readyz   200 "ready" while requests are taken, else 503
// GET /status   JSON for people and scripts
class HttpEndpoint {
 public:
  struct Pages {
    std::function<std::string()> metrics;
    std::function<bool()> ready;
    std::function<std::string()> status;
  };

  // Binds and serves on threads of its own until destroyed. `port` -1 picks a
  // free one. FailedPrecondition when the address is taken.
  static absl::StatusOr<std::unique_ptr<HttpEndpoint>> Start(
      const std::string& address, int port, Pages pages);
  ~HttpEndpoint();

  int port() const;

 private:
  struct Impl;
  explicit HttpEndpoint(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_HTTP_ENDPOINT_H_
