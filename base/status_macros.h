// RETURN_IF_ERROR and ASSIGN_OR_RETURN, named as in later Abseil, which Debian 12
// does not have.
#ifndef ADRANK_BASE_STATUS_MACROS_H_
#define ADRANK_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

// Returns from the enclosing function when the expression's status is not OK.
#define RETURN_IF_ERROR(expr)                                     \
  do {                                                            \
    if (absl::Status adrank_status = (expr); !adrank_status.ok()) \
      return adrank_status;                                       \
  } while (false)

// ASSIGN_OR_RETURN(lhs, StatusOr expression): `lhs` may declare a variable.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ADRANK_ASSIGN_OR_RETURN_IMPL(     \
      ADRANK_MACRO_CONCAT(adrank_status_or_, __LINE__), lhs, expr)
#define ADRANK_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return std::move(tmp).status();     \
  lhs = *std::move(tmp)
#define ADRANK_MACRO_CONCAT(a, b) ADRANK_MACRO_CONCAT_IMPL(a, b)
#define ADRANK_MACRO_CONCAT_IMPL(a, b) a##b

namespace adrank {

// The same status with `context` and ": " before its message; OK stays OK.
inline absl::Status Annotate(const absl::Status& status,
                             absl::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(context, ": ", status.message()));
}

}  // namespace adrank

#endif  // ADRANK_BASE_STATUS_MACROS_H_
