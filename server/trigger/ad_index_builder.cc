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

using IdMap = absl::flat_hash_map<std::string, uint32_t>;

bool Enabled(v1::EntityStatus status) {
  return status != v1::ENTITY_STATUS_PAUSED;
}

std::string Named(absl::string_view type, absl::string_view id) {
  return absl::StrCat(type, " \"", id, "\"");
}

absl::Status Register(absl::string_view type, const std::string& id, size_t i,
                      IdMap* ids) {
  if (id.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(type, " without an id"));
  }
  if (!ids->emplace(id, static_cast<uint32_t>(i)).second) {
    return absl::InvalidArgumentError(
        absl::StrCat(Named(type, id), ": occurs twice"));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> Parent(absl::string_view type, const std::string& id,
                                absl::string_view parent_type,
                                const std::string& parent, const IdMap& ids) {
  const auto it = ids.find(parent);
  if (it == ids.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        Named(type, id), ": unknown ", Named(parent_type, parent)));
  }
  return it->second;
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
    IndexKeywords();
    IndexTargeting();
    IndexVectors();
    return absl::OkStatus();
  }

 private:
  // The number of an entity: its number in the base, else the next one; local
  // without a base.
  uint32_t Number(const std::string& id, const Ids AdIndex::*ids,
                  uint32_t* next) const {
    if (base_ != nullptr) {
      const Ids& known = base_->*ids;
      const auto it = known.find(id);
      if (it != known.end()) return it->second;
    }
    return (*next)++;
  }

  absl::Status AddAdvertisers(const v1::Catalog& catalog) {
    for (const v1::Advertiser& a : catalog.advertisers()) {
      RETURN_IF_ERROR(Register("advertiser", a.id(), index_.advertisers_.size(),
                               &index_.advertiser_by_id_));
      const uint32_t number = Number(a.id(), &AdIndex::advertiser_by_id_,
                                     &index_.numbers_.advertisers);
      index_.advertisers_.push_back(
          {a.id(), number, Enabled(a.status()), a.reserve_micros()});
    }
    return absl::OkStatus();
  }

  absl::Status AddCampaigns(const v1::Catalog& catalog) {
    for (const v1::Campaign& c : catalog.campaigns()) {
      RETURN_IF_ERROR(Register("campaign", c.id(), index_.campaigns_.size(),
                               &index_.campaign_by_id_));
      CampaignEntry entry;
      entry.id = c.id();
      entry.number =
          Number(c.id(), &AdIndex::campaign_by_id_, &index_.numbers_.campaigns);
      ASSIGN_OR_RETURN(entry.advertiser,
                       Parent("campaign", c.id(), "advertiser",
                              c.advertiser_id(), index_.advertiser_by_id_));
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
    index_.groups_.reserve(static_cast<size_t>(catalog.ad_groups_size()));
    index_.group_by_id_.reserve(static_cast<size_t>(catalog.ad_groups_size()));
    for (const v1::AdGroup& g : catalog.ad_groups()) {
      RETURN_IF_ERROR(Register("ad_group", g.id(), index_.groups_.size(),
                               &index_.group_by_id_));
      if (g.bid_micros() <= 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(Named("ad_group", g.id()), ": bid_micros ",
                         g.bid_micros(), " is not positive"));
      }
      GroupEntry entry;
      entry.id = g.id();
      entry.number =
          Number(g.id(), &AdIndex::group_by_id_, &index_.numbers_.groups);
      entry.bid_micros = g.bid_micros();
      if (g.bid_type() != v1::BID_TYPE_UNSPECIFIED) {
        entry.bid_type = g.bid_type();
      }
      if (g.conversion_rate() > 0) entry.conversion_rate = g.conversion_rate();
      ASSIGN_OR_RETURN(entry.campaign,
                       Parent("ad_group", g.id(), "campaign", g.campaign_id(),
                              index_.campaign_by_id_));
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
    for (const v1::Ad& ad : catalog.ads()) ads.push_back(&ad);
    std::sort(ads.begin(), ads.end(), [](const v1::Ad* a, const v1::Ad* b) {
      return a->id() < b->id();
    });
    index_.ads_.reserve(ads.size());
    index_.by_id_.reserve(ads.size());
    for (const v1::Ad* ad : ads) RETURN_IF_ERROR(AddAd(*ad));
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
    for (uint32_t i = 0; i < index_.ads_.size(); ++i) AddDocument(i);
    std::vector<Document>& documents = index_.documents_;
    std::sort(documents.begin(), documents.end(),
              [](const Document& a, const Document& b) {
                return std::make_tuple(!a.enabled, -a.value, a.ad) <
                       std::make_tuple(!b.enabled, -b.value, b.ad);
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
      const GroupEntry& group = index_.groups_[group_of_ad_[local]];
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
    index_.keyword_texts_.push_back(text);
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

  absl::Status AddAd(const v1::Ad& ad) {
    RETURN_IF_ERROR(
        Register("ad", ad.id(), index_.ads_.size(), &index_.by_id_));
    IndexedAd entry;
    ASSIGN_OR_RETURN(entry.group,
                     Parent("ad", ad.id(), "ad_group", ad.ad_group_id(),
                            index_.group_by_id_));
    const GroupEntry& group = index_.groups_[entry.group];
    const CampaignEntry& campaign = index_.campaigns_[group.campaign];
    entry.snapshot.set_ad_id(ad.id());
    entry.snapshot.set_ad_group_id(group.id);
    entry.snapshot.set_campaign_id(campaign.id);
    entry.snapshot.set_advertiser_id(
        index_.advertisers_[campaign.advertiser].id);
    *entry.snapshot.mutable_attributes() = ad.attributes();
    entry.encoded = std::make_shared<const EncodedAd>(EncodeAd(entry.snapshot));
    entry.landing_url = ad.landing_url();
    entry.bid_micros = group.bid_micros;
    entry.bid_type = group.bid_type;
    entry.conversion_rate = group.conversion_rate;
    entry.reserve_micros =
        index_.advertisers_[campaign.advertiser].reserve_micros;
    if (ad.quality() > 0) entry.quality = static_cast<float>(ad.quality());
    entry.tags = AdTags::Of(ad);
    group_of_ad_.push_back(entry.group);
    entry.group = group.number;
    entry.campaign = campaign.number;
    entry.advertiser = campaign.advertiser_number;
    const uint32_t number =
        Number(ad.id(), &AdIndex::by_id_, &index_.numbers_.ads);
    if (base_ != nullptr) index_.ad_numbers_.push_back(number);
    AddCaps(CapLevel::kAd, number, ad);
    index_.ads_.push_back(std::move(entry));
    index_.ad_enabled_.push_back(Enabled(ad.status()));
    if (ad.embedding().empty()) return absl::OkStatus();
    return Annotate(
        vectors_.Add(number, absl::MakeConstSpan(ad.embedding().data(),
                                                 ad.embedding_size())),
        Named("ad", ad.id()));
  }

  // Counting sort of the enabled ads by group.
  void LinkAdsToGroups() {
    std::vector<GroupEntry>& groups = index_.groups_;
    for (size_t i = 0; i < index_.ads_.size(); ++i) {
      GroupEntry& g = groups[group_of_ad_[i]];
      ++(index_.ad_enabled_[i] ? g.ads_end : g.paused_ads);
    }
    uint32_t next = 0;
    for (GroupEntry& g : groups) {
      g.ads_begin = next;
      next += g.ads_end;
      g.ads_end = g.ads_begin;
    }
    index_.group_ads_.resize(next);
    for (size_t i = 0; i < index_.ads_.size(); ++i) {
      if (!index_.ad_enabled_[i]) continue;
      GroupEntry& g = groups[group_of_ad_[i]];
      index_.group_ads_[g.ads_end++] = {NumberOf(static_cast<uint32_t>(i)),
                                        index_.ads_[i].quality};
    }
  }

  uint32_t NumberOf(uint32_t ad) const {
    return base_ == nullptr ? ad : index_.ad_numbers_[ad];
  }

  void AddDocument(uint32_t ad) {
    const uint32_t number = group_of_ad_[ad];
    const GroupEntry& group = index_.groups_[number];
    if (group.positives_begin != group.positives_end) return;
    const CampaignEntry& campaign = index_.campaigns_[group.campaign];
    const bool plain = campaign.start_ms == 0 && campaign.end_ms == 0 &&
                       campaign.negatives_begin == campaign.negatives_end &&
                       group.negatives_begin == group.negatives_end;
    const bool enabled =
        index_.ad_enabled_[ad] && group.enabled && campaign.enabled;
    const double value = index_.ValueOf(group, group.bid_micros) *
                         static_cast<double>(index_.ads_[ad].quality);
    index_.documents_.push_back({value, group.bid_micros, ad, number,
                                 campaign.number, enabled, plain, false});
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
  std::vector<uint32_t> group_of_ad_;  // [ads], into groups_
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
      stats_.servable_ads += g.ads_end - g.ads_begin;
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
