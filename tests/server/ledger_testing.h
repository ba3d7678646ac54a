// Budgets and policies for tests of the ledger.
#ifndef ADRANK_TESTS_SERVER_LEDGER_TESTING_H_
#define ADRANK_TESTS_SERVER_LEDGER_TESTING_H_

#include <cstdint>

#include "proto/catalog.pb.h"
#include "server/budget/ledger.h"

namespace adrank::testing {

inline v1::Budget ABudget(int64_t daily, int64_t total = 0) {
  v1::Budget budget;
  budget.set_daily_micros(daily);
  budget.set_total_micros(total);
  return budget;
}

inline BudgetPolicy APolicy(double hard_share, double deviations = 3) {
  BudgetPolicy policy;
  policy.hard_share = hard_share;
  policy.deviations = deviations;
  return policy;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_SERVER_LEDGER_TESTING_H_
