// AdIndex on a base: T1, T4 and T7 along update sequences, against the scan of
// the messages and against an index that is built anew. A failure prints its
// seed.
#include <atomic>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/catalog_loader.h"
#include "server/predict/predictor.h"
#include "server/trigger/ad_index.h"
#include "storage/catalog_store.h"
#include "tests/server/random_catalog.h"
#include "tests/server/serving_testing.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::MixBidTypes;
using ::adrank::testing::NaiveAnswer;
using ::adrank::testing::NaiveTrigger;
using ::adrank::testing::RandomCatalog;
using ::adrank::testing::RandomContext;
using ::adrank::testing::RandomExpression;
using ::adrank::testing::RandomGroup;
using ::adrank::testing::RandomStatus;
using ::adrank::testing::RandomWords;
using ::adrank::testing::TempDir;

using Index = std::shared_ptr<const AdIndex>;
using Strings = google::protobuf::RepeatedPtrField<std::string>;
constexpr size_t kAll = 1000000;

// ---- a catalogue that changes, and what the store would tell of it ----

class ChangingCatalog {
  // Null when there is none.
  template <typename Entity>
  Entity* Any(google::protobuf::RepeatedPtrField<Entity>* entities) {
    if (entities->empty()) return nullptr;
    return entities->Mutable(
        static_cast<int>(rng_.Below(static_cast<uint64_t>(entities->size()))));
  }

 public:
  ChangingCatalog(Rng* rng, int ads)
      : rng_(*rng), catalog_(RandomCatalog(rng, ads)), next_(ads) {
    if (mixed_) MixBidTypes(rng, &catalog_);
  }

  const v1::Catalog& catalog() const { return catalog_; }
  int64_t version() const { return version_; }
  // A new base: nothing has changed since.
  void Forget() { keys_.clear(); }

  void Mutate() {
    ++version_;
    switch (rng_.Below(11)) {
      case 0:
        return RemoveAd();
      case 1:
        return InsertRemovedAd();
      case 2:
        return ChangeCampaign();
      case 3:
        if (auto* ad = Any(catalog_.mutable_ads())) {
          ad->set_status(RandomStatus(&rng_));
          Touch(v1::ENTITY_TYPE_AD, ad->id());
        }
        return;
      case 4: {
        auto* advertiser = Any(catalog_.mutable_advertisers());
        advertiser->set_status(RandomStatus(&rng_));
        return Touch(v1::ENTITY_TYPE_ADVERTISER, advertiser->id());
      }
      case 5:  // moves
        if (auto* ad = Any(catalog_.mutable_ads())) {
          ad->set_ad_group_id(Any(catalog_.mutable_ad_groups())->id());
          Touch(v1::ENTITY_TYPE_AD, ad->id());
        }
        return;
      case 6: {
        auto* group = Any(catalog_.mutable_ad_groups());
        group->set_campaign_id(Any(catalog_.mutable_campaigns())->id());
        return Touch(v1::ENTITY_TYPE_AD_GROUP, group->id());
      }
      case 7:
        return InsertTree();
      case 8:
        return RemoveEmptyGroup();
      default:
        return ChangeGroup();
    }
  }

  // What CatalogStore::LoadChanges gives since the last Forget, by the wording
  // of its contract.
  CatalogChanges Changes(const AdIndex& base) const {
    CatalogChanges changes;
    changes.version = version_;
    for (const auto& [type, id] : keys_) {
      changes.keys.emplace_back();
      changes.keys.back().set_type(type);
      changes.keys.back().set_id(id);
    }
    std::set<std::string> groups, campaigns, advertisers;
    for (const std::string& id : base.GroupsOf(changes.keys)) groups.insert(id);
    const auto changed = [&](v1::EntityType type, const std::string& id) {
      return keys_.count({type, id}) > 0;
    };
    for (const auto& c : catalog_.campaigns()) {
      if (changed(v1::ENTITY_TYPE_CAMPAIGN, c.id()) ||
          changed(v1::ENTITY_TYPE_ADVERTISER, c.advertiser_id())) {
        campaigns.insert(c.id());
      }
    }
    for (const auto& g : catalog_.ad_groups()) {
      if (changed(v1::ENTITY_TYPE_AD_GROUP, g.id()) ||
          campaigns.count(g.campaign_id()) > 0) {
        groups.insert(g.id());
      }
    }
    for (const auto& ad : catalog_.ads()) {
      if (changed(v1::ENTITY_TYPE_AD, ad.id())) groups.insert(ad.ad_group_id());
    }
    v1::Catalog* part = &changes.part;
    for (const auto& ad : catalog_.ads()) {
      if (groups.count(ad.ad_group_id()) > 0) *part->add_ads() = ad;
    }
    for (const auto& g : catalog_.ad_groups()) {
      if (groups.count(g.id()) == 0) continue;
      *part->add_ad_groups() = g;
      campaigns.insert(g.campaign_id());
    }
    for (const auto& c : catalog_.campaigns()) {
      if (campaigns.count(c.id()) == 0) continue;
      *part->add_campaigns() = c;
      advertisers.insert(c.advertiser_id());
    }
    for (const auto& a : catalog_.advertisers()) {
      if (advertisers.count(a.id()) > 0 ||
          changed(v1::ENTITY_TYPE_ADVERTISER, a.id())) {
        *part->add_advertisers() = a;
      }
    }
    return changes;
  }

