#include "base/textproto_lines.h"

#include <google/protobuf/io/tokenizer.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

class NoErrors : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

// "keywords[3]" -> {"keywords", 3}; an index that is none is 0.
std::pair<absl::string_view, int> SplitIndex(absl::string_view name) {
  const size_t bracket = name.find('[');
  if (bracket == absl::string_view::npos) return {name, 0};
  absl::string_view digits = name.substr(bracket + 1);
  absl::ConsumeSuffix(&digits, "]");
  int index = 0;
  if (!absl::SimpleAtoi(digits, &index) || index < 0) index = 0;
  return {name.substr(0, bracket), index};
}

}  // namespace

TextProtoLines::TextProtoLines(absl::string_view text, const Message& type)
    : type_(type.GetDescriptor()) {
  absl::ConsumePrefix(&text, "\xef\xbb\xbf");
  NoErrors errors;
  TextFormat::Parser parser;
  parser.WriteLocationsTo(&tree_);
  parser.RecordErrorsTo(&errors);
  const std::unique_ptr<Message> again(type.New());
  parser.ParseFromString(std::string(text), again.get());
}

int TextProtoLines::Of(absl::string_view path) const {
  const TextFormat::ParseInfoTree* tree = &tree_;
  const Descriptor* type = type_;
  int line = 0;
  for (const absl::string_view part : absl::StrSplit(path, '.')) {
    if (tree == nullptr || type == nullptr) break;
    const auto [name, element] = SplitIndex(part);
    const FieldDescriptor* field = type->FindFieldByName(std::string(name));
    if (field == nullptr) break;
    const int index = field->is_repeated() ? element : -1;
    const int found = tree->GetLocation(field, index).line;
    if (found < 0) break;
    line = found + 1;
    type = field->message_type();
    tree = type == nullptr ? nullptr : tree->GetTreeForNested(field, index);
  }
  return line;
}

absl::string_view FieldOfError(absl::string_view error) {
  size_t end = 0;
  while (end < error.size() &&
         (absl::ascii_isalnum(error[end]) || error[end] == '_' ||
          error[end] == '.' || error[end] == '[' || error[end] == ']')) {
    ++end;
  }
  return error.substr(0, end);
}

absl::Status AtItsLine(const absl::Status& status, const std::string& path,
                       const Message& type) {
  if (status.ok()) return status;
  const absl::StatusOr<std::string> text = files::Read(path);
  if (!text.ok()) return Annotate(status, path);
  const absl::string_view message(status.message());
  const int line = TextProtoLines(*text, type).Of(FieldOfError(message));
  return Annotate(status, line == 0 ? path : absl::StrCat(path, ":", line));
}

}  // namespace adrank
