// Shows how far long work is: one rewritten line on a terminal, a plain line
// every five seconds elsewhere.
#ifndef ADRANK_TOOLS_PROGRESS_LINE_H_
#define ADRANK_TOOLS_PROGRESS_LINE_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace adrank {

// Writes to stderr. One thread.
class ProgressLine {
 public:
  // `unit` as in "decisions".
  explicit ProgressLine(std::string unit);
  // Ends the line that stands on the terminal.
  ~ProgressLine();

  // `total` 0: unknown. Called as often as wanted.
  void Show(uint64_t done, uint64_t total);

 private:
  const std::string unit_;
  const bool terminal_;
  const absl::Time start_;
  absl::Time next_;
  bool shown_ = false;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_PROGRESS_LINE_H_
