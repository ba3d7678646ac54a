#include "tools/line_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/files.h"

namespace adrank {
namespace {

// What is read at once: large against a system call and a line, small against
// the second-level cache.
constexpr size_t kChunk = 256 << 10;

}  // namespace

absl::StatusOr<std::unique_ptr<LineReader>> LineReader::Open(
    const std::string& path) {
  if (!files::Exists(path)) {
    return absl::NotFoundError(absl::StrCat("no file ", path));
  }
  errno = 0;
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) {
    return absl::ErrnoToStatus(errno == 0 ? ENOMEM : errno,
                               absl::StrCat("open ", path));
  }
  gzbuffer(file, 128 << 10);
  std::unique_ptr<LineReader> reader(new LineReader(path, file));
  // Here already, so that a directory or an unreadable file is an error of
  // opening.
  reader->Fill();
  if (!reader->status_.ok()) return reader->status_;
  if (reader->size_ >= 3 &&
      memcmp(reader->buffer_.data(), "\xef\xbb\xbf", 3) == 0) {
    reader->end_ = 3;
  }
  return reader;
}

LineReader::LineReader(const std::string& path, gzFile file)
    : path_(path), file_(file), buffer_(kChunk) {}

LineReader::~LineReader() { gzclose(file_); }

bool LineReader::Next() {
  if (cut_) SkipRestOfLine();
  line_ += lines_in_text_;
  if (line_ == 0) line_ = 1;
  lines_in_text_ = 0;
  cut_ = false;
  begin_ = end_;
  size_t next = 0;
  if (!FindLine(begin_, &next)) return false;
  end_ = first_end_ = next;
  lines_in_text_ = 1;
  return true;
}

bool LineReader::Extend() {
  if (cut_ || end_ - begin_ >= kMaxBytes) return false;
  size_t next = 0;
  if (!FindLine(end_, &next)) return false;
  if (next - begin_ > kMaxBytes) {
    cut_ = false;  // the line is left for the next text
    return false;
  }
  end_ = next;
  ++lines_in_text_;
  return true;
}

void LineReader::Rewind() {
  end_ = first_end_;
  lines_in_text_ = 1;
}

absl::string_view LineReader::text() const {
  absl::string_view text(buffer_.data() + begin_, end_ - begin_);
  if (cut_) return text;
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  return text;
}

bool LineReader::FindLine(size_t at, size_t* next) {
  size_t searched = at;
  for (;;) {
    // No further than kMaxBytes, however much the buffer happens to hold.
    const size_t limit = std::min(size_, at + kMaxBytes);
    const void* found =
        memchr(buffer_.data() + searched, '\n', limit - searched);
    if (found != nullptr) {
      *next = static_cast<const char*>(found) - buffer_.data() + 1;
      return true;
    }
    if (size_ - at >= kMaxBytes) {
      cut_ = true;
      *next = at + kMaxBytes;
      return true;
    }
    // Fill moves [begin_, size_), begin_ and end_ to the front.
    const size_t shift = begin_;
    searched = size_ - shift;
    const bool more = Fill();
    at -= shift;
    if (!more) {
      // What a torn file ends with is not a line.
      *next = size_;
      return size_ > at && status_.ok();
    }
  }
}

bool LineReader::Fill() {
  const size_t kept = size_ - begin_;
  if (begin_ > 0) {
    memmove(buffer_.data(), buffer_.data() + begin_, kept);
    first_end_ -= std::min(first_end_, begin_);
    end_ -= begin_;
    size_ = kept;
    begin_ = 0;
  }
  if (buffer_.size() - size_ < kChunk) buffer_.resize(2 * buffer_.size());
  const int n = gzread(file_, buffer_.data() + size_,
                       static_cast<unsigned>(buffer_.size() - size_));
  if (n > 0) {
    size_ += static_cast<size_t>(n);
    return true;
  }
  int code = Z_OK;
  const char* message = gzerror(file_, &code);
  if (n < 0 || code == Z_BUF_ERROR) {
    status_ = absl::DataLossError(
        absl::StrCat(path_, ": in or after line ", line_ + lines_in_text_, ": ",
                     code == Z_BUF_ERROR ? "the gzip stream ends early"
                     : code == Z_ERRNO   ? strerror(errno)
                                         : message));
  }
  return false;
}

void LineReader::SkipRestOfLine() {
  size_t next = 0;
  do {
    begin_ = end_;
    cut_ = false;
    if (!FindLine(begin_, &next)) return;
    end_ = next;
  } while (cut_);
}

}  // namespace adrank
