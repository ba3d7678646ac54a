#include "tools/progress_line.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace adrank {

ProgressLine::ProgressLine(std::string unit)
    : unit_(std::move(unit)),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(absl::Now()),
      next_(start_ + absl::Milliseconds(terminal_ ? 200 : 5000)) {}

ProgressLine::~ProgressLine() {
  if (terminal_ && shown_) std::fputs("\n", stderr);
}

void ProgressLine::Show(uint64_t done, uint64_t total) {
  const absl::Time now = absl::Now();
  if (now < next_) return;
  next_ = now + absl::Milliseconds(terminal_ ? 200 : 5000);
  shown_ = true;
  const double seconds = absl::ToDoubleSeconds(now - start_);
  const double rate = static_cast<double>(done) / seconds;
  std::string line = absl::StrFormat("%u %s, %.0f/s", done, unit_, rate);
  if (total > 0 && done > 0 && done <= total) {
    absl::StrAppendFormat(
        &line, ", %.1f %%, %.0f s left",
        100.0 * static_cast<double>(done) / static_cast<double>(total),
        static_cast<double>(total - done) / rate);
  }
  // ESC [ K clears what a longer line left behind.
  absl::FPrintF(stderr, terminal_ ? "\r%s\x1b[K" : "%s\n", line);
}

}  // namespace adrank
