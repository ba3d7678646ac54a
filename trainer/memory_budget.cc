#include "trainer/memory_budget.h"

#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <string>

namespace adrank {
namespace {

// Of the IdTable, with its index, both at their worst just after growing, and
// of the plan.
constexpr uint64_t kBytesPerId = 96;

}  // namespace

MemoryBudget PlanMemory(const v1::TrainerConfig& config) {
  MemoryBudget budget;
  if (config.max_memory_bytes() > 0) {
    budget.total = config.max_memory_bytes();
    const uint64_t rest = budget.total - config.vocabulary().filter_bytes();
    budget.examples = rest / 3;
    budget.ids = rest / 3 / kBytesPerId;
    return budget;
  }
  budget.total = static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES)) *
                 static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  budget.examples = std::max<uint64_t>(uint64_t{256} << 20, budget.total / 3);
  budget.ids = ~uint64_t{0};
  return budget;
}

uint64_t PeakResidentBytes() {
  // Not getrusage's: that remembers the program which started this one.
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    uint64_t kib = 0;
    if (sscanf(line.c_str(), "VmHWM: %" SCNu64, &kib) == 1) return kib * 1024;
  }
  return 0;
}

}  // namespace adrank
