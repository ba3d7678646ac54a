#include "tools/row_reader.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

using ::google::protobuf::Struct;
using ::google::protobuf::Value;

// Lines of a plain or gzip file. A row of CSV may span several.
class LineReader {
 public:
  static absl::StatusOr<std::unique_ptr<LineReader>> Open(
      const std::string& path) {
    if (!files::Exists(path)) {
      return absl::NotFoundError(absl::StrCat("no file ", path));
    }
    gzFile file = gzopen(path.c_str(), "rb");
    if (file == nullptr) {
      return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
    }
    gzbuffer(file, 1 << 17);
    return std::unique_ptr<LineReader>(new LineReader(path, file));
  }
  ~LineReader() { gzclose(file_); }

  // Appends the next line, without its end, to *line.
  bool Append(std::string* line) {
    bool any = false;
    for (;;) {
      if (begin_ == end_ && !Fill()) return any;
      any = true;
      const char* at = buffer_ + begin_;
      const void* found = memchr(at, '\n', end_ - begin_);
      if (found == nullptr) {
        line->append(at, end_ - begin_);
        begin_ = end_;
        continue;
      }
      const size_t n = static_cast<const char*>(found) - at;
      line->append(at, n);
      begin_ += n + 1;
      if (!line->empty() && line->back() == '\r') line->pop_back();
      ++lines_;
      return true;
    }
  }
  // Lines ended so far.
  int64_t lines() const { return lines_; }
  const absl::Status& status() const { return status_; }

 private:
  LineReader(const std::string& path, gzFile file) : path_(path), file_(file) {}

  bool Fill() {
    const int n = gzread(file_, buffer_, sizeof(buffer_));
    if (n > 0) {
      begin_ = 0;
      end_ = static_cast<size_t>(n);
      return true;
    }
    int code = Z_OK;
    const char* message = gzerror(file_, &code);
    if (n < 0 || code == Z_BUF_ERROR) {
      status_ = absl::DataLossError(absl::StrCat(
          path_, ": after line ", lines_, ": ",
          code == Z_BUF_ERROR ? "gzip stream ends early" : message));
    }
    return false;
  }

  const std::string path_;
  gzFile file_;
  char buffer_[1 << 16];
  size_t begin_ = 0, end_ = 0;
  int64_t lines_ = 0;
  absl::Status status_;
};

// What the four formats share: line by line, each parsed into cells.
class LineRowReader : public RowReader {
 public:
  LineRowReader(std::unique_ptr<LineReader> lines, size_t wanted)
      : lines_(std::move(lines)), wanted_(wanted) {}

  bool Next(Row* row) override {
    do {
      text_.clear();
      row->line = lines_->lines() + 1;
      if (!lines_->Append(&text_)) return false;
    } while (text_.empty());
    row->cells.resize(wanted_);
    for (auto& cell : row->cells) cell.clear();
    row->status = Parse(row);
    row->raw = text_;
    return true;
  }
  absl::Status status() const override { return lines_->status(); }

 protected:
  // Parses text_ into row->cells; may read on (quoted newlines).
  virtual absl::Status Parse(Row* row) = 0;

  const std::unique_ptr<LineReader> lines_;
  const size_t wanted_;
  std::string text_;
};

// CSV and TSV: a fixed number of columns, some of them wanted.
class DelimitedReader : public LineRowReader {
 public:
  DelimitedReader(std::unique_ptr<LineReader> lines, bool quotes,
                  char separator, size_t wanted)
      : LineRowReader(std::move(lines), wanted),
        quotes_(quotes),
        separator_(separator) {}

  // Finds the wanted columns among `names`; any number of columns when empty
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

  // Splits the next row into `fields`, for the header too.
  absl::Status Split(std::vector<absl::string_view>* fields) {
    fields->clear();
    if (!quotes_) {
      for (absl::string_view f : absl::StrSplit(text_, separator_)) {
        fields->push_back(f);
      }
      return absl::OkStatus();
    }
    return SplitQuoted(fields);
  }
  bool ReadHeader(std::vector<std::string>* names) {
    text_.clear();
    if (!lines_->Append(&text_)) return false;
    if (absl::string_view(text_).substr(0, 3) == "\xef\xbb\xbf") {
      text_.erase(0, 3);  // byte order mark
    }
    std::vector<absl::string_view> fields;
    if (!Split(&fields).ok()) return false;
    names->clear();
    for (absl::string_view field : fields) names->emplace_back(field);
    return true;
  }

 private:
  // A field as offsets, because text_ grows when a quote spans lines.
  struct Span {
    size_t begin, end;
    bool unescape;
  };

  absl::Status SplitQuoted(std::vector<absl::string_view>* fields) {
    spans_.clear();
    size_t at = 0;
    for (;;) {
      if (at < text_.size() && text_[at] == '"') {
        RETURN_IF_ERROR(Quoted(&at));
      } else {
        size_t end = text_.find(separator_, at);
        if (end == std::string::npos) end = text_.size();
        spans_.push_back({at, end, false});
        at = end;
      }
      if (at == text_.size()) break;
      ++at;  // the separator
    }
    unescaped_.clear();
    unescaped_.reserve(text_.size());  // views into it must stay valid
    for (const Span& s : spans_) fields->push_back(View(s));
    return absl::OkStatus();
  }

