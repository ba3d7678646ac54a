// The trigger's immutable snapshot of the catalogue: which ads may answer a
// request.
#ifndef ADRANK_SERVER_TRIGGER_AD_INDEX_H_
#define ADRANK_SERVER_TRIGGER_AD_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/repeated_field.h"
#include "proto/catalog.pb.h"
#include "proto/common.pb.h"
#include "server/admission.h"
#include "server/caps/cap_table.h"
#include "server/trigger/ad_tags.h"
#include "server/trigger/ad_texts.h"
#include "server/trigger/conjunction_index.h"
#include "server/trigger/id_table.h"
#include "server/trigger/keyword_index.h"
#include "server/trigger/keyword_set.h"
#include "server/trigger/retrieval.h"
#include "server/trigger/retrieve_scratch.h"
#include "server/trigger/source_merge.h"
#include "server/trigger/targeting.h"
#include "server/trigger/vector_index.h"

namespace adrank {

struct CatalogChanges;

// An ad of the catalogue with what it inherits, put together when asked for.
// The numbers are AdIndex's; views and pointers live as long as it.
struct IndexedAd {
  absl::string_view id, group_id, campaign_id, advertiser_id;
  int64_t bid_micros = 0;                   // the ad group's
  uint32_t group = 0;                       // below AdIndex::groups()
  uint32_t campaign = 0;                    // below AdIndex::campaigns()
  uint32_t advertiser = 0;                  // below AdIndex::advertisers()
  v1::BidType bid_type = v1::BID_TYPE_CPC;  // the ad group's; never UNSPECIFIED
  float quality = 1;
  double conversion_rate = 1;    // the ad group's
  int64_t reserve_micros = 0;    // the advertiser's
  const AdTags* tags = nullptr;  // null: none
};

struct AdIndexOptions {
  // Positive keywords match by the stems of their words too; a language of
  // Stemmer. Empty: by the words alone.
  std::string stemmer_language;
  // Ads with vectors from which similarity is searched approximately.
  size_t approximate_from = 1000000;
  // Whether the served model's embeddings find ads, and in what order they put
  // them (ModelVectors).
  bool by_model = false;
  v1::TriggerConfig::ModelOrder model_order = v1::TriggerConfig::BY_VALUE;
  // The pctr of an average ad, by which impressions and clicks compare
  // (AuctionOptions.mean_pctr); in [1e-6, 1).
  double mean_pctr = 0.01;

