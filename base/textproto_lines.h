// Where the fields of a text proto stand, for errors found after it was parsed.
#ifndef ADRANK_BASE_TEXTPROTO_LINES_H_
#define ADRANK_BASE_TEXTPROTO_LINES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"

namespace adrank {

class TextProtoLines {
 public:
  // `text` is that of a message of `type`, parsed before without an error.
  TextProtoLines(absl::string_view text, const google::protobuf::Message& type);

  // 1-based line of a field: "budget.hard_share", "ads[3].keywords[1].text". Of
  // one that the text does not have, of the innermost around it that it has; an
  // element without an index is the first. 0: none of them is there.
  int Of(absl::string_view path) const;

 private:
  const google::protobuf::Descriptor* const type_;
  google::protobuf::TextFormat::ParseInfoTree tree_;
};

// The field that an error about a message begins with: "budget.hard_share: 2
// not in [0, 1]" -> "budget.hard_share".
absl::string_view FieldOfError(absl::string_view error);

// An error about a field of the message in the text proto file `path`, behind
// its place: "server.textproto:12: budget.hard_share: 2 not in [0, 1]"; behind
// the file's name alone when the file does not say the field. OK stays OK.
absl::Status AtItsLine(const absl::Status& status, const std::string& path,
                       const google::protobuf::Message& type);

}  // namespace adrank

#endif  // ADRANK_BASE_TEXTPROTO_LINES_H_
