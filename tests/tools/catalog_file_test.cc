#include "tools/catalog_file.h"

#include <string>
#include <vector>

#include "base/files.h"
#include "base/textproto.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tools/catalog_diff.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::ElementsAre;

std::vector<std::string> Names(const std::vector<v1::CatalogEntity>& entities) {
  std::vector<std::string> names;
  for (const auto& e : entities) {
    const v1::EntityKey key = KeyOfEntity(e);
    names.push_back(EntityTypeName(key.type()) + " " + key.id());
  }
  return names;
}

TEST(CatalogFiles, EntitiesOfAllFilesComeParentsFirstWithTheirPlaces) {
  TempDir dir;
  const std::string ads = dir / "ads.json", tree = dir / "tree.textproto";
  ASSERT_OK(files::Write(ads,
                         "{\n \"ads\": [{\"id\": \"a}\\\"1\",\n"
                         "   \"attributes\": [{\"name\": \"x\"}]},\n"
                         "  {\"id\": \"a2\"}],\n"
                         " \"adGroups\": [\n\n  {\"id\": \"g2\"}]}\n"));
  ASSERT_OK(files::Write(tree,
                         "ad_groups {\n  id: 'g'\n  keywords { text: 'k' }\n"
                         "  bid_micros: 0\n}\n"
                         "advertisers { id: 'v' }\n"
                         "campaigns {\n  id: 'c'\n"
                         "  budget {\n    daily_micros: -1\n  }\n}\n"));
  auto files = CatalogFiles::Read({ads, tree});
  ASSERT_OK(files);
  EXPECT_THAT(Names(files->entities()),
              ElementsAre("advertiser v", "campaign c", "ad_group g2",
                          "ad_group g", "ad a}\"1", "ad a2"));
  EXPECT_EQ(files->Locate(0, "e"), tree + ":6: e");
  // The field that the error begins with, as deep as it is known.
  EXPECT_EQ(files->Locate(1, "campaign \"c\": budget.daily_micros -1 must be"),
            tree + ":10: campaign \"c\": budget.daily_micros -1 must be");
  EXPECT_EQ(files->Locate(1, "campaign \"c\": name x"),
            tree + ":7: campaign \"c\": name x");
  EXPECT_EQ(files->Locate(2, "e"), ads + ":7: e");
  EXPECT_EQ(files->Locate(3, "ad_group \"g\": bid_micros 0 must be > 0"),
            tree + ":4: ad_group \"g\": bid_micros 0 must be > 0");
  EXPECT_EQ(files->Locate(3, "ad_group \"g\": keywords.text \"k\" has"),
            tree + ":3: ad_group \"g\": keywords.text \"k\" has");
  EXPECT_EQ(files->Locate(4, "e"), ads + ":2: e");
  EXPECT_EQ(files->Locate(5, "e"), ads + ":4: e");
}

TEST(CatalogFiles, AnEntityInTwoFilesIsNamedWithBothPlaces) {
  TempDir dir;
  ASSERT_OK(files::Write(dir / "a", "ads { id: 'x' }"));
  ASSERT_OK(
      files::Write(dir / "b", "\ncampaigns { id: 'x' }\nads { id: 'x' }"));
  EXPECT_THAT(CatalogFiles::Read({dir / "a", dir / "b"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       (dir / "b") +
                           ":3: ad \"x\" is in the files twice, "
                           "first at " +
                           (dir / "a") + ":1"));
}

v1::CatalogEntity Entity(const std::string& text) {
  v1::CatalogEntity entity;
  EXPECT_OK(ParseTextProto(text, "test", &entity));
  return entity;
}

TEST(CatalogDiff, TellsAddedChangedAndRemovedFieldByField) {
  const std::vector<v1::CatalogEntity> wanted = {
      Entity("campaign { id: 'c' budget { daily_micros: 2 } "
             "negative_keywords: 'a' negative_keywords: 'b' }"),
      Entity("ad { id: 'same' }"), Entity("ad { id: 'new' }")};
  CatalogDiff diff(wanted);
  diff.Live(
      Entity("campaign { id: 'c' budget { daily_micros: 1 } "
             "negative_keywords: 'a' time_zone: 'UTC' }"));
  diff.Live(Entity("campaign { id: 'gone' }"));
  diff.Live(Entity("ad { id: 'same' }"));
  diff.Live(Entity("ad { id: 'gone' }"));
  EXPECT_EQ(DiffText(diff.Finish(/*prune=*/true)),
            "~ campaign \"c\"\n"
            "    budget.daily_micros: 1 -> 2\n"
            "    time_zone: \"UTC\" -> \"\"\n"
            "    negative_keywords[1]: + \"b\"\n"
            "+ ad \"new\"\n"
            "- ad \"gone\"\n"
            "- campaign \"gone\"\n");
  EXPECT_EQ(diff.Finish(/*prune=*/false).size(), 2u);
  EXPECT_EQ(diff.only_live(), 2u);
  EXPECT_EQ(diff.same(), 1u);
}

}  // namespace
}  // namespace adrank
