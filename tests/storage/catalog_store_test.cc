#include "storage/catalog_store.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "base/rng.h"
#include "base/textproto.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Op = v1::CatalogOperation;

v1::EntityKey Key(v1::EntityType type, const std::string& id) {
  v1::EntityKey key;
  key.set_type(type);
  key.set_id(id);
  return key;
}
v1::EntityKey AdvertiserKey(const std::string& id) {
  return Key(v1::ENTITY_TYPE_ADVERTISER, id);
}
v1::EntityKey AdKey(const std::string& id) {
  return Key(v1::ENTITY_TYPE_AD, id);
}

v1::CatalogEntity Entity(const std::string& text) {
  v1::CatalogEntity entity;
  EXPECT_OK(ParseTextProto(text, "test", &entity));
  return entity;
}
Op Upsert(const std::string& text) {
  Op op;
  *op.mutable_upsert() = Entity(text);
  return op;
}
Op Advertiser(const std::string& id) {
  return Upsert(absl::StrCat("advertiser { id: '", id, "' }"));
}
Op Campaign(const std::string& id, const std::string& advertiser) {
  return Upsert(absl::StrCat("campaign { id: '", id, "' advertiser_id: '",
                             advertiser, "' }"));
}
Op AdGroup(const std::string& id, const std::string& campaign,
           int64_t bid = 1000) {
  return Upsert(absl::StrCat("ad_group { id: '", id, "' campaign_id: '",
                             campaign, "' bid_micros: ", bid, " }"));
}
Op Ad(const std::string& id, const std::string& group) {
  return Upsert(
      absl::StrCat("ad { id: '", id, "' ad_group_id: '", group, "' }"));
}
Op Remove(const v1::EntityKey& key) {
  Op op;
  *op.mutable_remove() = key;
  return op;
}

class CatalogStoreTest : public ::testing::Test {
 protected:
  CatalogStoreTest() { Reopen(); }
  void Reopen() {
    store_.reset();
    auto store = CatalogStore::Open(dir_.path(), &clock_);
    ASSERT_OK(store);
    store_ = *std::move(store);
  }
  ApplyResult Apply(const std::vector<Op>& ops, ApplyOptions options = {}) {
    auto result = store_->Apply(ops, options);
    EXPECT_OK(result);
    return result.ok() ? *std::move(result) : ApplyResult();
  }
  TempDir dir_;
  SimulatedClock clock_{absl::FromUnixMillis(1'800'000'000'000)};
  std::unique_ptr<CatalogStore> store_;
};

TEST_F(CatalogStoreTest, OneBatchMayBuildAWholeTreeAndSurvivesReopening) {
  EXPECT_EQ(store_->Version(), 0);
  const ApplyResult result =
      Apply({Advertiser("a"), Campaign("c", "a"), AdGroup("g", "c"),
             Ad("x", "g"), Ad("b", "g")});
  EXPECT_EQ(result.applied, 5u);
  EXPECT_EQ(result.version, 1);
  for (const absl::Status& error : result.errors) EXPECT_OK(error);
  Reopen();
  ASSERT_OK_AND_ASSIGN(const auto loaded, store_->Load());
  EXPECT_EQ(loaded.second, 1);
  EXPECT_EQ(loaded.first.advertisers_size(), 1);
  EXPECT_EQ(loaded.first.campaigns(0).advertiser_id(), "a");
  EXPECT_EQ(loaded.first.ad_groups(0).bid_micros(), 1000);
  ASSERT_EQ(loaded.first.ads_size(), 2);
  EXPECT_EQ(loaded.first.ads(0).id(), "b");
  EXPECT_EQ(loaded.first.ads(1).id(), "x");
}

Op AdWithVector(const std::string& id, int dims) {
  Op op = Ad(id, "g");
  for (int i = 0; i < dims; ++i)
    op.mutable_upsert()->mutable_ad()->add_embedding(1);
  return op;
}

