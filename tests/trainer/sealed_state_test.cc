#include "trainer/sealed_state.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr size_t kHead = 12;  // magic and four more

std::string Sealed() {
  std::string state = "AXTEST01headbody";
  SealState(&state);
  return state;
}

absl::Status Refusal(const std::string& state) {
  return OpenState(state, "AXTEST01", kHead, "a test").status();
}

TEST(SealedState, OpensToWhatFollowsTheHead) {
  const std::string state = Sealed();
  ASSERT_OK_AND_ASSIGN(const absl::string_view body,
                       OpenState(state, "AXTEST01", kHead, "a test"));
  EXPECT_EQ(body, "body");
}

TEST(SealedState, AnotherLearnerOrFormatIsToldFromDamage) {
  std::string state = Sealed();
  state[2] = 'X';
  EXPECT_THAT(Refusal(state), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       HasSubstr("not of a test learner")));
  state = Sealed();
  state[7] = '2';
  EXPECT_THAT(Refusal(state), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       HasSubstr("format 02, this reads 01")));
}

TEST(SealedState, EveryChangedOrMissingByteIsFound) {
  const std::string good = Sealed();
  for (size_t i = 8; i < good.size(); ++i) {
    std::string state = good;
    state[i] ^= 1;
    EXPECT_EQ(Refusal(state).code(), absl::StatusCode::kDataLoss) << i;
  }
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_EQ(Refusal(good.substr(0, n)).code(), absl::StatusCode::kDataLoss)
        << n;
  }
}

}  // namespace
}  // namespace adrank
