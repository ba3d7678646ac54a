#include "tools/open_bandit.h"

#include <array>
#include <memory>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tools/row_reader.h"

namespace adrank {
namespace {

constexpr size_t kFolds = 3;

// The text of one wanted column.
absl::string_view Cell(const Row& row, size_t column) {
  return row.cells[column].empty() ? absl::string_view()
                                   : row.cells[column].front();
}

absl::StatusOr<BanditRow> ParseRow(const Row& row,
                                   const std::vector<std::string>& names) {
  if (!row.status.ok()) return row.status;
  const auto bad = [&](size_t column, const char* wanted) {
    return absl::InvalidArgumentError(absl::StrCat(
        names[column], ": \"", Cell(row, column), "\" is not ", wanted));
  };
  BanditRow out;
  if (!absl::SimpleAtoi(Cell(row, 0), &out.item)) return bad(0, "a number");
  if (!absl::SimpleAtoi(Cell(row, 1), &out.position)) {
    return bad(1, "a number");
  }
  const absl::string_view click = Cell(row, 2);
  if (click != "0" && click != "1") return bad(2, "0 or 1");
  out.click = click == "1";
  if (!absl::SimpleAtod(Cell(row, 3), &out.propensity) ||
      !(out.propensity > 0 && out.propensity <= 1)) {
    return bad(3, "a probability above 0");
  }
  return out;
}

struct Rate {
  double rows = 0;
  double clicks = 0;

  void Add(bool click) {
    rows += 1;
    clicks += click ? 1 : 0;
  }
};

// Click rates of items as the rows outside one fold have them.
class FoldModel {
 public:
  FoldModel(const BanditLog& log, size_t left_out) {
    for (size_t i = 0; i < log.rows.size(); ++i) {
      if (i % kFolds == left_out) continue;
      all_.Add(log.rows[i].click);
      items_[log.rows[i].item].Add(log.rows[i].click);
    }
  }

  double Predict(uint32_t item) const {
    const double base = all_.rows == 0 ? 0 : all_.clicks / all_.rows;
    const auto it = items_.find(item);
    const Rate rate = it == items_.end() ? Rate() : it->second;
    return (rate.clicks + kPriorRows * base) / (rate.rows + kPriorRows);
  }

 private:
  Rate all_;
  std::map<uint32_t, Rate> items_;
};

}  // namespace

absl::StatusOr<BanditLog> ReadBanditLog(const std::string& path) {
  const std::vector<std::string> names = {"item_id", "position", "click",
                                          "propensity_score"};
  v1::ImportMapping mapping;
  mapping.set_format(v1::ImportMapping::CSV);
  mapping.set_header(true);
  ASSIGN_OR_RETURN(const std::unique_ptr<RowReader> reader,
                   RowReader::Open(path, mapping, names));
  BanditLog log;
  for (Row row; reader->Next(&row);) {
    const absl::StatusOr<BanditRow> parsed = ParseRow(row, names);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", row.line, ": ", parsed.status().message()));
    }
    log.rows.push_back(*parsed);
  }
  RETURN_IF_ERROR(reader->status());
  if (log.rows.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no rows"));
  }
  return log;
}

ItemProbabilities UniformOver(const BanditLog& log) {
  std::set<uint32_t> items, positions;
  for (const BanditRow& row : log.rows) {
    items.insert(row.item);
    positions.insert(row.position);
  }
  ItemProbabilities result;
  for (const uint32_t position : positions) {
    for (const uint32_t item : items) {
      result[{position, item}] = 1.0 / static_cast<double>(items.size());
    }
  }
  return result;
}

ItemProbabilities FrequenciesOf(const BanditLog& log) {
  std::map<uint32_t, double> rows;
  ItemProbabilities result;
  for (const BanditRow& row : log.rows) {
    rows[row.position] += 1;
    result[{row.position, row.item}] += 1;
  }
  for (auto& [key, probability] : result) probability /= rows[key.first];
  return result;
}

LoggedChoices ChoicesOf(const BanditLog& log, const ItemProbabilities& target) {
  const std::array<FoldModel, kFolds> models = {
      FoldModel(log, 0), FoldModel(log, 1), FoldModel(log, 2)};
  // The target's expectation by fold and position.
  std::array<std::map<uint32_t, double>, kFolds> values;
  for (const auto& [key, probability] : target) {
    for (size_t f = 0; f < kFolds; ++f) {
      values[f][key.first] += probability * models[f].Predict(key.second);
    }
  }
  LoggedChoices choices;
  for (size_t i = 0; i < log.rows.size(); ++i) {
    const BanditRow& row = log.rows[i];
    const auto it = target.find({row.position, row.item});
    LoggedChoice c;
    c.weight = it == target.end() ? 0 : it->second / row.propensity;
    c.reward = c.logged_reward = row.click ? 1 : 0;
    c.predicted = models[i % kFolds].Predict(row.item);
    c.target_predicted = values[i % kFolds][row.position];
    choices.Add(c);
    choices.EndDecision();
  }
  return choices;
}

}  // namespace adrank
