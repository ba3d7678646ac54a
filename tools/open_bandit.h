// Logs in the layout of the Open Bandit Dataset (Saito et al. 2021): one row a
// shown item, with the probability of showing it. For checking the estimators
// on data that others have published figures of.
#ifndef ADRANK_TOOLS_OPEN_BANDIT_H_
#define ADRANK_TOOLS_OPEN_BANDIT_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/off_policy.h"

namespace adrank {

struct BanditRow {
  uint32_t item = 0;
  uint32_t position = 0;
  bool click = false;
  double propensity = 0;  // of the item at that position; in (0, 1]
};

struct BanditLog {
  std::vector<BanditRow> rows;
};

// A CSV file, plain or gzip, with the columns item_id, position, click and
// propensity_score among others. InvalidArgument names file, line and column.
absl::StatusOr<BanditLog> ReadBanditLog(const std::string& path);

// Probability of an item, by position and item; absent is 0.
using ItemProbabilities = std::map<std::pair<uint32_t, uint32_t>, double>;

// Every item of the log at every position as likely.
ItemProbabilities UniformOver(const BanditLog& log);
// As often as the log has each item at each position: what a policy that
// ignores the user did on average. It need not know the items of another log.
ItemProbabilities FrequenciesOf(const BanditLog& log);

// The log's rows, each a decision, seen from `target`. The model behind
// `predicted` is the item's click rate in the two other thirds of the log (row
// number mod 3), drawn to theirs by `kPriorRows` rows: cross-fitted, so that no
// row is judged by itself.
inline constexpr double kPriorRows = 100;
LoggedChoices ChoicesOf(const BanditLog& log, const ItemProbabilities& target);

}  // namespace adrank

#endif  // ADRANK_TOOLS_OPEN_BANDIT_H_