  // REQUIRES: AuctionOptions::Create(config.rank()) is OK.
  static AdIndexOptions Of(const v1::ServerConfig& config) {
    AdIndexOptions options;
    options.stemmer_language = config.trigger().stemmer_language();
    if (config.trigger().approximate_from() != 0) {
      options.approximate_from = config.trigger().approximate_from();
    }
    if (config.rank().mean_pctr() != 0) {
      options.mean_pctr = config.rank().mean_pctr();
    }
    const v1::TriggerConfig& trigger = config.trigger();
    options.by_model = trigger.quota().model() > 0;
    if (trigger.model_order() != v1::TriggerConfig::MODEL_ORDER_UNSPECIFIED) {
      options.model_order = trigger.model_order();
    }
    return options;
  }
};

struct AdIndexStats {
  // In the catalogue. No bounds of numbers: those are AdIndex::advertisers(),
  // campaigns(), groups(), size().
  uint64_t live_advertisers = 0;
  uint64_t live_campaigns = 0;
  uint64_t live_ad_groups = 0;
  uint64_t ads = 0;
  // They and all their parents are enabled (schedules aside).
  uint64_t servable_ads = 0;
};

// An ad answers a request when the targeting of its campaign and of its ad
// group is true and, if the ad group has positive keywords, one of them matches
// the query; unless it is vetoed: by a negative keyword of the ad group (of its
// own match type) or of the campaign (as BROAD), by the status of the ad or a
// parent, by the campaign's schedule, by the request (its advertiser, the ad, a
// category), by a spent budget, by a frequency cap. Of several keywords that
// match, the reported one is the first by (EXACT,
// NEAR_EXACT, PHRASE, NEAR_PHRASE, BROAD), then the highest bid, then the
// catalogue's order: an ad competes once, however many keywords match. NEAR is
// a match by stems where the words do not match, if AdIndexOptions say so;
// BROAD by stems is BROAD. Negatives are never stemmed.
//
// Ads of groups without positive keywords are documents of a ConjunctionIndex
// in the order of matches, and the search ends with the first that is beyond
// the limit; those that are paused come after all others, so they cost nothing
// until everything else has been seen. A pair of targetings with more than
// kMaxConjunctions is looked at by every request, and evaluated. Groups with
// positive keywords are found by a KeywordIndex, all that match the query;
// their targeting is evaluated then. Immutable and thread-safe.
//
// An ad with a vector answers also a request whose vector is among its nearest,
// when the targeting is true and nothing vetoes it: its vector stands for
// keywords there, and its group's positive ones are not asked. How the nearest
// are searched, all below a threshold that rises or those whose targeting is
// true, is chosen by what either is likely to cost; both are exact.
//
// The served model's embeddings (ModelVectors) make no ad match: of those that
// match by targeting or keyword they tell which to prefer, when there are more
// than the limit.
//
// A catalogue that changed is indexed in time proportional to the change: an
// index may stand on another, its base, which it shares. It has the ad groups
// that differ from the base's, each whole (with its ads, campaign and
// advertiser), and a mark on every group of the base that no longer holds. A
// request searches both and merges; nobody can tell such an index from one that
// was built anew, but by base() and by numbers: the base's entities keep
// theirs, changed or not, and new ones get those beyond. So numbers mean the
// same id in all indices on one base.
class AdIndex {
 public:
  // InvalidArgument for an unknown language, and, naming the entity, for a
  // repeated id, an unknown parent, an expression over its limits, or an ad
  // group whose bid is not positive.
  static absl::StatusOr<std::shared_ptr<const AdIndex>> Build(
      const v1::Catalog& catalog, int64_t version,
      const AdIndexOptions& options = {});
  // The catalogue of `base` with `changes`, and its options. InvalidArgument as
  // Build.
  // REQUIRES: base->base() is null, and GroupsOf(changes.keys) of it were
  // loaded (CatalogStore::LoadChanges).
  static absl::StatusOr<std::shared_ptr<const AdIndex>> BuildOn(
      std::shared_ptr<const AdIndex> base, const CatalogChanges& changes);
  // Of no ads, version 0.
  static std::shared_ptr<const AdIndex> Empty();

  // Null: built anew.
  const std::shared_ptr<const AdIndex>& base() const { return base_; }
  // With a base: the numbers of the ads that this index has of its own. All
  // others are the base's.
  absl::Span<const uint32_t> changed_ads() const { return ad_numbers_; }
  // Ids of the ad groups here which may change when the entities named do.
  // REQUIRES: base() is null.
  std::vector<std::string> GroupsOf(
      absl::Span<const v1::EntityKey> entities) const;

  int64_t version() const { return version_; }
  const AdIndexOptions& options() const { return options_; }
  // What texts were made comparable with; equal ids, equal matches. The
  // normaliser's, and the stemmer's if there is one: "1/icu-72.1/snowball-2.2.0
  // -english".
  std::string normalizer_id() const;
  const AdIndexStats& stats() const { return stats_; }
  // What matches are in the order of: what an average impression of the ad is
  // worth when it bids that much (micros, of its bid type), as micros a click.
  // It is the auction's score at pctr = mean_pctr, divided by mean_pctr, for
  // every alpha; pacing multipliers are not in it:
  //   EventBid x quality              CPC (the bid), CPA (x conversion_rate)
  //   EventBid / mean_pctr x quality  CPM (a thousandth of the bid)
  // Never falls as the bid rises.
  double ValueOf(uint32_t ad, int64_t bid_micros) const;

