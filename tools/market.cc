#include "tools/market.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace adrank {
namespace {

// The sample that centre and scale are fitted on: enough for 1 % of a standard
// deviation, over a month, so that new ads and drift are in it.
constexpr int32_t kSampleDays = 30;
constexpr uint64_t kSampleDecisionsPerDay = 600;

absl::flat_hash_map<std::string, uint32_t> IndexOf(
    const std::vector<std::string>& values) {
  absl::flat_hash_map<std::string, uint32_t> index;
  for (uint32_t i = 0; i < values.size(); ++i) index[values[i]] = i;
  return index;
}

// Number after a one- or two-letter prefix, below `limit`.
bool ParseId(absl::string_view text, absl::string_view prefix, size_t limit,
             uint32_t* id) {
  return absl::ConsumePrefix(&text, prefix) && !text.empty() &&
         text[0] >= '0' && text[0] <= '9' && absl::SimpleAtoi(text, id) &&
         *id < limit;
}

absl::Status NotOfMarket(absl::string_view what, absl::string_view value) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": \"", value, "\" is not of this market"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Market>> Market::Create(
    const v1::MarketConfig& config) {
  ASSIGN_OR_RETURN(const v1::MarketConfig resolved,
                   ResolveMarketConfig(config));
  auto market = absl::WrapUnique(new Market(resolved));
  market->click_model_.Fit(market->Sample());
  return std::unique_ptr<const Market>(std::move(market));
}

Market::Market(const v1::MarketConfig& resolved)
    : config_(resolved),
      first_day_ms_(FirstDayMs(resolved).value()),
      fields_(MakeMarketFields(resolved)),
      catalog_(resolved, &fields_),
      visits_(resolved, &fields_, &catalog_),
      click_model_(resolved, &fields_, &catalog_),
      policy_(
          std::make_unique<LoggingPolicy>(resolved, click_model_.AdQuality())) {
  IndexValues();
}

std::vector<SampledDecision> Market::Sample() const {
  std::vector<SampledDecision> sample;
  EligibleScratch scratch;
  std::vector<Eligible> eligible;
  std::vector<ChosenAd> chosen;
  for (int32_t day = 0; day < kSampleDays; ++day) {
    for (uint64_t i = 0; i < kSampleDecisionsPerDay; ++i) {
      SampledDecision& d = sample.emplace_back();
      d.visit = visits_.OfDay(day, i, kSampleDecisionsPerDay);
      catalog_.FindEligible(d.visit, &scratch, &eligible);
      Rng rng = visits_.AfterVisit(day, i);
      policy_->Choose(&eligible, &rng, &chosen);
      for (const ChosenAd& ad : chosen) d.ads.push_back(ad.ad.ad);
    }
  }
  return sample;
}

void Market::IndexValues() {
  attributes_.resize(fields_.context.size());
  value_index_.resize(fields_.context.size());
  for (uint32_t f = 0; f < fields_.context.size(); ++f) {
    const MarketField& field = fields_.context[f];
    value_index_[f] = IndexOf(field.values);
    if (f == kUserField || f == kPlacementField || f == kHourField) continue;
    field_index_[field.name] = f;
    for (uint32_t v = 0; v < field.cardinality; ++v) {
      v1::Attribute& attribute = attributes_[f].emplace_back();
      attribute.set_name(field.name);
      if (f == kDepthField) {
        attribute.add_number(v);
      } else {
        attribute.add_text(field.values[v]);
      }
    }
  }
  interest_index_ = IndexOf(fields_.interests.values);
  word_index_ = IndexOf(fields_.words.values);
}

void Market::ToContext(const Visit& visit, v1::Context* context) const {
  context->Clear();
  context->set_time_ms(visit.time_ms);
  context->set_user_id(absl::StrCat("u", visit.values[kUserField]));
  std::string* query = context->mutable_query();
  for (uint32_t w : visit.word_span()) {
    if (!query->empty()) query->push_back(' ');
    query->append(fields_.words.values[w]);
  }
  for (uint32_t f = 0; f < attributes_.size(); ++f) {
    if (attributes_[f].empty()) continue;
    *context->add_attributes() = attributes_[f][visit.values[f]];
  }
  v1::Attribute* interests = context->add_attributes();
  interests->set_name(fields_.interests.name);
  for (uint32_t i : visit.interest_span()) {
    interests->add_text(fields_.interests.values[i]);
  }
}

const std::string& Market::PlacementId(const Visit& visit) const {
  return fields_.context[kPlacementField].values[visit.values[kPlacementField]];
}

absl::Status Market::ParseAttribute(const v1::Attribute& attribute,
                                    Visit* visit, uint32_t* found) const {
  if (attribute.name() == fields_.interests.name) {
    for (const std::string& text : attribute.text()) {
      const auto it = interest_index_.find(text);
      if (it == interest_index_.end() ||
          visit->num_interests == kMaxInterests) {
        return NotOfMarket("context.interests", text);
      }
      visit->interests[visit->num_interests++] = it->second;
    }
    return absl::OkStatus();
  }
  const auto field = field_index_.find(attribute.name());
  if (field == field_index_.end()) return absl::OkStatus();  // not the market's
  const uint32_t f = field->second;
  *found |= 1u << f;
  if (f == kDepthField) {
    const double depth =
        attribute.number_size() == 1 ? attribute.number(0) : -1;
    if (!(depth >= 0 && depth < fields_.context[f].cardinality)) {
      return NotOfMarket("context.session_depth", absl::StrCat(depth));
    }
    visit->values[f] = static_cast<uint32_t>(depth);
    return absl::OkStatus();
  }
  const absl::string_view text =
      attribute.text_size() == 1 ? absl::string_view(attribute.text(0)) : "";
  const auto value = value_index_[f].find(text);
  if (value == value_index_[f].end()) {
    return NotOfMarket(absl::StrCat("context.", attribute.name()), text);
  }
  visit->values[f] = value->second;
  return absl::OkStatus();
}

absl::Status Market::ParseTexts(const v1::Context& context,
                                Visit* visit) const {
  if (!ParseId(context.user_id(), "u", config_.users(),
               &visit->values[kUserField])) {
    return NotOfMarket("user_id", context.user_id());
  }
  for (absl::string_view word :
       absl::StrSplit(context.query(), ' ', absl::SkipEmpty())) {
    const auto it = word_index_.find(word);
    if (it == word_index_.end() || visit->num_words == kMaxWords) {
      return NotOfMarket("query", context.query());
    }
    visit->words[visit->num_words++] = it->second;
  }
  return absl::OkStatus();
}

absl::StatusOr<Visit> Market::ParseVisit(const v1::Context& context,
                                         absl::string_view placement_id) const {
  Visit visit;
  visit.time_ms = context.time_ms();
  const int64_t since_start = visit.time_ms - first_day_ms_;
  if (since_start < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "time_ms ", visit.time_ms, " is before the market's first day"));
  }
  visit.day = static_cast<int32_t>(since_start / kDayMs);
  visit.values[kHourField] =
      static_cast<uint32_t>(since_start % kDayMs / 3600000);
  RETURN_IF_ERROR(ParseTexts(context, &visit));
  const Index& placements = value_index_[kPlacementField];
  const auto placement = placements.find(placement_id);
  if (placement == placements.end()) {
    return NotOfMarket("placement", placement_id);
  }
  visit.values[kPlacementField] = placement->second;
  uint32_t found = 0;
  for (const v1::Attribute& attribute : context.attributes()) {
    RETURN_IF_ERROR(ParseAttribute(attribute, &visit, &found));
  }
  for (const auto& [name, f] : field_index_) {
    if ((found >> f & 1) == 0) {
      return NotOfMarket(absl::StrCat("context.", name), "");
    }
  }
  return visit;
}

absl::StatusOr<uint32_t> Market::FindAd(absl::string_view ad_id) const {
  uint32_t ad = 0;
  if (ParseId(ad_id, "ad", catalog_.ads().size(), &ad) &&
      fields_.ad[kAdIdField].values[ad] == ad_id) {
    return ad;
  }
  return absl::NotFoundError(
      absl::StrCat("ad \"", ad_id, "\" is not of this market"));
}

}  // namespace adrank
