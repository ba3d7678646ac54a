// AdIndex::Build: from messages to the compiled arrays.
#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "features/text.h"
#include "server/trigger/ad_index.h"
#include "server/trigger/ad_index_order.h"
#include "server/trigger/stemmer.h"
#include "storage/catalog_store.h"

namespace adrank {
namespace {

bool Enabled(v1::EntityStatus status) {
  return status != v1::ENTITY_STATUS_PAUSED;
}

std::string Named(absl::string_view type, absl::string_view id) {
  return absl::StrCat(type, " \"", id, "\"");
}

// The next of its kind. `id_of` as in IdTable.
template <typename IdOf>
absl::Status Register(absl::string_view type, const std::string& id, size_t i,
                      const IdOf& id_of, IdTable* ids) {
  if (id.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(type, " without an id"));
  }
  if (!ids->Add(id, static_cast<uint32_t>(i), id_of)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Named(type, id), ": occurs twice"));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> Parent(absl::string_view type, const std::string& id,
                                absl::string_view parent_type,
                                const std::string& parent,
                                std::optional<uint32_t> found) {
  if (!found.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        Named(type, id), ": unknown ", Named(parent_type, parent)));
  }
  return *found;
}

// EXACT before PHRASE before BROAD.
int Rank(v1::MatchType type) {
  return type == v1::MATCH_TYPE_EXACT    ? 0
         : type == v1::MATCH_TYPE_PHRASE ? 1
                                         : 2;
}

v1::MatchType TypeOf(const v1::Keyword& keyword) {
  return keyword.match_type() == v1::MATCH_TYPE_EXACT ||
                 keyword.match_type() == v1::MATCH_TYPE_PHRASE
             ? keyword.match_type()
             : v1::MATCH_TYPE_BROAD;
}

struct DocumentTargeting {
  std::vector<ConjunctionIndex::Conjunction> conjunctions;
  bool scanned = false;
};

}  // namespace

class AdIndex::Builder {
 public:
  explicit Builder(AdIndex* index) : index_(*index), base_(index->base_.get()) {
    if (base_ == nullptr) return;
    index_.numbers_ = base_->numbers_;
    vectors_ = VectorIndex::Builder(base_->vector_dims());
    // Whole, so that a request looks into one table; few entities have caps.
    index_.caps_ = base_->caps_;
  }

  absl::Status AddAll(const v1::Catalog& catalog) {
    if (index_.by_stems()) {
      auto stemmer = Stemmer::Create(index_.options_.stemmer_language);
      if (!stemmer.ok()) {
        return Annotate(stemmer.status(), "stemmer_language");
      }
      stemmer_ = *std::move(stemmer);
    }
    RETURN_IF_ERROR(AddAdvertisers(catalog));
    RETURN_IF_ERROR(AddCampaigns(catalog));
    RETURN_IF_ERROR(AddGroups(catalog));
    RETURN_IF_ERROR(AddAds(catalog));
    index_.texts_.EndFilling();
    index_.keywords_.EndFilling();
    index_.stems_.EndFilling();
    index_.positives_.shrink_to_fit();
    index_.negatives_.shrink_to_fit();
    index_.keyword_texts_.shrink_to_fit();
    IndexKeywords();
    IndexTargeting();
    IndexVectors();
    index_.targeting_.EndFilling();
    return absl::OkStatus();
  }

 private:
  // The number of an entity: its number in the base, else the next one; local
  // without a base.
  uint32_t Number(const std::string& id,
                  std::optional<uint32_t> (AdIndex::*find)(absl::string_view)
                      const,
                  uint32_t* next) const {
    if (base_ != nullptr) {
      if (const auto known = (base_->*find)(id)) return *known;
    }
    return (*next)++;
  }

  absl::Status AddAdvertisers(const v1::Catalog& catalog) {
    for (const v1::Advertiser& a : catalog.advertisers()) {
      RETURN_IF_ERROR(Register(
          "advertiser", a.id(), index_.advertisers_.size(),
          [this](uint32_t i) -> absl::string_view {
            return index_.advertisers_[i].id;
          },
          &index_.advertiser_by_id_));
      const uint32_t number = Number(a.id(), &AdIndex::LocalAdvertiserOf,
                                     &index_.numbers_.advertisers);
      index_.advertisers_.push_back(
          {a.id(), number, Enabled(a.status()), a.reserve_micros()});
    }
    return absl::OkStatus();
  }

