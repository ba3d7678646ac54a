// What the readers of the text formats share. Internal to row_reader.
#ifndef ADRANK_TOOLS_LINE_ROW_READER_H_
#define ADRANK_TOOLS_LINE_ROW_READER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/line_reader.h"
#include "tools/row_reader.h"

namespace adrank {

// A row is a line, or several where the format says so; empty lines are none.
class LineRowReader : public RowReader {
 public:
  LineRowReader(std::unique_ptr<LineReader> lines, size_t wanted)
      : lines_(std::move(lines)), wanted_(wanted) {}

  bool Next(Row* row) override {
    do {
      if (!lines_->Next()) return false;
    } while (lines_->text().empty());
    row->line = lines_->line();
    row->cells.resize(wanted_);
    for (auto& cell : row->cells) cell.clear();
    row->status = lines_->cut()
                      ? absl::InvalidArgumentError(absl::StrCat(
                            "longer than ", LineReader::kMaxBytes, " bytes"))
                      : Parse(row);
    // A stray quote costs its own line, not all up to the next quote.
    if (!row->status.ok()) lines_->Rewind();
    row->raw = lines_->text();
    return true;
  }
  int64_t offset() const override { return lines_->offset(); }
  absl::Status status() const override { return lines_->status(); }

 protected:
  // Parses lines_->text() into row->cells; may extend it.
  virtual absl::Status Parse(Row* row) = 0;

  const std::unique_ptr<LineReader> lines_;
  const size_t wanted_;
};

std::unique_ptr<RowReader> NewJsonRowReader(
    std::unique_ptr<LineReader> lines, const std::vector<std::string>& wanted);

}  // namespace adrank

#endif  // ADRANK_TOOLS_LINE_ROW_READER_H_