 private:
  void Touch(v1::EntityType type, const std::string& id) {
    keys_.insert({type, id});
  }

  void RemoveAd() {
    auto* ads = catalog_.mutable_ads();
    if (ads->empty()) return;
    const int i = static_cast<int>(rng_.Below(ads->size()));
    Touch(v1::ENTITY_TYPE_AD, ads->Get(i).id());
    removed_.push_back(ads->Get(i));
    ads->DeleteSubrange(i, 1);
  }
  void InsertRemovedAd() {
    if (removed_.empty()) return;
    v1::Ad ad = removed_.back();
    removed_.pop_back();
    ad.set_ad_group_id(Any(catalog_.mutable_ad_groups())->id());
    Touch(v1::ENTITY_TYPE_AD, ad.id());
    *catalog_.add_ads() = ad;
  }
  void ChangeCampaign() {
    auto* c = Any(catalog_.mutable_campaigns());
    c->set_status(RandomStatus(&rng_));
    *c->mutable_targeting() = RandomExpression(&rng_, 2);
    if (rng_.Bernoulli(0.3)) c->add_negative_keywords(RandomWords(&rng_, 2));
    if (rng_.Bernoulli(0.3)) {
      c->set_advertiser_id(Any(catalog_.mutable_advertisers())->id());
    }
    Touch(v1::ENTITY_TYPE_CAMPAIGN, c->id());
  }
  void ChangeGroup() {
    auto* g = Any(catalog_.mutable_ad_groups());
    v1::AdGroup group = RandomGroup(&rng_);
    if (mixed_) MixBidTypes(&rng_, &group);
    group.set_id(g->id());
    group.set_campaign_id(g->campaign_id());
    *g = group;
    Touch(v1::ENTITY_TYPE_AD_GROUP, g->id());
  }
  // Some of a new advertiser, campaign, group and ad; ids before, between and
  // after those of the base.
  void InsertTree() {
    const std::string id = absl::StrCat(rng_.Bernoulli(0.3)   ? "aa"
                                        : rng_.Bernoulli(0.5) ? "ad5x"
                                                              : "z",
                                        next_++);
    std::string advertiser = Any(catalog_.mutable_advertisers())->id();
    std::string campaign = Any(catalog_.mutable_campaigns())->id();
    std::string group = Any(catalog_.mutable_ad_groups())->id();
    const uint64_t levels = 1 + rng_.Below(4);
    if (levels == 4) {
      catalog_.add_advertisers()->set_id(advertiser = id);
      Touch(v1::ENTITY_TYPE_ADVERTISER, id);
    }
    if (levels >= 3) {
      catalog_.add_campaigns()->set_id(campaign = id);
      catalog_.mutable_campaigns()->rbegin()->set_advertiser_id(advertiser);
      Touch(v1::ENTITY_TYPE_CAMPAIGN, id);
    }
    if (levels >= 2) {
      v1::AdGroup* g = catalog_.add_ad_groups();
      *g = RandomGroup(&rng_);
      if (mixed_) MixBidTypes(&rng_, g);
      g->set_id(group = id);
      g->set_campaign_id(campaign);
      Touch(v1::ENTITY_TYPE_AD_GROUP, id);
    }
    v1::Ad* ad = catalog_.add_ads();
    ad->set_id(id);
    ad->set_ad_group_id(group);
    Touch(v1::ENTITY_TYPE_AD, id);
  }
  void RemoveEmptyGroup() {
    std::set<std::string> used;
    for (const auto& ad : catalog_.ads()) used.insert(ad.ad_group_id());
    auto* groups = catalog_.mutable_ad_groups();
    for (int i = 0; i < groups->size() && groups->size() > 1; ++i) {
      if (used.count(groups->Get(i).id()) > 0) continue;
      Touch(v1::ENTITY_TYPE_AD_GROUP, groups->Get(i).id());
      groups->DeleteSubrange(i, 1);
      return;
    }
  }

