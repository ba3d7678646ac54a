// What a run may hold in memory, and what it did.
#ifndef ADRANK_TRAINER_MEMORY_BUDGET_H_
#define ADRANK_TRAINER_MEMORY_BUDGET_H_

#include <cstdint>

#include "proto/trainer_config.pb.h"

namespace adrank {

// Shares of TrainerConfig.max_memory_bytes, or of what the machine has
// available now. Beside them come what a model of the table's rows needs, the
// rows of the evaluation window, and caches of a fixed size.
struct MemoryBudget {
  uint64_t total = 0;
  // Examples beyond it are on disk. While they are packed, raw and packed
  // examples together take up to 4/3 of it.
  uint64_t examples = 0;
  // Entries of the IdTable. Without max_memory_bytes: as many as come.
  uint64_t ids = 0;
};
MemoryBudget PlanMemory(const v1::TrainerConfig& config);

// The most this process ever had resident, in bytes; 0 where the system does
// not say.
uint64_t PeakResidentBytes();

}  // namespace adrank

#endif  // ADRANK_TRAINER_MEMORY_BUDGET_H_