  absl::Status Quoted(size_t* at) {
    const size_t begin = *at + 1;
    size_t i = begin;
    bool unescape = false;
    for (;;) {
      i = text_.find('"', i);
      if (i == std::string::npos) {
        i = text_.size();
        text_ += '\n';
        if (!lines_->Append(&text_)) {
          return absl::InvalidArgumentError("quote is never closed");
        }
        ++i;
      } else if (i + 1 < text_.size() && text_[i + 1] == '"') {
        unescape = true;
        i += 2;
      } else {
        break;
      }
    }
    spans_.push_back({begin, i, unescape});
    *at = i + 1;
    if (*at < text_.size() && text_[*at] != separator_) {
      return absl::InvalidArgumentError(
          absl::StrCat("column ", spans_.size(), ": text after closing quote"));
    }
    return absl::OkStatus();
  }

  absl::string_view View(const Span& s) {
    absl::string_view raw(text_.data() + s.begin, s.end - s.begin);
    if (!s.unescape) return raw;
    const size_t start = unescaped_.size();
    for (size_t i = 0; i < raw.size(); ++i) {
      unescaped_ += raw[i];
      if (raw[i] == '"') ++i;
    }
    return absl::string_view(unescaped_).substr(start);
  }

  absl::Status Parse(Row* row) override {
    RETURN_IF_ERROR(Split(&fields_));
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

class JsonReader : public LineRowReader {
 public:
  JsonReader(std::unique_ptr<LineReader> lines,
             const std::vector<std::string>& wanted)
      : LineRowReader(std::move(lines), wanted.size()) {
    for (const std::string& path : wanted) {
      paths_.push_back(absl::StrSplit(path, '.'));
    }
  }

 private:
  absl::Status Parse(Row* row) override {
    object_.Clear();
    const auto status =
        google::protobuf::util::JsonStringToMessage(text_, &object_);
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("no JSON object: ", std::string(status.message())));
    }
    texts_.clear();
    for (size_t i = 0; i < paths_.size(); ++i) {
      if (const Value* value = Find(paths_[i])) Add(*value, i);
    }
    for (const auto& [cell, text] : texts_) {
      row->cells[cell].push_back(text);
    }
    return absl::OkStatus();
  }

  const Value* Find(const std::vector<std::string>& path) const {
    const Struct* object = &object_;
    for (size_t i = 0;; ++i) {
      const auto it = object->fields().find(path[i]);
      if (it == object->fields().end()) return nullptr;
      if (i + 1 == path.size()) return &it->second;
      if (!it->second.has_struct_value()) return nullptr;
      object = &it->second.struct_value();
    }
  }

  void Add(const Value& value, size_t cell) {
    switch (value.kind_case()) {
      case Value::kStringValue:
        texts_.emplace_back(cell, value.string_value());
        break;
      case Value::kNumberValue: {
        // Ids are integers: print them without an exponent.
        const double v = value.number_value();
        texts_.emplace_back(cell, std::trunc(v) == v && std::abs(v) < 9e15
                                      ? absl::StrCat(static_cast<int64_t>(v))
                                      : absl::StrCat(v));
        break;
      }
      case Value::kBoolValue:
        texts_.emplace_back(cell, value.bool_value() ? "1" : "0");
        break;
      case Value::kListValue:
        for (const Value& v : value.list_value().values()) Add(v, cell);
        break;
      default:  // null and objects are absent
        break;
    }
  }

  std::vector<std::vector<std::string>> paths_;
  Struct object_;
  std::vector<std::pair<size_t, std::string>> texts_;
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
    for (absl::string_view token :
         absl::StrSplit(text_, absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
      if (first) {
        Put("label", token, row);
        first = false;
        continue;
      }
      if (token[0] == '#') break;
      const std::pair<absl::string_view, absl::string_view> pair =
          absl::StrSplit(token, absl::MaxSplits(':', 1));
      double value = 0;
      if (pair.first.empty() || !absl::SimpleAtod(pair.second, &value)) {
        return absl::InvalidArgumentError(
            absl::StrCat("\"", token, "\" is not index:value"));
      }
      Put(pair.first, pair.second, row);
      if (value != 0) Put("indices", pair.first, row);
    }
    return absl::OkStatus();
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
    if (!reader->ReadHeader(&header)) {
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
      return std::unique_ptr<RowReader>(
          new JsonReader(std::move(lines), wanted));
    case v1::ImportMapping::LIBSVM:
      return std::unique_ptr<RowReader>(
          new LibsvmReader(std::move(lines), wanted));
    default:
      return absl::InvalidArgumentError("format: not set");
  }
}

}  // namespace adrank