  Rng& rng_;
  const bool mixed_ = rng_.Bernoulli(0.5);  // CPC, CPM and CPA; qualities
  v1::Catalog catalog_;
  int next_;
  int64_t version_ = 1;
  std::vector<v1::Ad> removed_;
  std::set<std::pair<v1::EntityType, std::string>> keys_;
};

// ---- what an index says of a request, without numbers ----

struct Answer {
  std::vector<std::string> matches;
  std::string counts;
  std::set<std::string> closed;
};

Answer Ask(const AdIndex& index, const RetrieveRequest& request, size_t limit) {
  RetrieveScratch scratch;
  Retrieval out;
  index.Retrieve(request, limit, &scratch, &out);
  Answer answer;
  for (const AdMatch& m : out.matches) {
    std::vector<std::string> evidence;
    index.MatchedAttributes(m.ad, request, scratch, &evidence);
    answer.matches.push_back(absl::StrCat(index.ad(m.ad).id, "/", m.bid_micros,
                                          "/", m.match_type, "/",
                                          std::string(index.keyword(m.keyword)),
                                          "/", absl::StrJoin(evidence, ";")));
    EXPECT_EQ(index.Find(index.ad(m.ad).id), m.ad);
    EXPECT_TRUE(index.Eligible(m.ad, request, &scratch));
  }
  for (const AdMatch& m : out.closed) {
    answer.closed.insert(std::string(index.ad_id(m.ad)));
  }
  if (!out.truncated) {
    answer.counts =
        absl::StrCat(out.matched, " ", out.filtered, " ",
                     absl::StrJoin(out.filtered_by, ","), " ", out.reason);
  }
  return answer;
}

// Every other campaign, by id.
AdmissionTerms Closed(const AdIndex& index, int parity) {
  const auto gates =
      std::make_shared<std::vector<CampaignGate>>(index.campaigns());
  for (uint32_t c = 0; c < index.campaigns(); ++c) {
    (*gates)[c].closed =
        index.campaign_id(c).back() % 2 == static_cast<char>(parity % 2);
  }
  AdmissionTerms terms;
  terms.campaigns = *gates;
  terms.campaigns_owner = gates;
  return terms;
}

v1::Context ARequest(Rng* rng) {
  v1::Context context = RandomContext(rng);
  if (rng->Bernoulli(0.7)) {
    context.set_query(RandomWords(rng, rng->Bernoulli(0.2) ? 14 : 5));
  }
  return context;
}

void ExpectSameStats(const AdIndexStats& a, const AdIndexStats& b) {
  EXPECT_EQ(a.live_advertisers, b.live_advertisers);
  EXPECT_EQ(a.live_campaigns, b.live_campaigns);
  EXPECT_EQ(a.live_ad_groups, b.live_ad_groups);
  EXPECT_EQ(a.ads, b.ads);
  EXPECT_EQ(a.servable_ads, b.servable_ads);
}