  absl::Status AddCampaigns(const v1::Catalog& catalog) {
    for (const v1::Campaign& c : catalog.campaigns()) {
      RETURN_IF_ERROR(Register(
          "campaign", c.id(), index_.campaigns_.size(),
          [this](uint32_t i) -> absl::string_view {
            return index_.campaigns_[i].id;
          },
          &index_.campaign_by_id_));
      CampaignEntry entry;
      entry.id = c.id();
      entry.number =
          Number(c.id(), &AdIndex::LocalCampaignOf, &index_.numbers_.campaigns);
      ASSIGN_OR_RETURN(
          entry.advertiser,
          Parent("campaign", c.id(), "advertiser", c.advertiser_id(),
                 index_.LocalAdvertiserOf(c.advertiser_id())));
      entry.advertiser_number = index_.advertisers_[entry.advertiser].number;
      entry.own_enabled = Enabled(c.status());
      entry.enabled =
          entry.own_enabled && index_.advertisers_[entry.advertiser].enabled;
      entry.start_ms = c.start_time_ms();
      entry.end_ms = c.end_time_ms();
      entry.budget = c.budget();
      entry.time_zone = c.time_zone();
      ASSIGN_OR_RETURN(
          entry.targeting,
          Targeting(c.has_targeting(), c.targeting(), "campaign", c.id()));
      entry.negatives_begin = NumNegatives();
      for (const std::string& text : c.negative_keywords()) {
        AddNegative(text, v1::MATCH_TYPE_BROAD);
      }
      entry.negatives_end = NumNegatives();
      AddCaps(CapLevel::kCampaign, entry.number, c);
      index_.campaigns_.push_back(std::move(entry));
    }
    return absl::OkStatus();
  }

