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
  // host:port of the ranking port and of the admin port. On the command line
  // --server alone names both: a verb of the admin port goes nowhere that the
  // user did not name.
  std::string server = "127.0.0.1:8500";
  std::string admin = "127.0.0.1:8502";
  // Print answers as JSON instead of tables.
  bool json = false;
  // Milliseconds to wait for an answer.
  int timeout_ms = 10000;
};

std::shared_ptr<grpc::Channel> Connect(const std::string& address);
void SetDeadline(const ClientOptions& options, grpc::ClientContext* context);

// The RPC's error as ours, with the address it was sent to, and which flag to
// use when that is the wrong port.
absl::Status FromGrpc(const grpc::Status& status, const std::string& address);

// Proto field names, every field of the answer's own that is set; one line feed
// at the end.
std::string ToJson(const google::protobuf::Message& message);

// A message from a file ("-" is standard input): JSON when its first character
// is "{", else text proto. Errors name the file and the place.
absl::Status ReadMessage(const std::string& path,
                         google::protobuf::Message* message);

// Its two halves: the bytes (InvalidArgument when there are none), and the
// message; `name` is for errors.
absl::StatusOr<std::string> ReadInput(const std::string& path);
bool IsJson(absl::string_view text);
absl::Status ParseMessage(const std::string& text, absl::string_view name,
                          google::protobuf::Message* message);
// `path`, or what "-" stands for.
absl::string_view InputName(const std::string& path);

}  // namespace adrank

#endif  // ADRANK_TOOLS_CLIENT_H_