  // Numbers of entities are below these; one number, one id. Without a base ads
  // are numbered in the order of their ids and all numbers are in use. With
  // one, what the base has and the catalogue no longer keeps its number: Find
  // does not find it, Retrieve does not return it, Eligible is false.
  size_t size() const { return numbers_.ads; }
  size_t groups() const { return numbers_.groups; }
  size_t campaigns() const { return numbers_.campaigns; }
  size_t advertisers() const { return numbers_.advertisers; }
  IndexedAd ad(uint32_t i) const {
    const Place place = PlaceOf(i);
    return place.part->LocalAd(place.local);
  }
  absl::string_view ad_id(uint32_t i) const {
    const Place place = PlaceOf(i);
    return place.part->texts_.id(place.part->ads_[place.local].text);
  }
  absl::string_view landing_url(uint32_t i) const {
    const Place place = PlaceOf(i);
    return place.part->texts_.landing_url(place.part->ads_[place.local].text);
  }
  // What the model and the log see of an ad, its ids and attributes: the bytes
  // of the AdSnapshot, serialised deterministically (EncodeAd), which are put
  // together from what is kept; and the message, which costs a microsecond or
  // some more to parse.
  std::string SnapshotBytes(uint32_t i) const;
  v1::AdSnapshot Snapshot(uint32_t i) const;
  // As written in the catalogue; empty for kNoKeyword.
  absl::string_view keyword(uint32_t i) const;
  std::optional<uint32_t> Find(absl::string_view ad_id) const;
  std::optional<uint32_t> FindGroup(absl::string_view id) const;
  std::optional<uint32_t> FindCampaign(absl::string_view id) const;
  std::optional<uint32_t> FindAdvertiser(absl::string_view id) const;
  absl::string_view group_id(uint32_t i) const;
  // REQUIRES: i, campaign < campaigns().
  const std::string& campaign_id(uint32_t i) const { return CampaignOf(i).id; }
  const v1::Budget& budget(uint32_t campaign) const {
    return CampaignOf(campaign).budget;
  }
  // Serves in [start_ms, end_ms); 0: open on that side.
  int64_t campaign_start_ms(uint32_t campaign) const {
    return CampaignOf(campaign).start_ms;
  }
  int64_t campaign_end_ms(uint32_t campaign) const {
    return CampaignOf(campaign).end_ms;
  }
  // IANA name; empty is UTC.
  const std::string& time_zone(uint32_t campaign) const {
    return CampaignOf(campaign).time_zone;
  }

  // Of memory, without the base's, keywords' and vectors' indices included.
  // What there is once a campaign or advertiser is not counted.
  struct Bytes {
    size_t texts = 0;      // ids, landing pages, attributes
    size_t entries = 0;    // of ads and groups, their ids' tables
    size_t targeting = 0;  // expressions, documents and their index
    size_t keywords = 0;   // without their texts
    size_t vectors = 0;
    size_t sum() const {
      return texts + entries + targeting + keywords + vectors;
    }
  };
  Bytes bytes() const;

  // Frequency caps, by the same numbers; some may be of entities that are gone.
  const CapTable& caps() const { return caps_; }

  // Up to `limit` matches. Clears *out first.
  void Retrieve(const RetrieveRequest& request, size_t limit,
                RetrieveScratch* scratch, Retrieval* out) const;

  // Up to `limit` matches of all sources, the best that `quota` allows
  // (MergeSources); by vector those of at least min_similarity; by the model
  // when it has a quota. Without quotas and without a vector: what Retrieve
  // returns. Clears *out first.
  void RetrieveSources(const RetrieveRequest& request, const SourceQuota& quota,
                       float min_similarity, size_t limit,
                       RetrieveScratch* scratch, Retrieval* out) const;

  // Components of the ads' vectors; 0 when no ad has one.
  size_t vector_dims() const {
    return vectors_.size() == 0 && base_ != nullptr ? base_->vector_dims()
                                                    : vectors_.dims();
  }
  // Of this index without its base.
  const VectorIndex& vectors() const { return vectors_; }
  // The same: its enabled ads without positive keywords, in the order in which
  // targeting finds them. REQUIRES: i < documents().
  size_t documents() const;
  uint32_t document(size_t i) const { return documents_[i].ad; }
  // The same: its enabled ads with positive keywords.
  void ForEachKeywordAd(absl::FunctionRef<void(uint32_t ad)> f) const;
  // The order of ids: that of these.
  uint64_t OrderKey(uint32_t ad) const;
  // Cosine of the ad's vector and the request's, when both have one. Slow.
  std::optional<float> SimilarityOf(uint32_t ad,
                                    const RetrieveRequest& request) const;

  // The product by which the model would have found the ad, bidding that much;
  // absent: it has no vector for it, or is not asked. Slow.
  std::optional<float> ProductOf(uint32_t ad, int64_t bid_micros,
                                 const RetrieveRequest& request) const;

  // Prepares *scratch for Eligible and MatchedAttributes of this request;
  // Retrieve does so too.
  void Resolve(const RetrieveRequest& request, RetrieveScratch* scratch) const;
  // Whether the ad's targeting is true of the request and no veto hits it;
  // positive keywords are not asked. Fast: for who finds ads in other ways, and
  // asks before choosing among them.
  bool Eligible(uint32_t ad, const RetrieveRequest& request,
                RetrieveScratch* scratch) const;
  // Appends what of the context the ad's targeting asks for and found, such as
  // "country=DE" (TargetingSet::AppendEvidence); nothing twice. For ads that
  // are served.
  void MatchedAttributes(uint32_t ad, const RetrieveRequest& request,
                         const RetrieveScratch& scratch,
                         std::vector<std::string>* out) const;

