#include "tools/regret.h"

#include <algorithm>

namespace adrank {

void RegretSum::Add(const DayEffects& effects, const Visit& visit,
                    absl::Span<const RankedBid> served) {
  const ClickModel& model = market_.click_model();
  market_.catalog().FindEligible(visit, &scratch_, &eligible_);
  candidates_.clear();
  const auto add = [&](uint32_t ad, int64_t bid_micros) {
    const double logit = model.Logit(model.Parts(effects, visit, ad, 1));
    const double bid = static_cast<double>(bid_micros);
    candidates_.push_back({logit, bid * Sigmoid(logit), bid});
  };
  for (const Eligible& e : eligible_) add(e.ad, e.bid_micros);
  for (const RankedBid& s : served) {
    const double ctr = model.Ctr(effects, visit, s.ad, s.position);
    sum_.set_served_clicks(sum_.served_clicks() + ctr);
    sum_.set_served_value_micros(sum_.served_value_micros() +
                                 ctr * static_cast<double>(s.bid_micros));
    const bool known =
        std::any_of(eligible_.begin(), eligible_.end(),
                    [&](const Eligible& e) { return e.ad == s.ad; });
    if (!known) add(s.ad, s.bid_micros);
  }
  // A foreign server may have served one ad twice.
  const size_t k = std::min(served.size(), candidates_.size());
  const auto position_effect = [&](size_t i) {
    return market_.config().position_effect() * (served[i].position - 1.0);
  };
  const auto top = candidates_.begin() + static_cast<std::ptrdiff_t>(k);
  for (size_t i = 0; i < k; ++i) {
    double clicks = 0, value = 0;
    for (const Candidate& c : candidates_) {
      const double ctr = Sigmoid(c.logit + position_effect(i));
      clicks += ctr;
      value += ctr * c.bid_micros;
    }
    const double n = static_cast<double>(candidates_.size());
    sum_.set_random_clicks(sum_.random_clicks() + clicks / n);
    sum_.set_random_value_micros(sum_.random_value_micros() + value / n);
  }
  std::partial_sort(
      candidates_.begin(), top, candidates_.end(),
      [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
  for (size_t i = 0; i < k; ++i) {
    sum_.set_best_clicks(sum_.best_clicks() +
                         Sigmoid(candidates_[i].logit + position_effect(i)));
  }
  std::partial_sort(
      candidates_.begin(), top, candidates_.end(),
      [](const Candidate& a, const Candidate& b) { return a.value > b.value; });
  for (size_t i = 0; i < k; ++i) {
    sum_.set_best_value_micros(
        sum_.best_value_micros() +
        candidates_[i].bid_micros *
            Sigmoid(candidates_[i].logit + position_effect(i)));
  }
  sum_.set_decisions(sum_.decisions() + 1);
  sum_.set_mean_candidates(sum_.mean_candidates() +
                           static_cast<double>(candidates_.size()));
}

v1::Regret RegretSum::Finish() const {
  v1::Regret regret = sum_;
  if (regret.decisions() == 0) return regret;
  regret.set_mean_candidates(regret.mean_candidates() /
                             static_cast<double>(regret.decisions()));
  regret.set_click_regret(1 - regret.served_clicks() / regret.best_clicks());
  regret.set_value_regret(1 - regret.served_value_micros() /
                                  regret.best_value_micros());
  return regret;
}

}  // namespace adrank