// One number, one id; numbers of the base keep theirs.
void ExpectSoundNumbers(const AdIndex& index, const v1::Catalog& catalog) {
  std::set<uint32_t> ads;
  for (const v1::Ad& ad : catalog.ads()) {
    const auto number = index.Find(ad.id());
    ASSERT_TRUE(number.has_value()) << ad.id();
    ASSERT_LT(*number, index.size());
    ads.insert(*number);
    const IndexedAd& entry = index.ad(*number);
    ASSERT_EQ(entry.id, ad.id());
    ASSERT_LT(entry.group, index.groups());
    ASSERT_LT(entry.campaign, index.campaigns());
    ASSERT_LT(entry.advertiser, index.advertisers());
    ASSERT_EQ(index.group_id(entry.group), ad.ad_group_id());
    ASSERT_EQ(index.campaign_id(entry.campaign), entry.campaign_id);
    ASSERT_EQ(index.FindGroup(ad.ad_group_id()), entry.group);
    ASSERT_EQ(index.FindCampaign(entry.campaign_id), entry.campaign);
    ASSERT_EQ(index.FindAdvertiser(entry.advertiser_id), entry.advertiser);
    const auto before = index.base()->Find(ad.id());
    if (before.has_value()) ASSERT_EQ(*number, *before);
  }
  ASSERT_EQ(ads.size(), static_cast<size_t>(catalog.ads_size()));
}

TEST(T1, IndexOnABaseEqualsScanAndAnewAfterAnyUpdateSequence) {
  size_t total = 0, cut = 0, not_there = 0, closed = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    ChangingCatalog changing(&rng, 30 + static_cast<int>(seed) * 3);
    auto first = AdIndex::Build(changing.catalog(), changing.version());
    ASSERT_OK(first);
    Index base = *first;
    for (int step = 0; step < 30; ++step) {
      SCOPED_TRACE(absl::StrCat("step ", step));
      for (uint64_t n = 1 + rng.Below(3); n > 0; --n) changing.Mutate();
      const auto built = AdIndex::BuildOn(base, changing.Changes(*base));
      ASSERT_OK(built);
      const AdIndex& index = **built;
      const auto anew = AdIndex::Build(changing.catalog(), changing.version());
      ASSERT_OK(anew);
      EXPECT_EQ(index.version(), changing.version());
      ExpectSameStats(index.stats(), (*anew)->stats());
      ExpectSoundNumbers(index, changing.catalog());
      for (int r = 0; r < 6; ++r) {
        const v1::Context context = ARequest(&rng);
        std::vector<std::string> blocked;
        if (rng.Bernoulli(0.3)) blocked.push_back(absl::StrCat("v", r % 2));
        const Strings ids(blocked.begin(), blocked.end());
        const RetrieveRequest request = {&context, &ids, nullptr};
        const Answer got = Ask(index, request, kAll);
        const Answer expected = Ask(**anew, request, kAll);
        ASSERT_EQ(got.matches, expected.matches);
        ASSERT_EQ(got.counts, expected.counts);
        const NaiveAnswer naive =
            NaiveTrigger(changing.catalog()).Retrieve(context, blocked);
        if (index.stats().servable_ads > 0) {
          ASSERT_EQ(got.matches.size(), naive.matches.size());
          for (size_t i = 0; i < naive.matches.size(); ++i) {
            ASSERT_EQ(got.matches[i].find(naive.matches[i].ad_id + "/"), 0u);
          }
        }
        const size_t limit = rng.Below(8);  // T4
        auto prefix = got.matches;
        cut += prefix.size() > limit;
        if (prefix.size() > limit) prefix.resize(limit);
        ASSERT_EQ(Ask(index, request, limit).matches, prefix);
        total += got.matches.size();
        // What budgets closed before the last match.
        const AdmissionTerms here = Closed(index, r), there = Closed(**anew, r);
        const Answer of_here = Ask(index, {&context, &ids, &here}, 1 + limit);
        const Answer of_there =
            Ask(**anew, {&context, &ids, &there}, 1 + limit);
        ASSERT_EQ(of_here.matches, of_there.matches);
        ASSERT_EQ(of_here.closed, of_there.closed);
        closed += of_here.closed.size();
        const std::string ad = absl::StrCat("ad", rng.Below(200));
        ASSERT_EQ(index.WhyNot(ad, request), (*anew)->WhyNot(ad, request));
        not_there += !index.Find(ad).has_value();
      }
      if (rng.Bernoulli(0.05)) {  // a merge
        base = *anew;
        changing.Forget();
      }
    }
  }
  EXPECT_GT(total, 10000u);
  EXPECT_GT(cut, 1000u);
  EXPECT_GT(not_there, 100u);
  EXPECT_GT(closed, 1000u);
}

