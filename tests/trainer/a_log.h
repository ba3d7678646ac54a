// A log whose clicks follow a planted model, written through storage/.
#ifndef ADRANK_TESTS_TRAINER_A_LOG_H_
#define ADRANK_TESTS_TRAINER_A_LOG_H_

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "proto/trainer_config.pb.h"
#include "storage/event_log.h"

namespace adrank::testing {

inline constexpr int64_t kFirstDayMs = 1'767'571'200'000;  // 2026-01-05 UTC
inline constexpr int64_t kDayMs = 86'400'000;

struct ALog {
  uint64_t seed = 1;
  int64_t begin_ms = kFirstDayMs;
  int decisions = 2000;  // evenly over a day
  int ads_per_decision = 4;
  int first_ad = 0;    // of a catalogue of 40
  int snapshots = 40;  // ads whose snapshot is written
  double base_logit = -1;
  // Probability that an ad that was served was also seen.
  double seen = 1;
  bool clicks = true;
  bool always_click = false;
  // Exponential with this mean; 0: always 4.9 s from impression to click.
  double click_delay_ms = 0;
  // Clicks from here on did not reach the log.
  int64_t end_ms = std::numeric_limits<int64_t>::max();
  // Added to the times of events of every `skewed_every`-th decision.
  int64_t event_skew_ms = 0;
  int skewed_every = 1;
  // Labels of other rows: nothing can be learnt.
  bool shuffled = false;
  // May change each decision before it is written.
  std::function<void(v1::Decision*, const std::vector<v1::AdSnapshot>&)> edit;
  // The same, called with the labels (of seen ads) before `edit`.
  std::function<void(v1::Decision*, const std::vector<bool>&)> leak;

  // Planted effects in logits.
  static double Effect(absl::string_view kind, uint64_t value, double scale) {
    Rng rng(MixBits(value + 1000 * kind.size()));
    return scale * rng.Normal();
  }
  static v1::AdSnapshot Ad(int i) {
    v1::AdSnapshot ad;
    ad.set_ad_id(absl::StrCat("ad", i));
    ad.set_advertiser_id(absl::StrCat("adv", i % 7));
    auto* category = ad.add_attributes();
    category->set_name("category");
    category->add_text(absl::StrCat("c", i % 5));
    auto* price = ad.add_attributes();
    price->set_name("price");
    price->add_number(1.5 * i);
    return ad;
  }

  // Appends to the log in `dir`, creating it if need be.
  absl::Status Write(const std::string& dir) const {
    v1::StorageConfig config;
    config.set_data_dir(dir);
    config.set_durability(v1::StorageConfig::ASYNC);
    ASSIGN_OR_RETURN(const std::unique_ptr<EventLog> log,
                     EventLog::Open(config, Clock::Real()));
    Rng rng(seed);
    LogBatch batch;
    for (int i = first_ad; i < first_ad + snapshots; ++i) {
      batch.ads.push_back(EncodeAd(Ad(i)));
    }
    for (int d = 0; d < decisions; ++d) Add(d, &rng, &batch);
    RETURN_IF_ERROR(log->Write(batch));
    return log->Flush();
  }

 private:
  void Add(int d, Rng* rng, LogBatch* batch) const {
    LogBatch::DecisionRecord record;
    record.id.ms = static_cast<uint64_t>(begin_ms + d * kDayMs / decisions);
    record.id.sequence = static_cast<uint32_t>(d);
    v1::Decision& decision = record.decision;
    v1::Context& context = *decision.mutable_context();
    context.set_time_ms(static_cast<int64_t>(record.id.ms));
    const uint64_t device = rng->Below(4), user = rng->Below(300);
    context.set_user_id(absl::StrCat("u", user));
    auto* attribute = context.add_attributes();
    attribute->set_name("device");
    attribute->add_text(absl::StrCat("d", device));
    attribute = context.add_attributes();
    attribute->set_name("depth");
    attribute->add_number(rng->Exponential());
    decision.add_placement_ids("top");
    std::vector<v1::AdSnapshot> ads;
    std::vector<bool> clicked;
    for (int p = 1; p <= ads_per_decision; ++p) {
      const int ad = first_ad + static_cast<int>(rng->Below(40));
      ads.push_back(Ad(ad));
      v1::ServedAd& served = *decision.add_ads();
      served.set_ad_hash(EncodeAd(ads.back()).hash);
      served.set_position(static_cast<uint32_t>(p));
      served.set_position_in_placement(static_cast<uint32_t>(p));
      clicked.push_back(false);
      if (!rng->Bernoulli(seen)) continue;
      const double logit = base_logit + Effect("device", device, 0.7) +
                           Effect("ad", static_cast<uint64_t>(ad), 1.0) -
                           0.3 * (p - 1);
      const int64_t skew = d % skewed_every == 0 ? event_skew_ms : 0;
      AddEvent(record, p, v1::EVENT_TYPE_IMPRESSION, 100 + skew, batch);
      const bool lucky =
          rng->Bernoulli(1 / (1 + std::exp(-(shuffled ? base_logit : logit))));
      if (!always_click && !(clicks && lucky)) continue;
      const auto delay_ms = static_cast<int64_t>(
          click_delay_ms > 0 ? click_delay_ms * rng->Exponential() : 4900);
      const int64_t after_ms = 100 + delay_ms + skew;
      if (static_cast<int64_t>(record.id.ms) + after_ms >= end_ms) continue;
      AddEvent(record, p, v1::EVENT_TYPE_CLICK, after_ms, batch);
      clicked.back() = true;
    }
    if (leak) leak(&decision, clicked);
    if (edit) edit(&decision, ads);
    batch->decisions.push_back(std::move(record));
  }

  static void AddEvent(const LogBatch::DecisionRecord& record, int position,
                       v1::EventType type, int64_t after_ms, LogBatch* batch) {
    v1::Event event;
    event.set_decision_id(record.id.ToHex());
    event.set_position(static_cast<uint32_t>(position));
    event.set_type(type);
    event.set_time_ms(static_cast<int64_t>(record.id.ms) + after_ms);
    batch->events.push_back(std::move(event));
  }
};

// A config for logs of ALog with a gate that lets honest small models through.
inline v1::TrainerConfig AConfig(const std::string& data_dir,
                                 const std::string& model_dir) {
  v1::TrainerConfig config;
  config.set_data_dir(data_dir);
  config.set_model_dir(model_dir);
  config.set_threads(2);
  config.set_seed(5);
  const auto field = [&](const char* name, const char* source) {
    v1::Field* f = config.mutable_feature_spec()->add_fields();
    f->set_name(name);
    f->set_source(source);
    return f;
  };
  field("device", "");
  field("user", "user_id");
  field("depth", "")->set_kind(v1::Field::QUANTILE_BIN);
  field("ad", "ad.id");
  field("category", "ad.category");
  field("position", "position");
  auto* cross = config.mutable_feature_spec()->add_crosses();
  cross->set_name("device x category");
  cross->add_of("device");
  cross->add_of("category");
  config.mutable_logistic()->set_alpha(0.1);
  config.mutable_logistic()->set_passes(2);
  config.mutable_data()->set_calibration_share(0.2);
  config.mutable_data()->set_evaluation_share(0.2);
  v1::GateConfig* gate = config.mutable_gate();
  gate->set_min_examples(100);
  gate->set_min_clicks(10);
  gate->set_min_calibration(0.7);
  gate->set_max_calibration(1.4);
  return config;
}

}  // namespace adrank::testing

#endif  // ADRANK_TESTS_TRAINER_A_LOG_H_
