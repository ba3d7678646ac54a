#include "trainer/step_progress.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/log.h"

namespace adrank {
namespace {

constexpr absl::Duration kTerminalInterval = absl::Milliseconds(200);
constexpr absl::Duration kLogInterval = absl::Seconds(10);

void WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return;  // not worth failing for
    text.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

std::string WithCommas(uint64_t n) {
  const std::string digits = absl::StrCat(n);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

StepProgress::StepProgress(const Clock* clock)
    : StepProgress(clock, isatty(STDERR_FILENO) == 1, STDERR_FILENO) {}

StepProgress::StepProgress(const Clock* clock, bool terminal, int fd)
    : clock_(clock), terminal_(terminal), fd_(fd) {}

StepProgress::~StepProgress() {
  absl::MutexLock lock(&mu_);
  ClearLine();
}

void StepProgress::ClearLine() {
  if (line_open_) WriteAll(fd_, "\r\033[K");
  line_open_ = false;
}

std::string StepProgress::Line(double share_done, uint64_t rows,
                               absl::string_view note) {
  const double seconds =
      std::max(1e-3, absl::ToDoubleSeconds(clock_->Now() - begin_));
  std::string line = absl::StrCat(step_, ": ", WithCommas(rows), " rows");
  if (share_done > 0 && share_done < 1) {
    absl::StrAppendFormat(&line, " (%.0f %%)", 100 * share_done);
  }
  absl::StrAppend(
      &line, ", ",
      WithCommas(static_cast<uint64_t>(static_cast<double>(rows) / seconds)),
      " rows/s");
  if (share_done > 0 && share_done < 1) {
    absl::StrAppendFormat(&line, ", ETA %.0f s",
                          seconds * (1 - share_done) / share_done);
  }
  if (!note.empty()) absl::StrAppend(&line, ", ", note);
  return line;
}

void StepProgress::Begin(absl::string_view step) {
  absl::MutexLock lock(&mu_);
  step_ = std::string(step);
  begin_ = shown_ = clock_->Now();
}

void StepProgress::Update(double share_done, uint64_t rows,
                          absl::string_view note) {
  absl::MutexLock lock(&mu_);
  const absl::Time now = clock_->Now();
  if (now - shown_ < (terminal_ ? kTerminalInterval : kLogInterval)) return;
  shown_ = now;
  const std::string line = Line(share_done, rows, note);
  if (!terminal_) {
    LOG(INFO) << line;
    return;
  }
  WriteAll(fd_, absl::StrCat("\r\033[K", line));
  line_open_ = true;
}

double StepProgress::End(uint64_t rows, absl::string_view note) {
  absl::MutexLock lock(&mu_);
  ClearLine();
  const double seconds = absl::ToDoubleSeconds(clock_->Now() - begin_);
  LOG(INFO) << Line(1, rows, note) << absl::StrFormat(", %.1f s", seconds);
  return seconds;
}

}  // namespace adrank
