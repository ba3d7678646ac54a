// adrank-server as one object: everything that runs in the process.
#ifndef ADRANK_SERVER_SERVER_H_
#define ADRANK_SERVER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/server_config.pb.h"

namespace adrank {

// InvalidArgument, naming the field, when a value is out of its range or a
// required one is missing. Touches no file.
absl::Status ValidateConfig(const v1::ServerConfig& config);

// Thread-safe.
class Server {
 public:
  struct Ports {
    int grpc = 0;
    int http = 0;
    int admin = 0;
  };

  // Opens the stores, loads catalogue and model (a server without a model
  // answers with the prior), then listens. What is wrong is in the status.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const v1::ServerConfig& config, const Clock* clock);

  virtual ~Server() = default;

  virtual Ports ports() const = 0;

  // Takes no new calls, lets those under way finish within `grace`, and makes
  // everything acknowledged or served durable. Idempotent; also done by the
  // destructor, with a grace of 5 s.
  virtual absl::Status Shutdown(absl::Duration grace) = 0;

  // Steps of the background loops, for tests.
  virtual absl::Status CheckForModel() = 0;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_SERVER_H_
