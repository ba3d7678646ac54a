#include "trainer/sealed_state.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/hash.h"

namespace adrank {
namespace {

constexpr size_t kSeal = sizeof(uint64_t);
constexpr size_t kName = 6;

}  // namespace

void SealState(std::string* state) {
  const uint64_t checksum = Hash64(*state);
  state->append(reinterpret_cast<const char*>(&checksum), kSeal);
}

absl::StatusOr<absl::string_view> OpenState(absl::string_view state,
                                            absl::string_view magic,
                                            size_t head_bytes,
                                            absl::string_view learner) {
  if (state.size() < head_bytes + kSeal) {
    return absl::DataLossError(absl::StrCat("optimizer state: ", state.size(),
                                            " bytes are less than its header"));
  }
  if (state.substr(0, kName) != magic.substr(0, kName)) {
    return absl::FailedPreconditionError(
        absl::StrCat("optimizer state: not of ", learner, " learner"));
  }
  if (state.substr(kName, 2) != magic.substr(kName)) {
    return absl::FailedPreconditionError(
        absl::StrCat("optimizer state: format ", state.substr(kName, 2),
                     ", this reads ", magic.substr(kName)));
  }
  uint64_t checksum;
  std::memcpy(&checksum, state.data() + state.size() - kSeal, kSeal);
  state.remove_suffix(kSeal);
  if (checksum != Hash64(state)) {
    return absl::DataLossError("optimizer state: wrong checksum");
  }
  return state.substr(head_bytes);
}

}  // namespace adrank