// It was compared with the index that was served: two changes in a row could
// bring lengths together of which no index, and after a restart no server,
// could be made.
TEST_F(CatalogStoreTest, VectorsOfAdsHaveOneLengthAtEveryMoment) {
  const auto error = [&](const std::vector<Op>& ops) {
    const ApplyResult result = Apply(ops, {.validate_only = true});
    for (const absl::Status& e : result.errors) {
      if (!e.ok()) return std::string(e.message());
    }
    return std::string();
  };
  Apply({Advertiser("a"), Campaign("c", "a"), AdGroup("g", "c"), Ad("w", "g")});
  const std::string three =
      "ad \"y\": embedding has 3 components, the catalogue's have 2; for "
      "another length clear those first";
  EXPECT_EQ(error({AdWithVector("x", 2), AdWithVector("y", 3)}), three);
  EXPECT_EQ(Apply({AdWithVector("x", 2)}).applied, 1u);
  EXPECT_EQ(error({AdWithVector("y", 3)}), three);
  EXPECT_EQ(Apply({AdWithVector("y", 3), AdWithVector("z", 2)},
                  {.partial_failure = true})
                .applied,
            1u);
  Reopen();
  EXPECT_EQ(error({AdWithVector("y", 3)}), three);
  // Not while z has one; both may go in one call.
  EXPECT_EQ(error({Remove(AdKey("z")), AdWithVector("y", 3)}), three);
  EXPECT_EQ(error({Remove(AdKey("z")), Ad("x", "g"), AdWithVector("y", 3)}),
            "");
  EXPECT_EQ(error({Remove(AdKey("z")), AdWithVector("x", 3)}), "");
  EXPECT_EQ(Apply({Remove(AdKey("z")), AdWithVector("x", 3)}).applied, 2u);
  EXPECT_EQ(Apply({AdWithVector("y", 3)}).applied, 1u);
  EXPECT_EQ(error({AdWithVector("w", 2)}),
            "ad \"w\": embedding has 2 components, the catalogue's have 3; for "
            "another length clear those first");
}

TEST_F(CatalogStoreTest, AnExpectedVersionKeepsTwoWritersApart) {
  Apply({Advertiser("a")});
  EXPECT_EQ(Apply({Advertiser("b")}, {.expected_version = 1}).version, 2);
  for (const bool validate_only : {false, true}) {
    EXPECT_THAT(
        store_->Apply({Advertiser("c")},
                      {.validate_only = validate_only, .expected_version = 1}),
        StatusIs(absl::StatusCode::kAborted,
                 HasSubstr("has version 2, not the expected 1; nothing")));
  }
  Reopen();
  EXPECT_THAT(store_->Apply({Advertiser("c")}, {.expected_version = 0}),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("version 2")));
  EXPECT_EQ(store_->Version(), 2);
  // Whoever asks for nothing new gets the same answer.
  EXPECT_EQ(Apply({}, {.expected_version = 2}).version, 2);
}

