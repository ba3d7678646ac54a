#include "tools/client.h"

#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <chrono>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/textproto.h"
#include "base/textproto_lines.h"
#include "features/text.h"

namespace adrank {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

absl::Status CheckLines(absl::string_view text, absl::string_view name) {
  if (IsValidUtf8(text)) return absl::OkStatus();
  int line = 0;
  for (const absl::string_view l : absl::StrSplit(text, '\n')) {
    ++line;
    if (!IsValidUtf8(l)) break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, ":", line, ": not valid UTF-8"));
}

// Path of a text that is not UTF-8, as an escape can make it; empty: none.
std::string FindBadText(const Message& message) {
  const auto* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  std::string scratch;
  for (const FieldDescriptor* f : fields) {
    if (f->type() != FieldDescriptor::TYPE_STRING &&
        f->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      continue;
    }
    const bool list = f->is_repeated();
    for (int i = 0; i < (list ? reflection->FieldSize(message, f) : 1); ++i) {
      const std::string at =
          list ? absl::StrCat(f->name(), "[", i, "]") : std::string(f->name());
      if (f->message_type() != nullptr) {
        const std::string found =
            FindBadText(list ? reflection->GetRepeatedMessage(message, f, i)
                             : reflection->GetMessage(message, f));
        if (!found.empty()) return absl::StrCat(at, ".", found);
      } else if (!IsValidUtf8(list ? reflection->GetRepeatedStringReference(
                                         message, f, i, &scratch)
                                   : reflection->GetStringReference(
                                         message, f, &scratch))) {
        return at;
      }
    }
  }
  return "";
}

absl::Status CheckStrings(absl::string_view text, absl::string_view name,
                          const Message& message) {
  const std::string bad = FindBadText(message);
  if (bad.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ":", TextProtoLines(text, message).Of(bad), ": ", bad,
                   ": not valid UTF-8"));
}

}  // namespace

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  // The server bounds its answers; a result for each entity of a catalogue may
  // exceed gRPC's 4 MiB.
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

void SetDeadline(const ClientOptions& options, grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::milliseconds(options.timeout_ms));
}

absl::Status FromGrpc(const grpc::Status& status, const std::string& address) {
  if (status.ok()) return absl::OkStatus();
  // A port that has no such service, or has it for reading only.
  const bool wrong_port =
      status.error_code() == grpc::StatusCode::UNIMPLEMENTED ||
      status.error_code() == grpc::StatusCode::PERMISSION_DENIED;
  const absl::string_view hint =
      wrong_port
          ? "; the call needs the server's other port: --server names the "
            "ranking port, --admin the admin port"
      : absl::StrContains(status.error_message(), "failed to connect")
          ? "; --server and --admin say where adrank-server listens"
          : "";
  // The two libraries number the codes alike.
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(address, ": ",
                                   status.error_message().empty() && wrong_port
                                       ? "not served here"
                                       : status.error_message(),
                                   hint));
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::StrCat("{}  # ", status.ToString(), "\n");
  return json;
}

absl::string_view InputName(const std::string& path) {
  return path == "-" ? absl::string_view("standard input") : path;
}

absl::StatusOr<std::string> ReadInput(const std::string& path) {
  absl::StatusOr<std::string> read =
      files::Read(path == "-" ? "/dev/stdin" : path);
  // Whatever cannot be read is bad usage.
  if (!read.ok()) return absl::InvalidArgumentError(read.status().message());
  return read;
}

bool IsJson(absl::string_view text) {
  return absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{");
}

absl::Status ParseMessage(const std::string& text, absl::string_view name,
                          google::protobuf::Message* message) {
  RETURN_IF_ERROR(CheckLines(text, name));
  if (!IsJson(text)) {
    RETURN_IF_ERROR(ParseTextProto(text, name, message));
    // Else all of it is text that was looked at.
    return absl::StrContains(text, '\\') ? CheckStrings(text, name, *message)
                                         : absl::OkStatus();
  }
  const auto status =
      google::protobuf::util::JsonStringToMessage(text, message);
  if (status.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", std::string(status.message())));
}

absl::Status ReadMessage(const std::string& path,
                         google::protobuf::Message* message) {
  ASSIGN_OR_RETURN(const std::string text, ReadInput(path));
  return ParseMessage(text, InputName(path), message);
}

}  // namespace adrank