  absl::Status AddGroups(const v1::Catalog& catalog) {
    const auto groups = static_cast<size_t>(catalog.ad_groups_size());
    CHECK_LT(groups, kMaxGroups);
    const auto id_of = [this](uint32_t i) {
      return index_.texts_.text(index_.groups_[i].id);
    };
    index_.groups_.reserve(groups);
    index_.group_by_id_.Reserve(groups, id_of);
    for (const v1::AdGroup& g : catalog.ad_groups()) {
      RETURN_IF_ERROR(Register("ad_group", g.id(), index_.groups_.size(), id_of,
                               &index_.group_by_id_));
      if (g.bid_micros() <= 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(Named("ad_group", g.id()), ": bid_micros ",
                         g.bid_micros(), " is not positive"));
      }
      GroupEntry entry;
      entry.id = index_.texts_.AddText(g.id());
      entry.number =
          Number(g.id(), &AdIndex::LocalGroupOf, &index_.numbers_.groups);
      entry.bid_micros = g.bid_micros();
      entry.payment = PaymentOf(g);
      ASSIGN_OR_RETURN(const uint32_t campaign,
                       Parent("ad_group", g.id(), "campaign", g.campaign_id(),
                              index_.LocalCampaignOf(g.campaign_id())));
      entry.campaign = campaign & 0x7fffffffu;
      entry.enabled = Enabled(g.status());
      ASSIGN_OR_RETURN(
          entry.targeting,
          Targeting(g.has_targeting(), g.targeting(), "ad_group", g.id()));
      RETURN_IF_ERROR(AddKeywords(g, &entry));
      AddCaps(CapLevel::kAdGroup, entry.number, g);
      index_.groups_.push_back(std::move(entry));
    }
    return absl::OkStatus();
  }

  // Ads are numbered in the order of their ids.
  absl::Status AddAds(const v1::Catalog& catalog) {
    std::vector<const v1::Ad*> ads;
    ads.reserve(static_cast<size_t>(catalog.ads_size()));
    for (const v1::Ad& ad : catalog.ads()) ads.push_back(&ad);
    const auto before = [](const v1::Ad* a, const v1::Ad* b) {
      return a->id() < b->id();
    };
    // A store's catalogue is in this order already.
    if (!std::is_sorted(ads.begin(), ads.end(), before)) {
      std::sort(ads.begin(), ads.end(), before);
    }
    index_.ads_.reserve(ads.size());
    index_.by_id_.Reserve(ads.size(), [this](uint32_t i) { return AdId(i); });
    index_.tags_.resize(1);
    for (const v1::Ad* ad : ads) RETURN_IF_ERROR(AddAd(*ad));
    index_.tags_.shrink_to_fit();
    LinkAdsToGroups();
    return absl::OkStatus();
  }

  void IndexKeywords() {
    std::vector<KeywordPosting> postings;
    for (const PositiveKeyword& k : index_.positives_) {
      postings.push_back({stemmer_ == nullptr ? k.tokens : k.stems, k.type});
    }
    index_.keyword_index_ = KeywordIndex(
        stemmer_ == nullptr ? index_.keywords_ : index_.stems_, postings);
    postings.clear();
    for (const NegativeKeyword& k : index_.negatives_) {
      postings.push_back({k.tokens, k.type});
    }
    index_.negatives_index_ = KeywordIndex(index_.keywords_, postings);
  }

  void IndexTargeting() {
    HugeVector<Document>& documents = index_.documents_;
    documents.reserve(static_cast<size_t>(std::count_if(
        index_.ads_.begin(), index_.ads_.end(), [this](const AdEntry& ad) {
          return !index_.groups_[ad.group].has_positives();
        })));
    for (uint32_t i = 0; i < index_.ads_.size(); ++i) AddDocument(i);
    std::sort(documents.begin(), documents.end(),
              [](const Document& a, const Document& b) {
                if (a.enabled != b.enabled) return a.enabled > b.enabled;
                return a.value != b.value ? a.value > b.value : a.ad < b.ad;
              });
    ConjunctionIndex::Builder builder(&index_.targeting_.predicates());
    for (Document& d : documents) {
      const DocumentTargeting& targeting =
          TargetingOf(index_.groups_[d.group], &builder);
      d.scanned = targeting.scanned;
      d.ad = NumberOf(d.ad);
      builder.AddDocument(targeting.conjunctions);
    }
    index_.targeted_ = std::move(builder).Build();
  }

  void IndexVectors() {
    if (vectors_.size() == 0) return;
    index_.vectors_ =
        std::move(vectors_).Build(index_.options_.approximate_from);
    targetings_.clear();  // their conjunctions are of another index
    ConjunctionIndex::Builder builder(&index_.targeting_.predicates());
    Locals locals;
    for (size_t i = 0; i < index_.ad_numbers_.size(); ++i) {
      locals.emplace(index_.ad_numbers_[i], static_cast<uint32_t>(i));
    }
    for (size_t i = 0; i < index_.vectors_.size(); ++i) {
      const uint32_t ad = index_.vectors_.ad(i);
      const uint32_t local = base_ == nullptr ? ad : locals.find(ad)->second;
      const GroupEntry& group = index_.groups_[index_.ads_[local].group];
      builder.AddDocument(TargetingOf(group, &builder).conjunctions);
    }
    index_.vector_targeted_ = std::move(builder).Build();
  }

  uint32_t NumNegatives() const {
    return static_cast<uint32_t>(index_.negatives_.size());
  }
  uint32_t NumPositives() const {
    return static_cast<uint32_t>(index_.positives_.size());
  }

  absl::StatusOr<uint32_t> Targeting(bool present,
                                     const v1::TargetingExpression& expression,
                                     absl::string_view type,
                                     const std::string& id) {
    if (!present) return TargetingSet::kAlways;
    absl::StatusOr<uint32_t> number = index_.targeting_.Add(expression);
    if (!number.ok()) return Annotate(number.status(), Named(type, id));
    return number;
  }

  template <typename Entity>
  void AddCaps(CapLevel level, uint32_t number, const Entity& entity) {
    index_.caps_.Set(level, number, entity.id(), entity.frequency_caps());
  }

  uint32_t Text(const std::string& text) {
    index_.keyword_texts_.push_back(index_.texts_.AddText(text));
    return static_cast<uint32_t>(index_.keyword_texts_.size() - 1);
  }

  uint32_t Stems(const std::string& text) {
    if (stemmer_ == nullptr) return 0;
    std::vector<std::string> words = Tokenize(text);
    for (std::string& word : words) word = std::string(stemmer_->Stem(word));
    return index_.stems_.AddWords(words);
  }

  void AddNegative(const std::string& text, v1::MatchType type) {
    index_.negatives_.push_back({index_.keywords_.Add(text), Text(text), type});
  }

  absl::Status AddKeywords(const v1::AdGroup& group, GroupEntry* entry) {
    const auto number = static_cast<uint32_t>(index_.groups_.size());
    entry->positives_begin = NumPositives();
    entry->negatives_begin = NumNegatives();
    for (const v1::Keyword& k : group.keywords()) {
      if (k.negative()) {
        AddNegative(k.text(), TypeOf(k));
        continue;
      }
      if (k.bid_micros() < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(Named("ad_group", group.id()), ": keyword \"",
                         k.text(), "\": bid_micros ", k.bid_micros()));
      }
      index_.positives_.push_back(
          {index_.keywords_.Add(k.text()), Stems(k.text()), Text(k.text()),
           TypeOf(k), k.bid_micros() > 0 ? k.bid_micros() : group.bid_micros(),
           number});
    }
    entry->positives_end = NumPositives();
    entry->negatives_end = NumNegatives();
    std::stable_sort(index_.positives_.begin() + entry->positives_begin,
                     index_.positives_.end(),
                     [](const PositiveKeyword& a, const PositiveKeyword& b) {
                       return std::make_tuple(Rank(a.type), -a.bid_micros) <
                              std::make_tuple(Rank(b.type), -b.bid_micros);
                     });
    return absl::OkStatus();
  }

  absl::string_view AdId(uint32_t local) const {
    return index_.texts_.id(index_.ads_[local].text);
  }

  // Its bid type and conversion rate, kept once.
  uint32_t PaymentOf(const v1::AdGroup& g) {
    Payment payment = {g.bid_type() != v1::BID_TYPE_UNSPECIFIED
                           ? g.bid_type()
                           : v1::BID_TYPE_CPC,
                       g.conversion_rate() > 0 ? g.conversion_rate() : 1};
    const auto [it, added] =
        payments_.try_emplace(std::make_pair(static_cast<int>(payment.bid_type),
                                             payment.conversion_rate),
                              static_cast<uint32_t>(index_.payments_.size()));
    if (added) index_.payments_.push_back(payment);
    return it->second;
  }

  // Labels and categories, equal ones kept once.
  uint32_t TagsOf(const v1::Ad& ad) {
    AdTags tags = AdTags::Of(ad);
    if (tags.empty()) return 0;
    const auto [it, added] =
        tags_.try_emplace(std::make_pair(tags.labels, tags.categories),
                          static_cast<uint32_t>(index_.tags_.size()));
    if (added) index_.tags_.push_back(std::move(tags));
    return it->second;
  }

  absl::Status AddAd(const v1::Ad& ad) {
    const auto local = static_cast<uint32_t>(index_.ads_.size());
    RETURN_IF_ERROR(Register(
        "ad", ad.id(), local, [this](uint32_t i) { return AdId(i); },
        &index_.by_id_));
    ASSIGN_OR_RETURN(const uint32_t group,
                     Parent("ad", ad.id(), "ad_group", ad.ad_group_id(),
                            index_.LocalGroupOf(ad.ad_group_id())));
    AdEntry& entry = index_.ads_.emplace_back();
    entry.text = index_.texts_.AddAd(ad);
    entry.group = group & 0x7fffffffu;
    entry.enabled = Enabled(ad.status());
    entry.quality = ad.quality() > 0 ? static_cast<float>(ad.quality()) : 1;
    entry.tags = TagsOf(ad);
    const uint32_t number =
        Number(ad.id(), &AdIndex::LocalAdOf, &index_.numbers_.ads);
    if (base_ != nullptr) index_.ad_numbers_.push_back(number);
    AddCaps(CapLevel::kAd, number, ad);
    if (ad.embedding().empty()) return absl::OkStatus();
    return Annotate(
        vectors_.Add(number, absl::MakeConstSpan(ad.embedding().data(),
                                                 ad.embedding_size())),
        Named("ad", ad.id()));
  }

  // Counting sort of the enabled ads by group, of groups with keywords.
  void LinkAdsToGroups() {
    HugeVector<GroupEntry>& groups = index_.groups_;
    for (const AdEntry& ad : index_.ads_) {
      GroupEntry& g = groups[ad.group];
      ++(ad.enabled ? g.enabled_ads : g.paused_ads);
    }
    uint32_t next = 0;
    for (GroupEntry& g : groups) {
      g.ads_begin = next;
      if (g.has_positives()) next += g.enabled_ads;
    }
    index_.group_ads_.resize(next);
    std::vector<uint32_t> filled(groups.size(), 0);
    for (size_t i = 0; i < index_.ads_.size(); ++i) {
      const AdEntry& ad = index_.ads_[i];
      const GroupEntry& g = groups[ad.group];
      if (!ad.enabled || !g.has_positives()) continue;
      index_.group_ads_[g.ads_begin + filled[ad.group]++] = {
          NumberOf(static_cast<uint32_t>(i)), ad.quality};
    }
  }

  uint32_t NumberOf(uint32_t ad) const {
    return base_ == nullptr ? ad : index_.ad_numbers_[ad];
  }

  void AddDocument(uint32_t ad) {
    const AdEntry& entry = index_.ads_[ad];
    const GroupEntry& group = index_.groups_[entry.group];
    if (group.has_positives()) return;
    const CampaignEntry& campaign = index_.campaigns_[group.campaign];
    const bool plain = campaign.start_ms == 0 && campaign.end_ms == 0 &&
                       campaign.negatives_begin == campaign.negatives_end &&
                       group.negatives_begin == group.negatives_end;
    const bool enabled = entry.enabled && group.enabled && campaign.enabled;
    const double value = index_.ValueOf(group, group.bid_micros) *
                         static_cast<double>(entry.quality);
    index_.documents_.push_back({value, group.bid_micros, ad,
                                 uint32_t{entry.group} & (kMaxGroups - 1),
                                 enabled, plain, false});
  }

  // Of a campaign and an ad group together, normalised once per pair.
  const DocumentTargeting& TargetingOf(const GroupEntry& group,
                                       ConjunctionIndex::Builder* builder) {
    const uint32_t pair[2] = {index_.campaigns_[group.campaign].targeting,
                              group.targeting};
    const auto [it, added] = targetings_.try_emplace(
        uint64_t{pair[0]} << 32 | pair[1], DocumentTargeting());
    if (!added) return it->second;
    const auto normal = index_.targeting_.NormalForm(pair);
    if (normal.has_value()) {
      for (const Literals& literals : *normal) {
        it->second.conjunctions.push_back(builder->AddConjunction(literals));
      }
    } else {
      it->second.scanned = true;
      it->second.conjunctions = {builder->AddConjunction({})};
    }
    return it->second;
  }

  AdIndex& index_;
  const AdIndex* const base_;
  std::unique_ptr<Stemmer> stemmer_;
  absl::flat_hash_map<std::pair<int, double>, uint32_t> payments_;
  absl::flat_hash_map<std::pair<std::vector<uint64_t>, std::vector<uint64_t>>,
                      uint32_t>
      tags_;
  absl::flat_hash_map<uint64_t, DocumentTargeting> targetings_;
  VectorIndex::Builder vectors_;
};