TEST(T1, EligibleIsTargetingAndVetoesOfEachAdAlone) {
  size_t eligible = 0, all = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    ChangingCatalog changing(&rng, 100);
    auto base = AdIndex::Build(changing.catalog(), 1);
    ASSERT_OK(base);
    for (int i = 0; i < 10; ++i) changing.Mutate();
    const auto index = AdIndex::BuildOn(*base, changing.Changes(**base));
    ASSERT_OK(index);
    // Without their positive keywords all ads are found by targeting.
    v1::Catalog free = changing.catalog();
    for (auto& g : *free.mutable_ad_groups()) {
      auto* keywords = g.mutable_keywords();
      for (int i = keywords->size(); i-- > 0;) {
        if (!keywords->Get(i).negative()) keywords->DeleteSubrange(i, 1);
      }
    }
    const NaiveTrigger naive(free);
    RetrieveScratch scratch;
    for (int r = 0; r < 20; ++r) {
      const v1::Context context = ARequest(&rng);
      const RetrieveRequest request = {&context, nullptr, nullptr};
      (*index)->Resolve(request, &scratch);
      std::set<std::string> expected, got;
      for (const auto& m : naive.Retrieve(context, {}).matches) {
        expected.insert(m.ad_id);
      }
      for (uint32_t ad = 0; ad < (*index)->size(); ++ad) {
        if (!(*index)->Eligible(ad, request, &scratch)) continue;
        got.insert(std::string((*index)->ad_id(ad)));
      }
      ASSERT_EQ(got, expected);
      eligible += got.size();
      all += (*index)->size();
    }
  }
  EXPECT_GT(eligible, 1000u);
  EXPECT_LT(eligible, all);
}

TEST(T1, EditingOneAdChangesNoOtherOnABase) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Rng rng(seed);
    ChangingCatalog changing(&rng, 200);
    const auto base = AdIndex::Build(changing.catalog(), 1);
    ASSERT_OK(base);
    const v1::Catalog before = changing.catalog();
    // One ad group becomes another.
    CatalogChanges changes;
    const v1::AdGroup& old =
        before.ad_groups(static_cast<int>(rng.Below(before.ad_groups_size())));
    v1::AdGroup* group = changes.part.add_ad_groups();
    *group = RandomGroup(&rng);
    group->set_id(old.id());
    group->set_campaign_id(old.campaign_id());
    changes.version = 2;
    changes.keys.emplace_back();
    changes.keys[0].set_type(v1::ENTITY_TYPE_AD_GROUP);
    changes.keys[0].set_id(old.id());
    for (const auto& c : before.campaigns()) {
      if (c.id() != old.campaign_id()) continue;
      *changes.part.add_campaigns() = c;
      changes.part.add_advertisers()->set_id(c.advertiser_id());
      for (const auto& a : before.advertisers()) {
        if (a.id() == c.advertiser_id()) {
          *changes.part.mutable_advertisers(0) = a;
        }
      }
    }
    for (const auto& ad : before.ads()) {
      if (ad.ad_group_id() == old.id()) *changes.part.add_ads() = ad;
    }
    const auto after = AdIndex::BuildOn(*base, changes);
    ASSERT_OK(after);
    for (int r = 0; r < 20; ++r) {
      const v1::Context context = ARequest(&rng);
      const auto others = [&](const AdIndex& index) {
        std::vector<std::string> matches;
        for (const auto& m :
             Ask(index, {&context, nullptr, nullptr}, kAll).matches) {
          const auto ad = index.Find(m.substr(0, m.find('/')));
          if (index.ad(*ad).group_id != old.id()) {
            matches.push_back(m);
          }
        }
        return matches;
      };
      ASSERT_EQ(others(**base), others(**after));
    }
  }
}

TEST(AdIndex, MatchedAttributesAreThoseOfCampaignAndAdGroup) {
  const auto in = [](const char* name, const char* value) {
    return absl::StrCat("targeting { in_set { attribute: '", name,
                        "' values: '", value, "' } }");
  };
  const auto catalog = testing::ParseText<v1::Catalog>(absl::StrCat(
      "advertisers { id: 'v' } campaigns { id: 'c' advertiser_id: 'v' ",
      in("country", "DE"),
      "} ad_groups { id: 'g' campaign_id: 'c' bid_micros: 1 ",
      in("device", "phone"), "} ads { id: 'a' ad_group_id: 'g' }"));
  const auto index = AdIndex::Build(catalog, 1);
  ASSERT_OK(index);
  const auto context = testing::ParseText<v1::Context>(
      "attributes { name: 'device' text: 'phone' text: 'tv' } "
      "attributes { name: 'country' text: 'DE' } "
      "attributes { name: 'age' number: 30 }");
  const RetrieveRequest request = {&context, nullptr, nullptr};
  RetrieveScratch scratch;
  (*index)->Resolve(request, &scratch);
  std::vector<std::string> matched;
  (*index)->MatchedAttributes(0, request, scratch, &matched);
  EXPECT_THAT(matched, ::testing::ElementsAre("country=DE", "device=phone"));
}

