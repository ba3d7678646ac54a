// Tables for people.
#ifndef ADRANK_TOOLS_TABLE_H_
#define ADRANK_TOOLS_TABLE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace adrank {

// Rows under a header, columns padded to their widest cell (by code points);
// cells that look like numbers are right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header)
      : header_(std::move(header)) {}
  // REQUIRES: one cell per column.
  void Add(std::vector<std::string> cells) {
    rows_.push_back(std::move(cells));
  }
  // Lines, each ended by a newline.
  std::string Print() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

// Micros as units: 1234567 -> "1.234567", trailing zeros kept to cents.
std::string FormatMicros(int64_t micros);

}  // namespace adrank

#endif  // ADRANK_TOOLS_TABLE_H_
