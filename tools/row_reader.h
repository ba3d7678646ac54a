// Rows of a foreign log: CSV, TSV, JSON lines or libsvm, plain or gzip.
#ifndef ADRANK_TOOLS_ROW_READER_H_
#define ADRANK_TOOLS_ROW_READER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/import_mapping.pb.h"

namespace adrank {

// One row: a line, or several in CSV with quoted newlines. Empty lines are no
// rows. cells[i] holds the texts of wanted column i: none when the column is
// absent from a JSON object or libsvm line, one in most cases, several for a
// JSON array or a repeated index. Views live until the next row is read.
struct Row {
  std::vector<std::vector<absl::string_view>> cells;
  // The row as it stands in the file, for content hashes.
  absl::string_view raw;
  // 1-based line on which the row starts.
  int64_t line = 0;
  // Not OK: the row is bad (wrong number of columns, open quote, no JSON,
  // longer than 1 MiB...); cells are then meaningless, and reading goes on with
  // the line after `line`.
  absl::Status status;
};

// Reads one file front to back. Not thread-safe.
class RowReader {
 public:
  // `wanted` are the column names whose cells are asked for. InvalidArgument
  // when the header or mapping.columns lacks one of them; NotFound without the
  // file. CSV follows RFC 4180 (quotes, quoted newlines); TSV has no quotes. A
  // byte order mark is skipped, and lines may end in "\r\n".
  // Columns of JSON are dotted paths (an array gives the texts of its elements;
  // true and false are "1" and "0", null is absent, numbers stay as they are
  // written); those of libsvm "label", an index, or "indices" (every index
  // whose value is not 0, as a multi-valued text).
  static absl::StatusOr<std::unique_ptr<RowReader>> Open(
      const std::string& path, const v1::ImportMapping& mapping,
      const std::vector<std::string>& wanted);
  virtual ~RowReader() = default;

  // False at the end of the file or on a read error (see status()).
  virtual bool Next(Row* row) = 0;
  // Bytes of the file, as it lies on the disk, that were read so far; some more
  // than the rows handed out.
  virtual int64_t offset() const = 0;
  // Not OK when the file could not be read to its end (a torn gzip, say).
  virtual absl::Status status() const = 0;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_ROW_READER_H_
