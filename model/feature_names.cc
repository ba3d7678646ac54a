#include "model/feature_names.h"

#include <cstddef>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace adrank {
namespace {

constexpr absl::string_view kHeader = "id\trows\tfeature";

// False for an escape that is none.
bool Unescape(absl::string_view in, std::string* out) {
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] != '\\') {
      out->push_back(in[i]);
      continue;
    }
    if (++i == in.size()) return false;
    switch (in[i]) {
      case 't':
        out->push_back('\t');
        break;
      case 'n':
        out->push_back('\n');
        break;
      case '\\':
        out->push_back('\\');
        break;
      default:
        return false;
    }
  }
  return true;
}

bool ParseHex(absl::string_view text, uint64_t* id) {
  if (text.size() != 16) return false;
  *id = 0;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && !(c >= 'a' && c <= 'f')) return false;
    *id = *id << 4 | static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return true;
}

}  // namespace

std::string SerializeFeatureNames(const std::vector<FeatureName>& names) {
  std::string out = absl::StrCat(kHeader, "\n");
  for (const FeatureName& name : names) {
    absl::StrAppendFormat(
        &out, "%016x\t%d\t%s\n", name.id, name.rows,
        absl::StrReplaceAll(name.text,
                            {{"\\", "\\\\"}, {"\t", "\\t"}, {"\n", "\\n"}}));
  }
  return out;
}

absl::StatusOr<std::vector<FeatureName>> ParseFeatureNames(
    absl::string_view bytes) {
  std::vector<absl::string_view> lines = absl::StrSplit(bytes, '\n');
  const auto damaged = [](size_t line) {
    return absl::DataLossError(
        absl::StrCat(kFeatureNamesFile, ":", line, ": damaged"));
  };
  if (lines.empty() || lines[0] != kHeader) return damaged(1);
  if (!lines.back().empty()) return damaged(lines.size());
  std::vector<FeatureName> names;
  for (size_t i = 1; i + 1 < lines.size(); ++i) {
    const std::vector<absl::string_view> cells = absl::StrSplit(lines[i], '\t');
    FeatureName name;
    if (cells.size() != 3 || !ParseHex(cells[0], &name.id) ||
        !absl::SimpleAtoi(cells[1], &name.rows) ||
        !Unescape(cells[2], &name.text)) {
      return damaged(i + 1);
    }
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace adrank
