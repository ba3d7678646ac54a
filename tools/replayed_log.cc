#include "tools/replayed_log.h"

#include <vector>

namespace adrank {
namespace {

// Of one decision; `clicks`: else revenue.
void AddChoices(const v1::ReplayedDecision& decision, Interaction interaction,
                bool clicks, LoggedChoices* choices) {
  std::vector<LoggedChoice> added;
  std::vector<double> ratios;
  for (const v1::ReplayedSlot& slot : decision.slots()) {
    LoggedChoice c;
    c.group = slot.slot() - 1;
    c.reward = clicks ? slot.clicks() : slot.target_revenue_micros();
    c.logged_reward = clicks ? slot.clicks() : slot.logged_revenue_micros();
    c.predicted =
        clicks ? slot.predicted_clicks() : slot.predicted_revenue_micros();
    c.target_predicted = clicks ? slot.target_predicted_clicks()
                                : slot.target_predicted_revenue_micros();
    added.push_back(c);
    ratios.push_back(slot.target_propensity() / slot.logged_propensity());
  }
  ApplyInteraction(interaction, ratios, absl::MakeSpan(added));
  for (const LoggedChoice& c : added) choices->Add(c);
  choices->EndDecision();
}

}  // namespace

void AddReplayed(const v1::ReplayedDecision& decision, Interaction interaction,
                 ReplayedLog* log) {
  if (decision.verdict() != v1::ReplayedDecision::VERDICT_REPLAYED) {
    constexpr size_t kPrefix = sizeof("VERDICT_") - 1;
    const std::string name =
        v1::ReplayedDecision::Verdict_Name(decision.verdict());
    ++log->left_out[name.size() > kPrefix ? name.substr(kPrefix) : name];
    return;
  }
  AddChoices(decision, interaction, true, &log->clicks);
  AddChoices(decision, interaction, false, &log->revenue);
}

}  // namespace adrank