TEST_F(CatalogStoreTest, LoadChangesReadsWhatChangedAndWhatIsAroundIt) {
  Apply({Advertiser("a"), Campaign("c", "a"), Campaign("d", "a"),
         AdGroup("g", "c"), AdGroup("h", "c"), AdGroup("i", "d"), Ad("x", "g"),
         Ad("y", "g"), Ad("z", "h"), Ad("w", "i")});
  const auto load = [&](int64_t since, std::vector<std::string> also = {},
                        size_t max_groups = 100) {
    return store_->LoadChanges(
        since, [&](absl::Span<const v1::EntityKey>) { return also; },
        max_groups);
  };
  const auto text = [](const absl::StatusOr<CatalogChanges>& changes) {
    EXPECT_OK(changes);
    std::string ids;
    for (const auto& e : changes->part.advertisers()) ids += e.id();
    ids += " ";
    for (const auto& e : changes->part.campaigns()) ids += e.id();
    ids += " ";
    for (const auto& e : changes->part.ad_groups()) ids += e.id();
    ids += " ";
    for (const auto& e : changes->part.ads()) ids += e.id();
    ids += " ";
    for (const auto& key : changes->keys) ids += key.id();
    return ids;
  };
  // Since the start: everything; since now: nothing.
  EXPECT_EQ(text(load(0)), "a cd ghi wxyz acdghiwxyz");
  EXPECT_EQ(text(load(1)), "    ");
  // An ad that moves: the group it is in; the one it was in on demand.
  Apply({Ad("z", "i")});
  EXPECT_EQ(text(load(1)), "a d i wz z");
  EXPECT_EQ(text(load(1, {"h", "no such"})), "a cd hi wz z");
  // A campaign: all its groups. Twice is once.
  Apply({Campaign("c", "a")});
  Apply({Campaign("c", "a")});
  auto changes = load(2);
  EXPECT_EQ(text(changes), "a c gh xy c");
  EXPECT_EQ(changes->version, 4);
  // What is gone is named, and not there.
  Apply({Remove(AdKey("x")), Remove(AdKey("y"))});
  EXPECT_EQ(text(load(4)), "    xy");
  EXPECT_EQ(text(load(4, {"g"})), "a c g  xy");
  // An advertiser: everything below.
  Apply({Advertiser("a")});
  EXPECT_EQ(text(load(5)), "a cd ghi wz a");
  EXPECT_THAT(load(5, {}, 2),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("more than 2 ad groups changed")));
  // A store opened anew knows no changes of before.
  Reopen();
  EXPECT_EQ(text(load(6)), "    ");
  EXPECT_THAT(load(5), StatusIs(absl::StatusCode::kOutOfRange,
                                HasSubstr("since version 5 are not known")));
  EXPECT_THAT(load(7), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("7")));
}

TEST_F(CatalogStoreTest, AnEntityNeedsItsParent) {
  ApplyResult result = Apply({Advertiser("a"), AdGroup("g", "nope")});
  EXPECT_OK(result.errors[0]);
  EXPECT_THAT(result.errors[1],
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("ad_group \"g\": campaign \"nope\" does not "
                                 "exist")));
  EXPECT_EQ(result.applied, 0u);
  EXPECT_EQ(result.version, 0);
  EXPECT_THAT(store_->Get(AdvertiserKey("a")),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("advertiser \"a\" does not exist")));
  // A parent that comes later in the batch is too late.
  result = Apply({Campaign("c", "a"), Advertiser("a")});
  EXPECT_FALSE(result.errors[0].ok());
}

TEST_F(CatalogStoreTest, PartialFailureAppliesTheRest) {
  const ApplyResult result =
      Apply({Advertiser("a"), Campaign("c", "b"), AdGroup("g", "c"),
             Campaign("d", "a"), Op()},
            {.partial_failure = true});
  EXPECT_EQ(result.applied, 2u);
  EXPECT_EQ(result.version, 1);
  EXPECT_FALSE(result.errors[1].ok());
  EXPECT_FALSE(result.errors[2].ok());  // its parent failed
  EXPECT_OK(result.errors[3]);
  EXPECT_THAT(result.errors[4], StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("operation is empty")));
}

TEST_F(CatalogStoreTest, ValidateOnlyChangesNothing) {
  const ApplyResult result =
      Apply({Advertiser("a"), Campaign("c", "x")},
            {.partial_failure = true, .validate_only = true});
  EXPECT_OK(result.errors[0]);
  EXPECT_FALSE(result.errors[1].ok());
  EXPECT_EQ(result.applied, 0u);
  EXPECT_EQ(store_->Version(), 0);
  ASSERT_OK_AND_ASSIGN(const auto loaded, store_->Load());
  EXPECT_EQ(loaded.first.advertisers_size(), 0);
}

