#include "tools/row_reader.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "tools/line_reader.h"
#include "tools/line_row_reader.h"

namespace adrank {
namespace {

// CSV and TSV: a fixed number of columns, some of them wanted.
class DelimitedReader : public LineRowReader {
 public:
  DelimitedReader(std::unique_ptr<LineReader> lines, bool quotes,
                  char separator, size_t wanted)
      : LineRowReader(std::move(lines), wanted),
        quotes_(quotes),
        separator_(separator) {}

  // Finds the wanted columns among `names`; any number of columns when no
  // names were given ("1", "2"...).
  absl::Status Bind(const std::vector<std::string>& names,
                    const std::vector<std::string>& wanted,
                    const std::string& path) {
    columns_ = names.size();
    absl::flat_hash_map<std::string, size_t> index;
    for (size_t i = 0; i < names.size(); ++i) {
      if (!index.emplace(names[i], i).second) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": column \"", names[i], "\" occurs twice"));
      }
    }
    for (const std::string& name : wanted) {
      const auto it = index.find(name);
      uint32_t number = 0;
      if (it != index.end()) {
        source_.push_back(it->second);
      } else if (names.empty() && absl::SimpleAtoi(name, &number) &&
                 number > 0) {
        source_.push_back(number - 1);
      } else {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": no column \"", name, "\"; there are: ",
            names.empty() ? "1, 2, 3..." : absl::StrJoin(names, ", ")));
      }
    }
    return absl::OkStatus();
  }

  // False when there is no line at all.
  absl::StatusOr<bool> ReadHeader(std::vector<std::string>* names) {
    if (!lines_->Next()) return false;
    RETURN_IF_ERROR(Split());
    names->clear();
    for (absl::string_view field : fields_) names->emplace_back(field);
    return true;
  }

 private:
  // A field as offsets, because the text moves when a quote spans lines.
  struct Span {
    size_t begin, end;
    bool unescape;
  };

  // The text into fields_.
  absl::Status Split() {
    fields_.clear();
    const absl::string_view text = lines_->text();
    if (quotes_ && memchr(text.data(), '"', text.size()) != nullptr) {
      return SplitQuoted();
    }
    const char* at = text.data();
    const char* const end = at + text.size();
    for (;;) {
      const void* found = memchr(at, separator_, end - at);
      const char* stop = found ? static_cast<const char*>(found) : end;
      fields_.emplace_back(at, stop - at);
      if (stop == end) return absl::OkStatus();
      at = stop + 1;
    }
  }

  absl::Status SplitQuoted() {
    spans_.clear();
    size_t at = 0;
    for (;;) {
      const absl::string_view text = lines_->text();
      if (at < text.size() && text[at] == '"') {
        RETURN_IF_ERROR(Quoted(&at));
      } else {
        size_t end = text.find(separator_, at);
        if (end == absl::string_view::npos) end = text.size();
        spans_.push_back({at, end, false});
        at = end;
      }
      if (at == lines_->text().size()) break;
      ++at;  // the separator
    }
    const absl::string_view text = lines_->text();
    unescaped_.clear();
    unescaped_.reserve(text.size());  // views into it must stay valid
    for (const Span& s : spans_) {
      const absl::string_view raw = text.substr(s.begin, s.end - s.begin);
      fields_.push_back(s.unescape ? Unescape(raw) : raw);
    }
    return absl::OkStatus();
  }

  // The quoted field at *at, which moves behind the closing quote.
  absl::Status Quoted(size_t* at) {
    const size_t begin = *at + 1;
    size_t i = begin;
    bool unescape = false;
    for (;;) {
      const absl::string_view text = lines_->text();
      i = text.find('"', i);
      if (i == absl::string_view::npos) {
        i = text.size();
        if (!lines_->Extend()) {
          return absl::InvalidArgumentError("quote is never closed");
        }
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        unescape = true;
        i += 2;
      } else {
        break;
      }
    }
    spans_.push_back({begin, i, unescape});
    *at = i + 1;
    const absl::string_view text = lines_->text();
    if (*at < text.size() && text[*at] != separator_) {
      return absl::InvalidArgumentError(
          absl::StrCat("column ", spans_.size(), ": text after closing quote"));
    }
    return absl::OkStatus();
  }

  absl::string_view Unescape(absl::string_view raw) {
    const size_t start = unescaped_.size();
    for (size_t i = 0; i < raw.size(); ++i) {
      unescaped_ += raw[i];
      if (raw[i] == '"') ++i;
    }
    return absl::string_view(unescaped_).substr(start);
  }

  absl::Status Parse(Row* row) override {
    RETURN_IF_ERROR(Split());
    if (columns_ == 0) columns_ = fields_.size();
    if (fields_.size() != columns_) {
      return absl::InvalidArgumentError(
          absl::StrCat(fields_.size(), " columns, expected ", columns_));
    }
    for (size_t i = 0; i < source_.size(); ++i) {
      if (source_[i] >= fields_.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("no column ", source_[i] + 1, " in ", fields_.size()));
      }
      row->cells[i].push_back(fields_[source_[i]]);
    }
    return absl::OkStatus();
  }

  const bool quotes_;
  const char separator_;
  size_t columns_ = 0;
  std::vector<size_t> source_;  // wanted column -> column of the file
  std::vector<absl::string_view> fields_;
  std::vector<Span> spans_;
  std::string unescaped_;
};

