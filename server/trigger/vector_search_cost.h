// Which of two exact ways to the nearest eligible vectors costs less.
#ifndef ADRANK_SERVER_TRIGGER_VECTOR_SEARCH_COST_H_
#define ADRANK_SERVER_TRIGGER_VECTOR_SEARCH_COST_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "server/trigger/vector_index.h"

namespace adrank {

// Whether to read all vectors and ask `eligible` of the best, rather than to
// walk those whose targeting is true. `best`: how many are wanted. Asks
// `eligible` of a few dozen, when there are thousands.
bool ReadAllVectors(const VectorIndex& vectors, size_t best,
                    absl::FunctionRef<bool(size_t i)> eligible);

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_VECTOR_SEARCH_COST_H_