TEST_F(CatalogStoreTest, RemovalWithChildrenIsRefused) {
  Apply({Advertiser("a"), Campaign("c", "a"), AdGroup("g", "c"), Ad("x", "g")});
  EXPECT_THAT(Apply({Remove(AdvertiserKey("a"))}).errors[0],
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("advertiser \"a\" cannot be removed: "
                                 "campaign \"c\" refers to it")));
  EXPECT_THAT(Apply({Remove(AdKey("y"))}).errors[0],
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("ad \"y\"")));
  EXPECT_THAT(Apply({Remove(Key(v1::ENTITY_TYPE_UNSPECIFIED, "y"))}).errors[0],
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"y\"")));
  // Children first, in the same batch.
  const ApplyResult result = Apply(
      {Remove(AdKey("x")), Remove(Key(v1::ENTITY_TYPE_AD_GROUP, "g")),
       Remove(Key(v1::ENTITY_TYPE_CAMPAIGN, "c")), Remove(AdvertiserKey("a"))});
  EXPECT_EQ(result.applied, 4u);
  ASSERT_OK_AND_ASSIGN(const auto loaded, store_->Load());
  EXPECT_EQ(loaded.first.ByteSizeLong(), 0u);
}

TEST_F(CatalogStoreTest, AMovedChildFreesItsOldParent) {
  Apply({Advertiser("a"), Advertiser("b"), Campaign("c", "a")});
  Apply({Campaign("c", "b")});
  EXPECT_OK(Apply({Remove(AdvertiserKey("a"))}).errors[0]);
  EXPECT_FALSE(Apply({Remove(AdvertiserKey("b"))}).errors[0].ok());
}

TEST_F(CatalogStoreTest, IdsThatArePrefixesOfOthersAreNotConfused) {
  Apply({Advertiser("a"), Advertiser("ab"), Campaign("c", "ab")});
  EXPECT_OK(Apply({Remove(AdvertiserKey("a"))}).errors[0]);
  ASSERT_OK_AND_ASSIGN(const auto history,
                       store_->History(AdvertiserKey("a"), 10));
  EXPECT_EQ(history.size(), 2u);
}

TEST_F(CatalogStoreTest, HistoryIsNewestFirst) {
  Apply({Advertiser("a"), Campaign("c", "a"), AdGroup("g", "c", 1)});
  clock_.Advance(absl::Milliseconds(5));
  Apply({AdGroup("g", "c", 2), AdGroup("g", "c", 3)});
  Apply({Remove(Key(v1::ENTITY_TYPE_AD_GROUP, "g"))});
  Reopen();
  ASSERT_OK_AND_ASSIGN(
      const auto history,
      store_->History(Key(v1::ENTITY_TYPE_AD_GROUP, "g"), 100));
  ASSERT_EQ(history.size(), 4u);
  EXPECT_TRUE(history[0].operation().has_remove());
  EXPECT_EQ(history[0].catalog_version(), 3);
  EXPECT_EQ(history[1].operation().upsert().ad_group().bid_micros(), 3);
  EXPECT_EQ(history[2].operation().upsert().ad_group().bid_micros(), 2);
  EXPECT_EQ(history[3].operation().upsert().ad_group().bid_micros(), 1);
  EXPECT_EQ(history[2].time_ms(), 1'800'000'000'005);
  ASSERT_OK_AND_ASSIGN(const auto two,
                       store_->History(Key(v1::ENTITY_TYPE_AD_GROUP, "g"), 2));
  EXPECT_EQ(two.size(), 2u);
}

TEST_F(CatalogStoreTest, ListPagesThroughTypesAndIds) {
  Apply({Advertiser("a"), Advertiser("b"), Campaign("c", "a"),
         AdGroup("g", "c"), Ad("x", "g"), Ad("y", "g"), Ad("z", "g")});
  std::vector<std::string> seen;
  v1::EntityKey after;
  for (;;) {
    ASSERT_OK_AND_ASSIGN(const auto page,
                         store_->List(v1::ENTITY_TYPE_UNSPECIFIED, after, 2));
    if (page.empty()) break;
    for (const auto& entity : page) seen.push_back(KeyOf(entity).id());
    after = KeyOf(page.back());
  }
  EXPECT_THAT(seen, ElementsAre("a", "b", "c", "g", "x", "y", "z"));
  ASSERT_OK_AND_ASSIGN(const auto ads,
                       store_->List(v1::ENTITY_TYPE_AD, AdKey("x"), 100));
  ASSERT_EQ(ads.size(), 2u);
  EXPECT_EQ(ads[0].ad().id(), "y");
  ASSERT_OK_AND_ASSIGN(const auto groups, store_->List(v1::ENTITY_TYPE_AD_GROUP,
                                                       v1::EntityKey(), 100));
  EXPECT_EQ(groups.size(), 1u);
}