class LibsvmReader : public LineRowReader {
 public:
  LibsvmReader(std::unique_ptr<LineReader> lines,
               const std::vector<std::string>& wanted)
      : LineRowReader(std::move(lines), wanted.size()) {
    for (size_t i = 0; i < wanted.size(); ++i) cells_.emplace(wanted[i], i);
  }

 private:
  absl::Status Parse(Row* row) override {
    bool first = true;
    for (absl::string_view token : absl::StrSplit(
             lines_->text(), absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
      if (token[0] == '#') break;
      if (first) {
        Put("label", token, row);
        first = false;
        continue;
      }
      const std::pair<absl::string_view, absl::string_view> pair =
          absl::StrSplit(token, absl::MaxSplits(':', 1));
      double value = 0;
      if (pair.first.empty() || !absl::SimpleAtod(pair.second, &value) ||
          !std::isfinite(value)) {
        return absl::InvalidArgumentError(
            absl::StrCat("\"", token.substr(0, 60), "\" is not index:value"));
      }
      Put(pair.first, pair.second, row);
      // "qid:7" is no feature.
      if (value != 0 && absl::ascii_isdigit(pair.first[0])) {
        Put("indices", pair.first, row);
      }
    }
    return first ? absl::InvalidArgumentError("no label") : absl::OkStatus();
  }

  void Put(absl::string_view column, absl::string_view text, Row* row) {
    const auto it = cells_.find(column);
    if (it != cells_.end()) row->cells[it->second].push_back(text);
  }

  absl::flat_hash_map<std::string, size_t> cells_;
};

absl::StatusOr<std::unique_ptr<RowReader>> OpenDelimited(
    const std::string& path, const v1::ImportMapping& mapping,
    const std::vector<std::string>& wanted, std::unique_ptr<LineReader> lines) {
  const bool csv = mapping.format() == v1::ImportMapping::CSV;
  auto reader = std::make_unique<DelimitedReader>(
      std::move(lines), csv, csv ? ',' : '\t', wanted.size());
  std::vector<std::string> names(mapping.columns().begin(),
                                 mapping.columns().end());
  if (mapping.header()) {
    std::vector<std::string> header;
    const absl::StatusOr<bool> found = reader->ReadHeader(&header);
    if (!found.ok()) return Annotate(found.status(), path + ":1: header");
    if (!*found) {
      RETURN_IF_ERROR(reader->status());
      return absl::InvalidArgumentError(absl::StrCat(path, ": no header line"));
    }
    if (names.empty()) names = std::move(header);
  }
  RETURN_IF_ERROR(reader->Bind(names, wanted, path));
  return std::unique_ptr<RowReader>(std::move(reader));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RowReader>> RowReader::Open(
    const std::string& path, const v1::ImportMapping& mapping,
    const std::vector<std::string>& wanted) {
  ASSIGN_OR_RETURN(std::unique_ptr<LineReader> lines, LineReader::Open(path));
  switch (mapping.format()) {
    case v1::ImportMapping::CSV:
    case v1::ImportMapping::TSV:
      return OpenDelimited(path, mapping, wanted, std::move(lines));
    case v1::ImportMapping::JSON_LINES:
      return NewJsonRowReader(std::move(lines), wanted);
    case v1::ImportMapping::LIBSVM:
      return std::unique_ptr<RowReader>(
          new LibsvmReader(std::move(lines), wanted));
    default:
      return absl::InvalidArgumentError("format: not set");
  }
}

}  // namespace adrank
