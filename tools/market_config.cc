#include "tools/market_config.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "google/protobuf/util/message_differencer.h"

namespace adrank {
namespace {

absl::Status Count(const char* name, uint32_t value, uint32_t low,
                   uint32_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", value, " not in [", low, ", ", high, "]"));
}

absl::Status Number(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", value, " not in [", low, ", ", high, "]"));
}

// 0 is `fallback`; anything negative is "none", kept as -1.
double OrNone(double value, double fallback) {
  if (value == 0) return fallback;
  return value < 0 ? -1 : value;
}

void FillCounts(v1::MarketConfig* c) {
  if (c->advertisers() == 0) c->set_advertisers(50);
  if (c->campaigns_per_advertiser() == 0) c->set_campaigns_per_advertiser(4);
  if (c->ad_groups_per_campaign() == 0) c->set_ad_groups_per_campaign(2);
  if (c->ads_per_ad_group() == 0) c->set_ads_per_ad_group(3);
  if (c->users() == 0) c->set_users(20000);
  if (c->words() == 0) c->set_words(500);
  if (c->extra_context_fields() == 0) c->set_extra_context_fields(4);
  if (c->extra_ad_fields() == 0) c->set_extra_ad_fields(3);
  if (c->slots() == 0) c->set_slots(3);
  if (c->decisions_per_day() == 0) c->set_decisions_per_day(20000);
}

void FillNumbers(v1::MarketConfig* c) {
  if (c->base_ctr() == 0) c->set_base_ctr(0.05);
  c->set_main_effect_std(OrNone(c->main_effect_std(), 0.8));
  c->set_pair_effect_std(OrNone(c->pair_effect_std(), 0.5));
  c->set_drift_per_day(OrNone(c->drift_per_day(), 0.02));
  c->set_new_ad_share(OrNone(c->new_ad_share(), 0.2));
  if (c->position_effect() == 0) c->set_position_effect(-0.35);
  if (c->first_day().empty()) c->set_first_day("2026-01-05");
  if (c->click_delay_s() == 0) c->set_click_delay_s(20);
  if (c->view_rate() == 0) c->set_view_rate(1);
}

absl::Status CheckCounts(const v1::MarketConfig& c) {
  RETURN_IF_ERROR(Count("advertisers", c.advertisers(), 1, 100000));
  RETURN_IF_ERROR(
      Count("campaigns_per_advertiser", c.campaigns_per_advertiser(), 1, 1000));
  RETURN_IF_ERROR(
      Count("ad_groups_per_campaign", c.ad_groups_per_campaign(), 1, 1000));
  RETURN_IF_ERROR(Count("ads_per_ad_group", c.ads_per_ad_group(), 1, 1000));
  const double ads = 1.0 * c.advertisers() * c.campaigns_per_advertiser() *
                     c.ad_groups_per_campaign() * c.ads_per_ad_group();
  RETURN_IF_ERROR(Number("ads over all advertisers", ads, 1, 2e6));
  RETURN_IF_ERROR(Count("users", c.users(), 1, 2000000));
  RETURN_IF_ERROR(Count("words", c.words(), 8, 100000));
  RETURN_IF_ERROR(Count("extra_context_fields", c.extra_context_fields(), 1,
                        kMaxExtraFields));
  RETURN_IF_ERROR(
      Count("extra_ad_fields", c.extra_ad_fields(), 1, kMaxExtraFields));
  RETURN_IF_ERROR(Count("slots", c.slots(), 1, 64));
  return Count("decisions_per_day", c.decisions_per_day(), 1, 1000000000);
}

absl::Status CheckNumbers(const v1::MarketConfig& c) {
  RETURN_IF_ERROR(Number("base_ctr", c.base_ctr(), 1e-6, 0.5));
  RETURN_IF_ERROR(Number("main_effect_std", c.main_effect_std(), -1, 3));
  RETURN_IF_ERROR(Number("pair_effect_std", c.pair_effect_std(), -1, 3));
  RETURN_IF_ERROR(Number("drift_per_day", c.drift_per_day(), -1, 1));
  RETURN_IF_ERROR(Number("new_ad_share", c.new_ad_share(), -1, 1));
  RETURN_IF_ERROR(Number("position_effect", c.position_effect(), -5, 0));
  RETURN_IF_ERROR(Number("click_delay_s", c.click_delay_s(), 0, 864000));
  return Number("view_rate", c.view_rate(), 1e-3, 1);
}

}  // namespace

absl::StatusOr<v1::MarketConfig> ResolveMarketConfig(
    const v1::MarketConfig& config) {
  v1::MarketConfig c = config;
  FillCounts(&c);
  FillNumbers(&c);
  RETURN_IF_ERROR(CheckCounts(c));
  RETURN_IF_ERROR(CheckNumbers(c));
  RETURN_IF_ERROR(FirstDayMs(c).status());
  return c;
}

absl::StatusOr<int64_t> FirstDayMs(const v1::MarketConfig& resolved) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime("%Y-%m-%d", resolved.first_day(), absl::UTCTimeZone(),
                       &time, &error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("first_day: \"", resolved.first_day(),
                     "\" is not YYYY-MM-DD: ", error));
  }
  const int64_t ms = absl::ToUnixMillis(time);
  // Decision ids hold 48 bits of milliseconds.
  if (ms < 0 || ms > (1ll << 47)) {
    return absl::InvalidArgumentError(absl::StrCat("first_day: \"",
                                                   resolved.first_day(),
                                                   "\" is before 1970 "
                                                   "or too late"));
  }
  return ms;
}

absl::Status CheckSameMarket(const v1::MarketConfig& stored,
                             const v1::MarketConfig& given) {
  google::protobuf::util::MessageDifferencer differencer;
  std::string differences;
  differencer.ReportDifferencesToString(&differences);
  if (differencer.Compare(stored, given)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the data is of another market:\n",
                   absl::StripSuffix(differences, "\n")));
}

}  // namespace adrank