TEST_F(CatalogStoreTest, TenThousandAdsABatch) {
  Apply({Advertiser("a"), Campaign("c", "a"), AdGroup("g", "c")});
  for (int batch = 0; batch < 2; ++batch) {
    std::vector<Op> ops;
    for (int i = 0; i < 10'000; ++i) {
      ops.push_back(Ad(absl::StrCat("ad-", batch, "-", i), "g"));
    }
    const absl::Time start = absl::Now();
    EXPECT_EQ(Apply(ops).applied, 10'000u);
    RecordProperty(absl::StrCat("seconds", batch),
                   absl::StrCat(absl::ToDoubleSeconds(absl::Now() - start)));
  }
  ASSERT_OK_AND_ASSIGN(const auto loaded, store_->Load());
  EXPECT_EQ(loaded.first.ads_size(), 20'000);
}

TEST_F(CatalogStoreTest, SecondOpenerAndForeignDirectory) {
  EXPECT_THAT(CatalogStore::Open(dir_.path(), &clock_),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("catalogue"), HasSubstr("LOCK"))));
  TempDir other;
  ASSERT_OK(files::MakeDirectories(other / "catalog"));
  ASSERT_OK(files::Write(other / "catalog/notes.txt", "x"));
  EXPECT_THAT(CatalogStore::Open(other.path(), &clock_),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("not an adrank catalogue")));
}

std::string Nested(int depth) {
  std::string text = "in_set { attribute: 'a' values: 'v' }";
  for (int i = 1; i < depth; ++i) {
    text = absl::StrCat("none_of { expressions { ", text, " } }");
  }
  return text;
}
std::string Wide(int leaves) {
  std::string text = "any_of {";
  for (int i = 0; i < leaves; ++i) {
    text += " expressions { in_set { attribute: 'a' values: 'v' } }";
  }
  return text + " }";
}