void AdIndex::CountOwn() {
  stats_.live_advertisers = advertisers_.size();
  stats_.live_campaigns = campaigns_.size();
  stats_.live_ad_groups = groups_.size();
  stats_.ads = ads_.size();
  stats_.servable_ads = 0;
  for (const GroupEntry& g : groups_) {
    if (g.enabled && campaigns_[g.campaign].enabled) {
      stats_.servable_ads += g.enabled_ads;
    }
  }
}

absl::StatusOr<std::shared_ptr<const AdIndex>> AdIndex::Build(
    const v1::Catalog& catalog, int64_t version,
    const AdIndexOptions& options) {
  std::shared_ptr<AdIndex> index(new AdIndex);
  index->options_ = options;
  RETURN_IF_ERROR(Builder(index.get()).AddAll(catalog));
  index->version_ = version;
  index->CountOwn();
  return std::shared_ptr<const AdIndex>(std::move(index));
}

absl::StatusOr<std::shared_ptr<const AdIndex>> AdIndex::BuildOn(
    std::shared_ptr<const AdIndex> base, const CatalogChanges& changes) {
  CHECK(base->base_ == nullptr);
  std::shared_ptr<AdIndex> index(new AdIndex);
  index->options_ = base->options_;
  index->base_ = std::move(base);
  RETURN_IF_ERROR(Builder(index.get()).AddAll(changes.part));
  index->version_ = changes.version;
  index->MakeLocals();
  index->MarkDead(changes);
  index->RankNewAds();
  index->vectors_.SetOrder(
      [order = Order(*index)](uint32_t ad) { return order.Key(ad); });
  index->CountOwn();
  index->CountOnBase(changes);
  return std::shared_ptr<const AdIndex>(std::move(index));
}

std::shared_ptr<const AdIndex> AdIndex::Empty() {
  return std::shared_ptr<const AdIndex>(new AdIndex);
}

}  // namespace adrank