// ---- T7, with the store and the loader ----

v1::CatalogOperation Upsert(const v1::AdGroup& group) {
  v1::CatalogOperation op;
  *op.mutable_upsert()->mutable_ad_group() = group;
  return op;
}

// Everything of an `n`-ad catalogue as operations.
std::vector<v1::CatalogOperation> Operations(const v1::Catalog& catalog) {
  std::vector<v1::CatalogOperation> ops;
  for (const auto& a : catalog.advertisers()) {
    *ops.emplace_back().mutable_upsert()->mutable_advertiser() = a;
  }
  for (const auto& c : catalog.campaigns()) {
    *ops.emplace_back().mutable_upsert()->mutable_campaign() = c;
  }
  for (const auto& g : catalog.ad_groups()) ops.push_back(Upsert(g));
  for (const auto& ad : catalog.ads()) {
    *ops.emplace_back().mutable_upsert()->mutable_ad() = ad;
  }
  return ops;
}

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() {
    auto store = CatalogStore::Open(dir_.path(), &clock_);
    EXPECT_OK(store);
    store_ = *std::move(store);
    loader_ = std::make_unique<CatalogLoader>(store_.get(), &state_, &metrics_);
  }
  void Apply(const std::vector<v1::CatalogOperation>& ops) {
    auto result = store_->Apply(ops, {});
    ASSERT_OK(result);
    ASSERT_EQ(result->applied, ops.size()) << result->errors[0];
  }

  TempDir dir_;
  SimulatedClock clock_{absl::FromUnixMillis(1'800'000'000'000)};
  Metrics metrics_;
  ServingState state_;
  std::unique_ptr<CatalogStore> store_;
  std::unique_ptr<CatalogLoader> loader_;
};

TEST_F(LoaderTest, ChangesAreServedOnABaseAndMergedWhenMany) {
  v1::Catalog catalog = testing::ACatalogOf(3000, 10, 1000, 1);
  Apply(Operations(catalog));
  ASSERT_OK(loader_->RunOnce());
  ASSERT_EQ(state_.Current()->index->base(), nullptr);
  state_.SetBundle(testing::ABundle());
  const auto features = state_.Current()->ad_features;
  catalog.mutable_ad_groups(5)->set_bid_micros(7);
  Apply({Upsert(catalog.ad_groups(5))});
  ASSERT_OK(loader_->RunOnce());
  auto serving = state_.Current();
  ASSERT_NE(serving->index->base(), nullptr);
  EXPECT_EQ(serving->index->changed_ads().size(), 1u);
  EXPECT_EQ(serving->ad_features->base(), features);  // not extracted again
  EXPECT_EQ(serving->index->ad(*serving->index->Find("ad5")).bid_micros, 7);
  // Too few to merge.
  ASSERT_OK(loader_->Merge());
  EXPECT_EQ(state_.Current(), serving);
  // An advertiser's campaigns: 300 groups, then more than the limit.
  v1::CatalogOperation pause;
  *pause.mutable_upsert()->mutable_advertiser() = catalog.advertisers(3);
  pause.mutable_upsert()->mutable_advertiser()->set_status(
      v1::ENTITY_STATUS_PAUSED);
  Apply({pause});
  ASSERT_OK(loader_->RunOnce());
  serving = state_.Current();
  EXPECT_EQ(serving->index->changed_ads().size(), 301u);
  EXPECT_EQ(serving->index->stats().servable_ads, 2700u);
  std::vector<v1::CatalogOperation> many;
  for (int i = 1000; i < 2200; ++i) {
    catalog.mutable_ad_groups(i)->set_bid_micros(9);
    many.push_back(Upsert(catalog.ad_groups(i)));
  }
  Apply(many);
  ASSERT_OK(loader_->RunOnce());
  ASSERT_NE(state_.Current()->index->base(), nullptr);
  ASSERT_OK(loader_->Merge());
  serving = state_.Current();
  EXPECT_EQ(serving->index->base(), nullptr);
  EXPECT_EQ(serving->index->version(), store_->Version());
  EXPECT_EQ(serving->index->stats().servable_ads, 2700u);
  EXPECT_EQ(serving->ad_features->size(), 3000u);
}