TEST(ValidateEntity, EveryRefusalNamesTheEntityAndTheField) {
  const std::string group = "ad_group { id: 'g1' campaign_id: 'c' ";
  const std::string bid = group + "bid_micros: 5 ";
  const std::string campaign = "campaign { id: 'c1' advertiser_id: 'a' ";
  const std::string ad = "ad { id: 'x' ad_group_id: 'g' ";
  const struct {
    std::string entity, error;
  } cases[] = {
      {"", "the entity is empty"},
      {"advertiser { }", "advertiser \"\": id is empty"},
      {"advertiser { id: '" + std::string(129, 'x') + "' }",
       "id has 129 bytes; at most 128"},
      {"advertiser { id: 'a' status: 7 }",
       "advertiser \"a\": status 7 is not a known status"},
      {group + "}", "ad_group \"g1\": bid_micros 0 must be > 0"},
      {group + "bid_micros: -4 }", "bid_micros -4 must be > 0"},
      {"ad_group { id: 'g1' bid_micros: 1 }", "campaign_id is empty"},
      {bid + "keywords { text: ' ' } }", "keywords.text \" \" has no words"},
      {bid + "keywords { text: '" + std::string(81, 'k') + "' } }",
       "keywords.text has 81 bytes; at most 80"},
      {bid + "keywords { text: 'a b c d e f g h i j k' } }",
       "has 11 words; at most 10"},
      {bid + "keywords { text: 'k' match_type: MATCH_TYPE_CALLER } }",
       "keyword \"k\" match_type 5 is not EXACT, PHRASE or BROAD"},
      {bid + "keywords { text: 'k' bid_micros: -1 } }",
       "keyword \"k\" bid_micros -1 must be >= 0"},
      {bid + "keywords { text: 'k' negative: true bid_micros: 1 } }",
       "keyword \"k\" is negative and cannot have bid_micros"},
      {bid + "keywords { text: 'k' } keywords { text: 'k' match_type: "
             "MATCH_TYPE_BROAD } }",
       "keywords has \"k\" with match_type MATCH_TYPE_BROAD twice"},
      {bid + "targeting { } }",
       "ad_group \"g1\": targeting: expression has a node without"},
      {bid + "targeting { " + Nested(33) + " } }", "deeper than 32"},
      {bid + "targeting { " + Wide(256) + " } }", "more than 256 nodes"},
      {bid + "targeting { any_of { } } }", "any_of has no expressions"},
      {bid + "targeting { in_set { attribute: 'a' } } }",
       "in_set.values of attribute \"a\" is empty"},
      {bid + "targeting { in_set { values: 'a' } } }",
       "in_set.attribute is empty"},
      {bid + "targeting { range { attribute: 'a' min: 2 max: 1 } } }",
       "range of attribute \"a\" has min 2 > max 1"},
      {bid + "targeting { range { attribute: 'a' min: nan } } }",
       "has a bound that is not finite"},
      {bid + "targeting { range { attribute: 'a' max: inf } } }",
       "has a bound that is not finite"},
      {bid + "targeting { range { attribute: 'a' } } }",
       "has neither min nor max"},
      {campaign + "budget { daily_micros: -1 } }",
       "campaign \"c1\": budget.daily_micros -1 must be >= 0"},
      {campaign + "budget { total_micros: -1 } }",
       "budget.total_micros -1 must be >= 0"},
      {campaign + "start_time_ms: 5 end_time_ms: 5 }",
       "start_time_ms 5 must be < end_time_ms 5"},
      {campaign + "start_time_ms: -5 }", "start_time_ms -5 must be >= 0"},
      {campaign + "time_zone: 'Mars/Olympus' }",
       "time_zone \"Mars/Olympus\" is not known"},
      {campaign + "budget { delivery: 7 } }",
       "budget.delivery 7 is not a known delivery"},
      {campaign + "negative_keywords: '' }", "has no words"},
      {campaign + "negative_keywords: 'k' negative_keywords: 'k' }",
       "negative_keywords has \"k\" twice"},
      {ad + "attributes { } }", "ad \"x\": attributes.name is empty"},
      {ad + "attributes { name: 'n' number: inf } }",
       "attribute \"n\" has a number that is not finite"},
      {ad + "attributes { name: 'n' } attributes { name: 'n' } }",
       "attributes has \"n\" twice"},
      {"advertiser { id: 'a' reserve_micros: -1 }",
       "advertiser \"a\": reserve_micros -1 is not in [0, "},
      {bid + "bid_type: 9 }",
       "ad_group \"g1\": bid_type 9 is not a known type"},
      {bid + "bid_type: BID_TYPE_CPM }",
       "bid_micros 5 must be >= 1000 with CPM"},
      {group + "bid_micros: 1000 bid_type: BID_TYPE_CPM keywords { text: 'k' "
               "bid_micros: 999 } }",
       "keyword \"k\" bid_micros 999 must be >= 1000 with CPM"},
      {bid + "bid_type: BID_TYPE_CPA }",
       "conversion_rate 0 is not in (0, 1], as CPA needs"},
      {bid + "bid_type: BID_TYPE_CPA conversion_rate: 1.5 }",
       "conversion_rate 1.5 is not in (0, 1], as CPA needs"},
      {bid + "bid_type: BID_TYPE_CPA conversion_rate: nan }",
       "conversion_rate nan is not in (0, 1], as CPA needs"},
      {bid + "conversion_rate: 0.5 }",
       "conversion_rate 0.5 is set, but bid_type is not CPA"},
      {ad + "quality: -1 }", "ad \"x\": quality -1 is not in (0, 100]"},
      {ad + "quality: 101 }", "quality 101 is not in (0, 100]"},
      {ad + "quality: nan }", "quality nan is not in (0, 100]"},
      {ad + "quality: 1e-60 }", "quality 1e-60 is not in (0, 100]"},
      {ad + "exclusion_labels: '' }", "exclusion_labels is empty"},
      {ad + "exclusion_labels: 'l' exclusion_labels: 'l' }",
       "exclusion_labels has \"l\" twice"},
      {ad + "categories: 'c' categories: 'c' }", "categories has \"c\" twice"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(
        ValidateEntity(Entity(c.entity)),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.error)))
        << c.entity;
  }
}

