// The past of the catalogue, and what a change touches.
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/message_diff.h"
#include "base/rng.h"
#include "base/textproto.h"
#include "storage/catalog_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Op = v1::CatalogOperation;

Op Upsert(const std::string& text) {
  Op op;
  EXPECT_OK(ParseTextProto(text, "test", op.mutable_upsert()));
  return op;
}

Op Remove(v1::EntityType type, const std::string& id) {
  Op op;
  op.mutable_remove()->set_type(type);
  op.mutable_remove()->set_id(id);
  return op;
}

Op Advertiser(const std::string& id) {
  return Upsert(absl::StrCat("advertiser { id: '", id, "' }"));
}
Op Campaign(const std::string& id, const std::string& parent) {
  return Upsert(absl::StrCat("campaign { id: '", id, "' advertiser_id: '",
                             parent, "' }"));
}
Op Group(const std::string& id, const std::string& parent, int64_t bid) {
  return Upsert(absl::StrCat("ad_group { id: '", id, "' campaign_id: '", parent,
                             "' bid_micros: ", bid, " }"));
}
Op Ad(const std::string& id, const std::string& parent,
      const std::string& name = "") {
  return Upsert(absl::StrCat("ad { id: '", id, "' ad_group_id: '", parent,
                             "' name: '", name, "' }"));
}

class CatalogHistory : public ::testing::Test {
 protected:
  CatalogHistory() { Reopen(); }
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

Op RandomOp(Rng* rng) {
  const auto id = [&](const char* prefix, uint64_t n) {
    return absl::StrCat(prefix, rng->Below(n));
  };
  switch (rng->Below(10)) {
    case 0:
      return Advertiser(id("v", 3));
    case 1:
      return Campaign(id("c", 6), id("v", 3));
    case 2:
    case 3:
      return Group(id("g", 12), id("c", 6), 1 + rng->Below(9));
    case 4:
      return Remove(v1::ENTITY_TYPE_AD, id("a", 40));
    case 5:
      return Remove(v1::ENTITY_TYPE_AD_GROUP, id("g", 12));
    case 6:
      return Remove(v1::ENTITY_TYPE_CAMPAIGN, id("c", 6));
    default:
      return Ad(id("a", 40), id("g", 12), id("n", 100));
  }
}

// The state kept after every change is the oracle.
TEST_F(CatalogHistory, EveryVersionIsRebuiltAsItWas) {
  constexpr uint64_t kSeed = 20261;
  SCOPED_TRACE(absl::StrCat("seed ", kSeed));
  Rng rng(kSeed);
  std::map<int64_t, v1::Catalog> states = {{0, v1::Catalog()}};
  for (int i = 0; i < 1500; ++i) {
    std::vector<Op> ops;
    for (uint64_t k = 1 + rng.Below(4); k > 0; --k) {
      ops.push_back(RandomOp(&rng));
    }
    const int64_t version =
        Apply(ops, {.partial_failure = rng.Below(4) != 0}).version;
    ASSERT_OK_AND_ASSIGN(const auto now, store_->Load());
    ASSERT_EQ(now.second, version);
    states[version] = now.first;
    if (i == 700) Reopen();
  }
  ASSERT_GT(states.size(), 800u);
  Reopen();
  for (const auto& [version, state] : states) {
    ASSERT_OK_AND_ASSIGN(const v1::Catalog then, store_->LoadVersion(version));
    ASSERT_THAT(DiffMessages(state, then, 1), ElementsAre())
        << "version " << version;
  }
}

TEST_F(CatalogHistory, AVersionThatNeverWasIsNotFound) {
  Apply({Advertiser("v")});
  EXPECT_THAT(store_->LoadVersion(2),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("version 2 was never made; the newest is 1")));
  EXPECT_THAT(store_->LoadVersion(-1), StatusIs(absl::StatusCode::kNotFound, HasSubstr("version -1")));
}

std::set<std::string> Ids(const v1::Catalog& catalog) {
  std::set<std::string> ids;
  for (const auto& x : catalog.advertisers()) ids.insert(x.id());
  for (const auto& x : catalog.campaigns()) ids.insert(x.id());
  for (const auto& x : catalog.ad_groups()) ids.insert(x.id());
  for (const auto& x : catalog.ads()) ids.insert(x.id());
  return ids;
}

TEST_F(CatalogHistory, AffectedIsTheTreeAroundAChangeAsItWouldBe) {
  Apply({Advertiser("v"), Campaign("c", "v"), Group("g", "c", 5),
         Group("h", "c", 5), Ad("a", "g"), Ad("b", "h"), Campaign("d", "v"),
         Group("e", "d", 5), Ad("z", "e")});
  const ApplyOptions ask = {
      .partial_failure = true, .validate_only = true, .want_affected = true};
  ApplyResult result = Apply({Group("g", "c", 9)}, ask);
  EXPECT_EQ(Ids(result.affected), (std::set<std::string>{"v", "c", "g", "a"}));
  EXPECT_EQ(result.affected.ad_groups(0).bid_micros(), 9);
  // Ads of the same call count, moved and removed ones too; a wrong operation
  // and a change of an ad alone bring nothing.
  result = Apply({Ad("z", "g"), Remove(v1::ENTITY_TYPE_AD, "b"), Ad("n", "h"),
                  Campaign("c", "v"), Group("e", "none", 1)},
                 ask);
  EXPECT_EQ(Ids(result.affected),
            (std::set<std::string>{"v", "c", "g", "h", "a", "z", "n"}));
  EXPECT_EQ(Ids(Apply({Ad("b", "g")}, ask).affected), std::set<std::string>());
  EXPECT_EQ(store_->Version(), 1);
}

}  // namespace
}  // namespace adrank