TEST_F(LoaderTest, PredictionsOnABaseEqualThoseAnew) {
  v1::Catalog catalog = testing::ACatalogOf(2000, 10, 1000, 1);
  Apply(Operations(catalog));
  ASSERT_OK(loader_->RunOnce());
  const auto bundle = testing::ABundle();
  state_.SetBundle(bundle);
  std::vector<v1::CatalogOperation> ops;
  for (int i = 0; i < 2000; i += 7) {
    v1::Ad* ad = catalog.mutable_ads(i);
    ad->mutable_attributes(0)->set_text(0, i % 2 == 0 ? "b" : "a");
    *ops.emplace_back().mutable_upsert()->mutable_ad() = *ad;
  }
  Apply(ops);
  ASSERT_OK(loader_->RunOnce());
  const auto serving = state_.Current();
  ASSERT_NE(serving->index->base(), nullptr);
  const auto anew = AdIndex::Build(catalog, 1);
  ASSERT_OK(anew);
  const ServingSnapshot other = ServingSnapshot::Of(bundle, *anew);
  const auto predict = [&](const ServingSnapshot& snapshot) {
    std::vector<PredictItem> items;
    for (const v1::Ad& ad : catalog.ads()) {
      const uint32_t number = *snapshot.index->Find(ad.id());
      items.push_back({number, nullptr});
    }
    v1::Context context;
    context.set_time_ms(1);
    const absl::string_view placement = "p";
    Prediction prediction;
    prediction.Begin(snapshot, 0.1, context, {&placement, 1}, items);
    while (prediction.Step()) {
    }
    return std::vector<float>(prediction.pctrs(0).begin(),
                              prediction.pctrs(0).end());
  };
  EXPECT_EQ(predict(*serving), predict(other));
}

// Version v gives all groups the bid v + 1000: an answer of mixed versions
// would have two bids.
TEST_F(LoaderTest, T7ReaderSeesOldOrNewNeverAMix) {
  v1::Catalog catalog = testing::ACatalogOf(1200, 3, 1001, 0);
  Apply(Operations(catalog));
  ASSERT_OK(loader_->RunOnce());
  state_.SetBundle(testing::ABundle());
  std::atomic<bool> stop{false};
  std::atomic<int> mixed{0}, answers{0};
  std::atomic<int64_t> backwards{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      RetrieveScratch scratch;
      Retrieval out;
      v1::Context context;
      context.set_time_ms(1);
      int64_t last = 0;
      while (!stop) {
        const auto serving = state_.Current();
        serving->index->Retrieve({&context, nullptr, nullptr}, 2000, &scratch,
                                 &out);
        const int64_t version = serving->index->version();
        bool good = out.matches.size() == 1200 && version >= last;
        for (const AdMatch& m : out.matches) {
          good = good && m.bid_micros == version + 1000 &&
                 serving->index->ad(m.ad).bid_micros == m.bid_micros;
        }
        mixed += !good;
        ++answers;
        last = version;
      }
    });
  }
  // All groups change at once, so each index on a base has all ads as changed;
  // merges come between.
  for (int round = 0; round < 15; ++round) {
    const int64_t bid = store_->Version() + 1 + 1000;
    std::vector<v1::CatalogOperation> ops;
    for (auto& g : *catalog.mutable_ad_groups()) {
      g.set_bid_micros(bid);
      ops.push_back(Upsert(g));
    }
    Apply(ops);
    std::thread merge([&] { EXPECT_OK(loader_->Merge()); });
    EXPECT_OK(loader_->RunOnce());
    merge.join();
    EXPECT_EQ(state_.Current()->index->version(), store_->Version());
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(mixed, 0);
  EXPECT_GT(answers, 15);
}

}  // namespace
}  // namespace adrank