  // The first of status, schedule, blocked, budget, cap that vetoes an ad which
  // the caller named (its targeting and keywords are not asked).
  std::optional<Veto> VetoOfNamed(uint32_t ad,
                                  const RetrieveRequest& request) const;

  // Why Retrieve would not return the ad, as a sentence that names the entity
  // and the condition; empty when it would (limit aside). Order: status,
  // schedule, blocked, budget, cap, campaign targeting, ad group targeting,
  // keywords, negatives. Slow. Examples:
  //   ad "a1" is not in the catalogue
  //   campaign "c1" is paused
  //   campaign "c1" ended 2026-01-01T00:00:00Z
  //   not matched: targeting in_set(country) of ad_group "g1"
  //   not matched: no keyword of ad_group "g1" matches the query "shoes"
  //   negative keyword "free" of campaign "c1"
  std::string WhyNot(absl::string_view ad_id,
                     const RetrieveRequest& request) const;
  // The part of WhyNot that VetoOfNamed is about; empty when there is none.
  std::string WhyNotNamed(uint32_t ad, const RetrieveRequest& request) const;

 private:
  struct CampaignEntry {
    std::string id;
    uint32_t number = 0;
    uint32_t advertiser = 0;         // into advertisers_
    uint32_t advertiser_number = 0;  // of the request's
    bool enabled = true;             // with its advertiser
    bool own_enabled = true;
    int64_t start_ms = 0, end_ms = 0;
    uint32_t targeting = TargetingSet::kAlways;
    uint32_t negatives_begin = 0, negatives_end = 0;  // into negatives_
    v1::Budget budget;
    std::string time_zone;
  };
  struct PositiveKeyword {
    uint32_t tokens;  // number in keywords_
    uint32_t stems;   // in stems_, when there is a stemmer
    uint32_t text;    // keyword()
    v1::MatchType type;
    int64_t bid_micros;
    uint32_t group;
  };
  struct NegativeKeyword {
    uint32_t tokens;
    uint32_t text;
    v1::MatchType type;
  };
  struct Payment {
    v1::BidType bid_type;
    double conversion_rate;
  };
  // Entries of ads, groups and documents are many: they are packed.
  struct GroupEntry {
    int64_t bid_micros = 0;
    AdTexts::Handle id = 0;
    uint32_t number = 0;
    uint32_t campaign : 31 = 0;  // into campaigns_
    uint32_t enabled : 1 = 1;
    uint32_t payment = 0;  // into payments_
    uint32_t targeting = TargetingSet::kAlways;
    // Sorted so that the first match is the one to report.
    uint32_t positives_begin = 0, positives_end = 0;
    uint32_t negatives_begin = 0, negatives_end = 0;
    // Ads that are paused themselves, and that are not; the latter, if there
    // are positive keywords, by id in group_ads_ from ads_begin.
    uint32_t paused_ads = 0, enabled_ads = 0;
    uint32_t ads_begin = 0;

    bool has_positives() const { return positives_begin != positives_end; }
  };
  struct AdEntry {
    AdTexts::Handle text;
    uint32_t group : 31;   // into groups_
    uint32_t enabled : 1;  // without its parents
    float quality;
    uint32_t tags;  // into tags_; 0: none
  };
  struct AdvertiserEntry {
    std::string id;
    uint32_t number = 0;
    bool enabled = true;
    int64_t reserve_micros = 0;
  };
  struct GroupAd {
    uint32_t ad;  // its number
    float quality;
  };
  // An ad of a group without positive keywords, as far as most requests need
  // to look at it. Better ones first; those that are paused last.
  struct Document {
    double value;  // ValueOf
    int64_t bid_micros;
    uint32_t ad;           // its number
    uint32_t group : 29;   // into groups_
    uint32_t enabled : 1;  // with its parents
    uint32_t plain : 1;    // no schedule, no negative keywords
    uint32_t scanned : 1;  // its conjunctions are too many: evaluate
  };
  static constexpr uint32_t kMaxGroups = 1u << 29;
  class Builder;
  using Locals = absl::flat_hash_map<uint32_t, uint32_t>;