TEST(ValidateEntity, PrefixesCirclesAndTimeWindowsAreChecked) {
  const auto error = [](const std::string& leaf) {
    return std::string(
        ValidateEntity(Entity("ad_group { id: 'g' campaign_id: 'c' bid_micros: "
                              "1 targeting { " +
                              leaf + " } }"))
            .message());
  };
  struct Case {
    std::string leaf, error;
  };
  const std::string good = "latitude: 90 longitude: -180 radius_km: 20038 ";
  const std::string at = "latitude: 1 longitude: 1 ";
  const std::string wide = "radius_km: 1 ";
  for (const Case& c : std::vector<Case>{
           {"prefix { prefixes: 'x' }", "prefix.attribute is empty"},
           {"prefix { attribute: 'a' }",
            "prefix.prefixes of attribute \"a\" is empty"},
           {"prefix { attribute: 'a' prefixes: 'x' prefixes: '' }",
            "prefix.prefixes of attribute \"a\" has an empty one"},
           {"geo_radius { " + wide + "latitude: 90.5 }",
            "geo_radius.latitude 90.5 is not in [-90, 90]"},
           {"geo_radius { " + wide + "latitude: nan }", "latitude nan"},
           {"geo_radius { " + wide + "longitude: 180.5 }",
            "geo_radius.longitude 180.5 is not in [-180, 180]"},
           {"geo_radius { " + at + "}",
            "geo_radius.radius_km 0 is not in (0, 20038]"},
           {"geo_radius { " + at + "radius_km: nan }", "radius_km nan"},
           {"geo_radius { " + at + "radius_km: 20039 }", "radius_km 20039"},
           {"time_window { days: 0 }", "time_window.days 0 is not in [1, 7]"},
           {"time_window { days: 8 }", "time_window.days 8 is not in [1, 7]"},
           {"time_window { from_minute: 1440 }",
            "time_window.from_minute 1440 is not in [0, 1439]"},
           {"time_window { to_minute: 1441 }",
            "time_window.to_minute 1441 is not in [0, 1440]"},
           {"time_window { time_zone: 'Mars/Olympus' }",
            "time_window.time_zone \"Mars/Olympus\" is not known"}}) {
    EXPECT_THAT(error(c.leaf), HasSubstr(c.error)) << c.leaf;
  }
  EXPECT_EQ(error("prefix { attribute: 'a' prefixes: 'x' }"), "");
  EXPECT_EQ(error("geo_radius { " + good + " }"), "");
  EXPECT_EQ(error("time_window { days: 1 days: 7 from_minute: 1439 to_minute: "
                  "1440 time_zone: 'Asia/Kolkata' }"),
            "");
}

TEST(ValidateEntity, InvalidUtf8IsShownEscaped) {
  v1::CatalogEntity entity;
  entity.mutable_advertiser()->set_id("a\xff");
  EXPECT_THAT(ValidateEntity(entity),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("id \"a\\xff\" is not valid UTF-8")));
}

TEST(ValidateEntity, LimitsThemselvesAreAllowed) {
  const std::string bid = "ad_group { id: 'g' campaign_id: 'c' bid_micros: 1 ";
  for (const std::string& good :
       {bid + "targeting { " + Nested(32) + " } }",
        bid + "targeting { " + Wide(255) + " } }",
        bid + "keywords { text: 'a b c d e f g h i j' } }",
        bid + "keywords { text: 'k' } keywords { text: 'k' negative: true } "
              "keywords { text: 'k' match_type: MATCH_TYPE_EXACT } }",
        bid + "targeting { range { attribute: 'a' min: 1 max: 1 } } }",
        std::string("campaign { id: 'c' advertiser_id: 'a' time_zone: "
                    "'Asia/Shanghai' start_time_ms: 7 }")}) {
    EXPECT_OK(ValidateEntity(Entity(good))) << good;
  }
}

}  // namespace
}  // namespace adrank
