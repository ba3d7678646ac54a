#include "tools/market_log.h"

#include <algorithm>
#include <string>

namespace adrank {

void MarketCounts::Add(const MarketCounts& other) {
  decisions += other.decisions;
  impressions += other.impressions;
  clicks += other.clicks;
  expected_clicks += other.expected_clicks;
}

Outcome DrawOutcome(const v1::MarketConfig& config, int64_t visit_ms,
                    double ctr, Rng* rng) {
  Outcome outcome;
  outcome.seen = rng->Bernoulli(config.view_rate());
  outcome.impression_ms =
      visit_ms + 100 + static_cast<int64_t>(rng->Below(900));
  outcome.clicked = rng->Bernoulli(ctr) && outcome.seen;
  const double delay_s = config.click_delay_s() * rng->Exponential();
  outcome.click_ms =
      outcome.impression_ms + 1 + static_cast<int64_t>(1000 * delay_s);
  return outcome;
}

MarketLog::MarketLog(const Market* market) : market_(*market) {
  const MarketCatalog& catalog = market_.catalog();
  for (uint32_t ad = 0; ad < catalog.ads().size(); ++ad) {
    ads_.push_back(EncodeAd(catalog.Snapshot(ad)));
  }
  for (const MarketAdGroup& group : catalog.ad_groups()) {
    std::vector<std::string>& texts = keywords_.emplace_back();
    for (const MarketKeyword& keyword : group.keywords) {
      texts.push_back(catalog.KeywordText(keyword));
    }
  }
}

void MarketLog::FillDecision(const Visit& visit,
                             absl::Span<const ChosenAd> chosen,
                             v1::Decision* decision) const {
  // Not Clear(), which would free the context.
  decision->clear_placement_ids();
  decision->clear_ads();
  market_.ToContext(visit, decision->mutable_context());
  *decision->add_placement_ids() = market_.PlacementId(visit);
  for (uint32_t i = 0; i < chosen.size(); ++i) {
    const ChosenAd& c = chosen[i];
    v1::ServedAd* ad = decision->add_ads();
    ad->set_ad_hash(ads_[c.ad.ad].hash);
    ad->set_position(i + 1);
    ad->set_position_in_placement(i + 1);
    ad->set_pctr(c.pctr);
    ad->set_logit(c.logit);
    ad->set_bid_micros(c.ad.bid_micros);
    ad->set_price_micros(c.price_micros);
    ad->set_score(c.score);
    ad->set_propensity(c.propensity);
    ad->set_match_type(c.ad.type);
    if (c.ad.keyword >= 0) {
      const uint32_t group = market_.catalog().ads()[c.ad.ad].ad_group;
      ad->set_keyword(keywords_[group][c.ad.keyword]);
    }
  }
}

void MarketLog::AddEvents(const DayEffects& effects, const Visit& visit,
                          absl::Span<const ChosenAd> chosen,
                          const DecisionId& id, Rng* rng, LogBatch* out,
                          size_t* events, MarketCounts* counts) const {
  const std::string hex = id.ToHex();
  const auto add = [&](uint32_t position, v1::EventType type, int64_t ms) {
    if (*events == out->events.size()) out->events.emplace_back();
    v1::Event& event = out->events[(*events)++];
    event.set_decision_id(hex);
    event.set_position(position);
    event.set_type(type);
    event.set_time_ms(ms);
  };
  for (uint32_t i = 0; i < chosen.size(); ++i) {
    const double ctr =
        market_.click_model().Ctr(effects, visit, chosen[i].ad.ad, i + 1);
    const Outcome o = DrawOutcome(market_.config(), visit.time_ms, ctr, rng);
    if (!o.seen) continue;
    add(i + 1, v1::EVENT_TYPE_IMPRESSION, o.impression_ms);
    ++counts->impressions;
    counts->expected_clicks += ctr;
    if (!o.clicked) continue;
    add(i + 1, v1::EVENT_TYPE_CLICK, o.click_ms);
    ++counts->clicks;
  }
}

MarketCounts MarketLog::MakeBlock(const DayEffects& effects, uint64_t first,
                                  uint64_t count, LogBatch* out) const {
  MarketCounts counts;
  Scratch s;
  s.ad_used.resize(ads_.size());
  out->decisions.resize(count);
  out->ads.clear();
  size_t events = 0;
  const uint64_t per_day = market_.config().decisions_per_day();
  for (uint64_t i = 0; i < count; ++i) {
    const Visit visit = market_.visits().OfDay(effects.day, first + i, per_day);
    market_.catalog().FindEligible(visit, &s.eligible_scratch, &s.eligible);
    Rng rng = market_.visits().AfterVisit(effects.day, first + i);
    market_.policy().Choose(&s.eligible, &rng, &s.chosen);
    LogBatch::DecisionRecord& record = out->decisions[i];
    record.id.ms = static_cast<uint64_t>(visit.time_ms);
    record.id.node = 0;
    // The index keeps ids of one millisecond apart.
    record.id.sequence = static_cast<uint32_t>(first + i);
    FillDecision(visit, s.chosen, &record.decision);
    for (const ChosenAd& c : s.chosen) {
      if (!s.ad_used[c.ad.ad]) out->ads.push_back(ads_[c.ad.ad]);
      s.ad_used[c.ad.ad] = true;
    }
    AddEvents(effects, visit, s.chosen, record.id, &rng, out, &events, &counts);
  }
  counts.decisions = count;
  out->events.resize(events);
  return counts;
}

}  // namespace adrank