  // Where an ad's entry lies.
  struct Place {
    const AdIndex* part;
    uint32_t local;
  };
  // One search of one part.
  struct Search {
    int64_t time_ms;
    size_t limit;
    // One bit a group of the part: it no longer holds. Null: all hold.
    const std::vector<uint64_t>* dead;
    RetrieveScratch::Part* part;
    RetrieveScratch* scratch;
    Retrieval* out;
    bool keywords, targeting;  // by which to search
  };
  class Order;  // ad_index_order.h

  AdIndex() = default;
  Place PlaceOf(uint32_t ad) const {
    if (base_ == nullptr) return {this, ad};
    const auto it = ad_locals_.find(ad);
    if (it == ad_locals_.end()) return {base_.get(), ad};
    return {this, it->second};
  }
  IndexedAd LocalAd(uint32_t local) const {
    const AdEntry& a = ads_[local];
    const GroupEntry& g = groups_[a.group];
    const CampaignEntry& c = campaigns_[g.campaign];
    const AdvertiserEntry& v = advertisers_[c.advertiser];
    const Payment& p = payments_[g.payment];
    return {texts_.id(a.text),
            texts_.text(g.id),
            c.id,
            v.id,
            g.bid_micros,
            g.number,
            c.number,
            c.advertiser_number,
            p.bid_type,
            a.quality,
            p.conversion_rate,
            v.reserve_micros,
            a.tags == 0 ? nullptr : &tags_[a.tags]};
  }
  // By id, in this part alone.
  std::optional<uint32_t> LocalAdOf(absl::string_view id) const;
  std::optional<uint32_t> LocalGroupOf(absl::string_view id) const;
  std::optional<uint32_t> LocalCampaignOf(absl::string_view id) const;
  std::optional<uint32_t> LocalAdvertiserOf(absl::string_view id) const;
  const CampaignEntry& CampaignOf(uint32_t number) const {
    if (base_ == nullptr) return campaigns_[number];
    const auto it = campaign_locals_.find(number);
    return it == campaign_locals_.end() ? base_->campaigns_[number]
                                        : campaigns_[it->second];
  }
  // REQUIRES: the ad is of this part.
  const GroupEntry& GroupOf(const AdEntry& ad) const {
    return groups_[ad.group];
  }
  static bool Has(const std::vector<uint64_t>& bits, uint32_t i) {
    return (bits[i / 64] >> (i % 64) & 1) != 0;
  }
  // Of the base; the changes do not have it.
  bool Dead(const AdEntry& ad) const { return Has(dead_groups_, ad.group); }
  int PartOf(const AdIndex* part) const {
    return base_ != nullptr && part == this ? 1 : 0;
  }
  void CountOwn();
  void MakeLocals();
  void MarkDead(const CatalogChanges& changes);
  void CountOnBase(const CatalogChanges& changes);
  void RankNewAds();
  bool by_stems() const { return !options_.stemmer_language.empty(); }
  // Into scratch->stems.
  void StemQuery(absl::string_view query, RetrieveScratch* scratch) const;
  void ResolvePart(const RetrieveRequest& request, RetrieveScratch* scratch,
                   RetrieveScratch::Part* part) const;
  // How a keyword whose words (or stems) match does; UNSPECIFIED: not at all.
  v1::MatchType TypeOfMatch(const PositiveKeyword& keyword,
                            const RetrieveScratch::Part& part) const;
  void RetrieveBy(const RetrieveRequest& request, bool keywords, bool targeting,
                  size_t limit, RetrieveScratch* scratch, Retrieval* out) const;
  void RetrieveSimilar(const RetrieveRequest& request, float min_similarity,
                       size_t limit, RetrieveScratch* scratch,
                       Retrieval* out) const;
  // Those that the model puts first, of what matches by targeting and of all
  // that did by keyword, which are given.
  void RetrieveByModel(const RetrieveRequest& request, const Retrieval& keyword,
                       size_t limit, RetrieveScratch* scratch,
                       Retrieval* out) const;
  // Of the documents of `part`, which is this or the base; `model` is its own.
  void SearchByModel(const AdIndex& part, const ModelVectors& model,
                     const RetrieveRequest& request, RetrieveScratch* scratch,
                     Retrieval* out) const;
  void AddKeywordAds(const Retrieval& keyword, const RetrieveRequest& request,
                     RetrieveScratch* scratch, Retrieval* out) const;
  // Whether the document of `part` is eligible. When it is but for its budget
  // and *closed is given, sets that.
  bool EligibleIn(const AdIndex& part, uint32_t ad,
                  const RetrieveRequest& request, RetrieveScratch* scratch,
                  bool* closed) const;
  // Of `part`, which is this or the base.
  void SearchVectors(const AdIndex& part, const RetrieveRequest& request,
                     RetrieveScratch* scratch, Retrieval* out) const;
  // Whether an ad with a vector in `part` is eligible; counts it when it is
  // not and `out` is not null.
  bool Admit(const AdIndex& part, uint32_t vector,
             const RetrieveRequest& request, RetrieveScratch* scratch,
             Retrieval* out) const;
  // No targeting or keyword leads to the ad.
  bool OnlySimilar(uint32_t ad, const RetrieveScratch& scratch) const;
  // Appends what this part has. True when some was found by a keyword: then
  // the matches are in no order.
  bool SearchPart(const Search& search) const;
  void Merge(size_t middle, RetrieveScratch* scratch, Retrieval* out) const;
  std::optional<Veto> VetoOfLocal(uint32_t local, uint32_t ad,
                                  const RetrieveRequest& request) const;
  std::string WhyNotLocal(uint32_t local, uint32_t ad,
                          const RetrieveRequest& request) const;
  std::string WhyTargeting(const GroupEntry& group,
                           const ResolvedContext& context) const;
  bool MatchTargeting(const GroupEntry& group, ResolvedContext* context) const;
  void RetrieveByKeyword(const Search& search) const;
  void RetrieveTargeted(const Search& search) const;
  // False when there are as many matches as `end`.
  bool AddDocument(const Document& document, size_t end,
                   const Search& search) const;
  const NegativeKeyword* FindNegative(const GroupEntry& group,
                                      const ResolvedQuery& query,
                                      bool* of_campaign) const;
  bool BlocksAd(uint32_t ad, const RetrieveScratch& scratch) const;
  std::optional<Veto> VetoGroup(const GroupEntry& group, int64_t time_ms,
                                const RetrieveScratch& scratch,
                                const RetrieveScratch::Part& part) const;
  // Of an ad of quality 1.
  double ValueOf(const GroupEntry& group, int64_t bid_micros) const;
  void KeepLostToBudget(Retrieval* out) const;
  void AddGroup(const GroupEntry& group, const AdMatch& match,
                const Search& search) const;
  void ResolveBlocked(const RetrieveRequest& request,
                      std::vector<uint32_t>* blocked) const;
  bool AnyKeywordMatches(const GroupEntry& group,
                         const RetrieveScratch::Part& part) const;
  std::string WhyStatus(const AdEntry& ad) const;

