#include "tools/visit_source.h"

#include <algorithm>
#include <cmath>

namespace adrank {
namespace {

constexpr uint32_t kPhone = 0, kDesktop = 1;  // values of the device field
constexpr uint32_t kSearch = 0;               // value of the placement field
constexpr double kPi = 3.141592653589793;

template <typename Array>
bool Has(const Array& values, uint32_t n, uint32_t value) {
  return std::find(values.begin(), values.begin() + n, value) !=
         values.begin() + n;
}

}  // namespace

VisitSource::VisitSource(const v1::MarketConfig& config,
                         const MarketFields* fields,
                         const MarketCatalog* catalog)
    : seed_(config.seed()), fields_(*fields), catalog_(*catalog) {
  first_day_ms_ = FirstDayMs(config).value();
  for (int h = 0; h < 24; ++h) {  // busiest at 19:00, quietest at 07:00
    hour_cdf_[h + 1] =
        hour_cdf_[h] + 1 + 0.7 * std::sin(2 * kPi * (h - 13) / 24);
  }
  for (double& c : hour_cdf_) c /= hour_cdf_[24];
  for (const MarketField& f : fields_.context) {
    laws_.push_back(AliasTable::Zipf(f.cardinality, f.zipf));
  }
  interest_law_ =
      AliasTable::Zipf(fields_.interests.cardinality, fields_.interests.zipf);
  word_law_ = AliasTable::Zipf(fields_.words.cardinality, fields_.words.zipf);
  phrase_law_ =
      AliasTable::Zipf(static_cast<uint32_t>(catalog_.phrases().size()), 0.7);
  Rng rng(MixBits(seed_ ^ 0x7573657273ull));
  users_.reserve(config.users());
  for (uint32_t i = 0; i < config.users(); ++i) {
    users_.push_back(RandomUser(&rng));
  }
}

VisitSource::User VisitSource::RandomUser(Rng* rng) const {
  User user;
  user.age = laws_[kAgeField].Draw(rng);
  user.gender = laws_[kGenderField].Draw(rng);
  user.country = laws_[kCountryField].Draw(rng);
  user.device = laws_[kDeviceField].Draw(rng);
  user.os = OsOf(user.device, rng);
  user.interests = {};
  user.num_interests = 0;
  const uint64_t wanted = 1 + rng->Below(kMaxInterests);
  while (user.num_interests < wanted) {
    const uint32_t interest = interest_law_.Draw(rng);
    if (!Has(user.interests, user.num_interests, interest)) {
      user.interests[user.num_interests++] = interest;
    }
  }
  return user;
}

uint32_t VisitSource::OsOf(uint32_t device, Rng* rng) const {
  const double u = rng->Uniform();
  if (device == kDesktop) return u < 0.65 ? 2 : u < 0.92 ? 3 : 4;
  return u < (device == kPhone ? 0.62 : 0.4) ? 0 : 1;
}

void VisitSource::FillQuery(Rng* rng, Visit* visit) const {
  const MarketPhrase& phrase = catalog_.phrases()[phrase_law_.Draw(rng)];
  visit->num_words = phrase.num_words;
  std::copy(phrase.words.begin(), phrase.words.end(), visit->words.begin());
  const uint64_t more = rng->Below(kMaxWords + 1 - phrase.num_words);
  for (uint64_t i = 0; i < more && rng->Bernoulli(0.5); ++i) {
    const uint32_t word = word_law_.Draw(rng);
    if (!Has(visit->words, visit->num_words, word)) {
      visit->words[visit->num_words++] = word;
    }
  }
  // Some type the words in another order.
  if (visit->num_words > 1 && rng->Bernoulli(0.2)) {
    std::swap(visit->words[0], visit->words[visit->num_words - 1]);
  }
}

Visit VisitSource::At(int64_t time_ms, Rng* rng) const {
  Visit visit;
  visit.time_ms = time_ms;
  const int64_t since_start = time_ms - first_day_ms_;
  visit.day = static_cast<int32_t>(since_start / kDayMs);
  const uint32_t u = laws_[kUserField].Draw(rng);
  const User& user = users_[u];
  visit.values[kUserField] = u;
  visit.values[kAgeField] = user.age;
  visit.values[kGenderField] = user.gender;
  visit.values[kCountryField] = user.country;
  visit.values[kDeviceField] = user.device;
  visit.values[kOsField] = user.os;
  if (rng->Bernoulli(0.25)) {  // on another device than usual
    visit.values[kDeviceField] = laws_[kDeviceField].Draw(rng);
    visit.values[kOsField] = OsOf(visit.values[kDeviceField], rng);
  }
  visit.num_interests = user.num_interests;
  visit.interests = user.interests;
  visit.values[kPageField] = laws_[kPageField].Draw(rng);
  const double place = rng->Uniform();
  visit.values[kPlacementField] = place < 0.7 ? kSearch : place < 0.88 ? 1 : 2;
  visit.values[kDepthField] =
      std::min<uint32_t>(15, static_cast<uint32_t>(4 * rng->Exponential()));
  visit.values[kHourField] =
      static_cast<uint32_t>(since_start % kDayMs / 3600000);
  for (size_t f = kExtraContextField; f < laws_.size(); ++f) {
    visit.values[f] = laws_[f].Draw(rng);
  }
  if (visit.values[kPlacementField] == kSearch) FillQuery(rng, &visit);
  return visit;
}

uint64_t VisitSource::Stream(int32_t day, uint64_t index, uint64_t salt) const {
  return MixBits(MixBits(MixBits(seed_ ^ salt) + static_cast<uint64_t>(day)) +
                 index);
}

int64_t VisitSource::TimeOfDay(double u) const {
  const int hour = static_cast<int>(
      std::upper_bound(hour_cdf_.begin() + 1, hour_cdf_.end() - 1, u) -
      hour_cdf_.begin() - 1);
  const double inside =
      (u - hour_cdf_[hour]) / (hour_cdf_[hour + 1] - hour_cdf_[hour]);
  return std::min<int64_t>(kDayMs - 1,
                           static_cast<int64_t>((hour + inside) * 3600000));
}

Visit VisitSource::OfDay(int32_t day, uint64_t index, uint64_t count) const {
  Rng rng(Stream(day, index, 0x7669736974ull));
  const double u =
      (static_cast<double>(index) + rng.Uniform()) / static_cast<double>(count);
  return At(first_day_ms_ + day * kDayMs + TimeOfDay(u), &rng);
}

Rng VisitSource::AfterVisit(int32_t day, uint64_t index) const {
  return Rng(Stream(day, index, 0x6166746572ull));
}

}  // namespace adrank
