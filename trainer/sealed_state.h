// The frame of a learner's state in bytes: what any of them is recognised by
// and protected with.
//
//   state := magic (6 characters of the learner, 2 of the format), the rest of
//            the learner's head, its body, u64 XXH3-64 of all before
#ifndef ADRANK_TRAINER_SEALED_STATE_H_
#define ADRANK_TRAINER_SEALED_STATE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adrank {

// Appends the checksum.
void SealState(std::string* state);

// The body. FailedPrecondition when the state is of another learner or format;
// DataLoss when it is cut short or changed. `magic`: 8 characters; `learner`:
// as in "not of an FM learner".
absl::StatusOr<absl::string_view> OpenState(absl::string_view state,
                                            absl::string_view magic,
                                            size_t head_bytes,
                                            absl::string_view learner);

}  // namespace adrank

#endif  // ADRANK_TRAINER_SEALED_STATE_H_