  int64_t version_ = 0;
  AdIndexStats stats_;
  struct {
    uint32_t ads = 0, groups = 0, campaigns = 0, advertisers = 0;
  } numbers_;
  // What differs from the base, when there is one; else everything. Entries
  // refer to one another by their places in these arrays ("local").
  std::vector<AdvertiserEntry> advertisers_;
  std::vector<CampaignEntry> campaigns_;
  HugeVector<GroupEntry> groups_;
  HugeVector<AdEntry> ads_;
  std::vector<Payment> payments_;
  std::vector<AdTags> tags_;
  AdTexts texts_;
  std::vector<GroupAd> group_ads_;
  std::vector<PositiveKeyword> positives_;
  std::vector<NegativeKeyword> negatives_;
  std::vector<AdTexts::Handle> keyword_texts_;
  TargetingSet targeting_;
  AdIndexOptions options_;
  KeywordSet keywords_;
  KeywordSet stems_;  // of positives, by_stems() only
  HugeVector<Document> documents_;
  ConjunctionIndex targeted_;     // of documents_
  KeywordIndex keyword_index_;    // of positives_
  KeywordIndex negatives_index_;  // of negatives_
  VectorIndex vectors_;
  ConjunctionIndex vector_targeted_;  // of vectors_, in their order
  CapTable caps_;                     // with the base's
  // Id -> local.
  IdTable by_id_, group_by_id_, campaign_by_id_, advertiser_by_id_;

  // The rest is empty without a base.
  std::shared_ptr<const AdIndex> base_;
  std::vector<uint64_t> dead_groups_;  // a bit each of the base's
  std::vector<uint32_t> ad_numbers_;   // [local]
  // Number -> local.
  Locals ad_locals_, group_locals_, campaign_locals_;
  // [new ads]: how many of the base's have lesser ids.
  std::vector<uint32_t> new_ad_ranks_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_AD_INDEX_H_
