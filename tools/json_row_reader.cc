#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tools/line_row_reader.h"

namespace adrank {
namespace {

// Collects the texts of the wanted paths while RapidJSON reads an object.
// Numbers come as they are written: an id of 64 bits is no double.
class PathCollector
    : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, PathCollector> {
 public:
  explicit PathCollector(const std::vector<std::string>& wanted) {
    for (size_t i = 0; i < wanted.size(); ++i) cells_.emplace(wanted[i], i);
  }
  void Clear() {
    texts_.clear();
    found_.clear();
    path_.clear();
    prefixes_.clear();
    cell_ = nullptr;
    depth_ = 0;
  }
  // Views into this object; it must not change while they are used.
  void Put(Row* row) const {
    const absl::string_view texts = texts_;
    for (const Found& f : found_) {
      row->cells[f.cell].push_back(texts.substr(f.begin, f.size));
    }
  }

  // The events of rapidjson::Reader; false stops it.
  bool Null() { return depth_ > 0; }
  bool Bool(bool value) { return Text(value ? "1" : "0", 1); }
  bool RawNumber(const char* text, rapidjson::SizeType size, bool) {
    return Text(text, size);
  }
  bool String(const char* text, rapidjson::SizeType size, bool) {
    return Text(text, size);
  }
  bool StartObject() {
    ++depth_;
    prefixes_.push_back({path_.size(), cell_});
    cell_ = nullptr;
    return true;
  }
  bool Key(const char* text, rapidjson::SizeType size, bool) {
    path_.resize(prefixes_.back().path_size);
    if (!path_.empty()) path_ += '.';
    path_.append(text, size);
    const auto it = cells_.find(path_);
    cell_ = it == cells_.end() ? nullptr : &it->second;
    return true;
  }
  bool EndObject(rapidjson::SizeType) {
    --depth_;
    path_.resize(prefixes_.back().path_size);
    cell_ = prefixes_.back().cell;
    prefixes_.pop_back();
    return true;
  }
  // The elements of an array are texts of the array's own path.
  bool StartArray() { return depth_ > 0; }
  bool EndArray(rapidjson::SizeType) { return true; }

 private:
  struct Found {
    size_t cell, begin, size;
  };
  // Of the object around the one that is being read.
  struct Prefix {
    size_t path_size;
    const size_t* cell;
  };

  bool Text(const char* text, size_t size) {
    if (cell_ != nullptr) {
      found_.push_back({*cell_, texts_.size(), size});
      texts_.append(text, size);
    }
    return depth_ > 0;
  }

  absl::flat_hash_map<std::string, size_t> cells_;
  std::string texts_;
  std::vector<Found> found_;
  std::string path_;
  std::vector<Prefix> prefixes_;
  const size_t* cell_ = nullptr;  // of path_
  int depth_ = 0;
};

class JsonRowReader : public LineRowReader {
 public:
  JsonRowReader(std::unique_ptr<LineReader> lines,
                const std::vector<std::string>& wanted)
      : LineRowReader(std::move(lines), wanted.size()), collector_(wanted) {}

 private:
  absl::Status Parse(Row* row) override {
    // Iterative: no line can overflow the stack.
    constexpr unsigned kFlags = rapidjson::kParseIterativeFlag |
                                rapidjson::kParseNumbersAsStringsFlag |
                                rapidjson::kParseValidateEncodingFlag;
    const absl::string_view text = lines_->text();
    collector_.Clear();
    rapidjson::MemoryStream stream(text.data(), text.size());
    const rapidjson::ParseResult result =
        reader_.Parse<kFlags>(stream, collector_);
    if (result.IsError()) {
      const char* reason = result.Code() == rapidjson::kParseErrorTermination
                               ? "Not an object."
                               : rapidjson::GetParseError_En(result.Code());
      return absl::InvalidArgumentError(absl::StrCat(
          "no JSON object: ", reason, " At byte ", result.Offset() + 1, "."));
    }
    if (stream.Tell() != text.size()) {
      return absl::InvalidArgumentError("no JSON object: a zero byte");
    }
    collector_.Put(row);
    return absl::OkStatus();
  }

  rapidjson::Reader reader_;
  PathCollector collector_;
};

}  // namespace

std::unique_ptr<RowReader> NewJsonRowReader(
    std::unique_ptr<LineReader> lines, const std::vector<std::string>& wanted) {
  return std::make_unique<JsonRowReader>(std::move(lines), wanted);
}

}  // namespace adrank
