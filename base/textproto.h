// Text protos with errors a person can act on.
#ifndef ADRANK_BASE_TEXTPROTO_H_
#define ADRANK_BASE_TEXTPROTO_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace adrank {

// Parses `text` into *message. Unknown or misspelt fields, wrong types and
// duplicate singular fields are InvalidArgument, each as a line
// "name:line:column: reason" (1-based).
absl::Status ParseTextProto(absl::string_view text, absl::string_view name,
                            google::protobuf::Message* message);

// The same for a file. NotFound when there is none.
absl::Status ReadTextProtoInto(const std::string& path,
                               google::protobuf::Message* message);

template <typename M>
absl::StatusOr<M> ReadTextProto(const std::string& path) {
  M message;
  if (absl::Status s = ReadTextProtoInto(path, &message); !s.ok()) return s;
  return message;
}

// The same message always gives the same text.
std::string PrintTextProto(const google::protobuf::Message& message);

}  // namespace adrank

#endif  // ADRANK_BASE_TEXTPROTO_H_
