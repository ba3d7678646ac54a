// EXPECT_OK, ASSERT_OK, StatusIs and ASSERT_OK_AND_ASSIGN, named as in later
// Abseil.
#ifndef ADRANK_TESTS_TESTING_STATUS_MATCHERS_H_
#define ADRANK_TESTS_TESTING_STATUS_MATCHERS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adrank::testing {

inline const absl::Status& GetStatus(const absl::Status& s) { return s; }
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& s) {
  return s.status();
}

MATCHER(IsOk, negation ? "is not OK" : "is OK") {
  *result_listener << GetStatus(arg);
  return GetStatus(arg).ok();
}

// StatusIs(code, matcher of the message).
MATCHER_P2(StatusIs, code, message, "") {
  const absl::Status& status = GetStatus(arg);
  *result_listener << status;
  return status.code() == code &&
         ::testing::Matches(message)(std::string(status.message()));
}

}  // namespace adrank::testing

#define EXPECT_OK(expr) EXPECT_THAT(expr, ::adrank::testing::IsOk())
#define ASSERT_OK(expr) ASSERT_THAT(expr, ::adrank::testing::IsOk())
#define ASSERT_OK_AND_ASSIGN(lhs, expr)                                       \
  ADRANK_ASSERT_OK_AND_ASSIGN(ADRANK_MACRO_CONCAT(adrank_test_or_, __LINE__), \
                              lhs, expr)
#define ADRANK_ASSERT_OK_AND_ASSIGN(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  ASSERT_OK(tmp);                                   \
  lhs = *std::move(tmp)

#endif  // ADRANK_TESTS_TESTING_STATUS_MATCHERS_H_
