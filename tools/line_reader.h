// Lines of a plain or gzip file, some of which belong together.
#ifndef ADRANK_TOOLS_LINE_READER_H_
#define ADRANK_TOOLS_LINE_READER_H_

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adrank {

// Hands out a file as texts of one or more whole lines. Lines end in "\n" or
// "\r\n", the last one also at the end of the file; a byte order mark before
// the first is skipped. Not thread-safe.
class LineReader {
 public:
  // A longer line is cut off there and its rest is skipped, and a text grows no
  // further by more lines: no file can make a reader fill the memory.
  static constexpr size_t kMaxBytes = 1 << 20;

  // NotFound or another error that names the path.
  static absl::StatusOr<std::unique_ptr<LineReader>> Open(
      const std::string& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // The text becomes the next line after it. False at the end of the file or on
  // a read error (see status()).
  bool Next();
  // The text grows by the next line; false, and no change, when there is none
  // or the text would be longer than kMaxBytes.
  bool Extend();
  // The text becomes its own first line again; the lines after it are read
  // again.
  void Rewind();

  // Without the last line's end. The view lives until the next call that
  // changes the text.
  absl::string_view text() const;
  // 1-based number of the text's first line.
  int64_t line() const { return line_; }
  // The text is the first kMaxBytes of a longer line.
  bool cut() const { return cut_; }
  // Bytes of the file, as it lies on the disk, that were read so far.
  int64_t offset() const { return gzoffset(file_); }
  // Not OK when the file could not be read to its end.
  const absl::Status& status() const { return status_; }

 private:
  LineReader(const std::string& path, gzFile file);
  // Finds the end of the line that begins at `at`, reading on as needed, and
  // moves *next past it (and its "\n"). False at the end of the file.
  bool FindLine(size_t at, size_t* next);
  // Reads more behind size_; false at the end of the file or on an error.
  bool Fill();
  void SkipRestOfLine();

  const std::string path_;
  gzFile const file_;
  // [0, size_) is what was read and not given up; the text is
  // [begin_, end_) with its line end.
  std::vector<char> buffer_;
  size_t size_ = 0;
  size_t begin_ = 0, end_ = 0;
  size_t first_end_ = 0;  // end of the text's first line
  int64_t line_ = 0;
  int64_t lines_in_text_ = 0;
  bool cut_ = false;
  absl::Status status_;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_LINE_READER_H_
