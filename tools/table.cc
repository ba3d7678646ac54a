#include "tools/table.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adrank {
namespace {

// Code points: bytes that do not continue one.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

bool IsNumber(const std::string& text) {
  double ignored;
  return absl::SimpleAtod(text, &ignored);
}

}  // namespace

std::string Table::Print() const {
  std::vector<size_t> widths(header_.size());
  std::vector<bool> right(header_.size(), !rows_.empty());
  for (size_t c = 0; c < header_.size(); ++c) {
    widths[c] = Width(header_[c]);
    for (const auto& row : rows_) {
      widths[c] = std::max(widths[c], Width(row[c]));
      if (!row[c].empty() && !IsNumber(row[c])) right[c] = false;
    }
  }
  std::string out;
  const auto print = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string pad(widths[c] - Width(row[c]), ' ');
      absl::StrAppend(&line, c == 0 ? "" : "  ", right[c] ? pad : "", row[c],
                      right[c] ? "" : pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  };
  print(header_);
  for (const auto& row : rows_) print(row);
  return out;
}

std::string FormatMicros(int64_t micros) {
  const uint64_t magnitude =
      micros < 0 ? 0 - static_cast<uint64_t>(micros) : micros;
  std::string text = absl::StrFormat("%s%d.%06d", micros < 0 ? "-" : "",
                                     magnitude / 1000000, magnitude % 1000000);
  for (int i = 0; i < 4 && text.back() == '0'; ++i) text.pop_back();
  return text;
}

}  // namespace adrank
