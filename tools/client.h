// What the commands of adrankctl share: the server's address, the way an answer
// is printed, and messages read from files.
#ifndef ADRANK_TOOLS_CLIENT_H_
#define ADRANK_TOOLS_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace grpc {
class Channel;
class ClientContext;
class Status;
}  // namespace grpc

namespace adrank {

struct ClientOptions {
  // host:port of the ranking port and of the admin port.
  std::string server = "127.0.0.1:8500";
  std::string admin = "127.0.0.1:8502";
  // Print answers as JSON instead of tables.
  bool json = false;
  // Milliseconds to wait for an answer.
  int timeout_ms = 10000;
};

std::shared_ptr<grpc::Channel> Connect(const std::string& address);
void SetDeadline(const ClientOptions& options, grpc::ClientContext* context);

// The RPC's error as ours, with the address it was sent to.
absl::Status FromGrpc(const grpc::Status& status, const std::string& address);

// Proto field names, every field of the answer's own that is set; one line feed
// at the end.
std::string ToJson(const google::protobuf::Message& message);

// A message from a file ("-" is standard input): JSON when its first character
// is "{", else text proto. Errors name the file and the place.
absl::Status ReadMessage(const std::string& path,
                         google::protobuf::Message* message);

}  // namespace adrank

#endif  // ADRANK_TOOLS_CLIENT_H_
