#include "base/textproto.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

// Collects "name:line:column: reason" lines.
class Errors : public google::protobuf::io::ErrorCollector {
 public:
  explicit Errors(absl::string_view name) : name_(name) {}
  void AddError(int line, int column, const std::string& message) override {
    lines_.push_back(
        absl::StrCat(name_, ":", line + 1, ":", column + 1, ": ", message));
  }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  const std::string name_;
  std::vector<std::string> lines_;
};

}  // namespace

absl::Status ParseTextProto(absl::string_view text, absl::string_view name,
                            google::protobuf::Message* message) {
  // Editors of Windows begin UTF-8 files with a byte order mark.
  absl::ConsumePrefix(&text, "\xef\xbb\xbf");
  Errors errors(name);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  // What the wire format's parser takes: a file is to be sent.
  parser.SetRecursionLimit(100);
  if (parser.ParseFromString(std::string(text), message)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrJoin(errors.lines(), "\n"));
}

absl::Status ReadTextProtoInto(const std::string& path,
                               google::protobuf::Message* message) {
  ASSIGN_OR_RETURN(const std::string text, files::Read(path));
  return ParseTextProto(text, path, message);
}

std::string PrintTextProto(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(message, &text);
  return text;
}

}  // namespace adrank
