#include "tools/importer.h"

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "base/textproto.h"
#include "tests/testing/recording_event_log.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tools/line_reader.h"

namespace adrank {
namespace {

using ::adrank::testing::RecordingEventLog;
using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLabelled[] = R"(
  format: CSV header: true missing: "null"
  column { column: "click" to: LABEL }
  column { column: "t" to: TIME }
  column { column: "user" to: USER_ID }
  column { column: "ad" to: AD_ID }
  column { column: "brand" to: ADVERTISER_ID }
  column { column: "tags" to: AD separator: "|" }
  column { column: "price" to: CONTEXT name: "floor" number: true }
  column { column: "pos" to: POSITION }
  column { column: "bid" to: BID scale: 1000 }
  time { unit: SECONDS }
)";
constexpr char kHeader[] = "click,t,user,ad,brand,tags,price,pos,bid\n";

constexpr char kSeparate[] = R"(
  format: TSV columns: "id" columns: "t" columns: "kind" columns: "creative"
  column { column: "t" to: TIME }
  column { column: "creative" to: AD_ID }
  time { unit: COMPACT time_zone: "Asia/Shanghai" }
  id_column: "id" separate_clicks: true
)";

v1::ImportMapping Mapping(const std::string& text) {
  v1::ImportMapping mapping;
  EXPECT_OK(ParseTextProto(text, "mapping", &mapping));
  return mapping;
}

struct Imported {
  absl::Status status;
  ImportCounts counts;
  std::vector<std::string> bad;
};

Imported ImportAll(const v1::ImportMapping& mapping, const ImportInput& input,
                   EventLog* log) {
  Imported result;
  ImportObserver observer;
  observer.bad_row = [&](const std::string& row) { result.bad.push_back(row); };
  result.status = Import(mapping, input, observer, log, &result.counts);
  return result;
}

class ImporterTest : public ::testing::Test {
 protected:
  std::string File(const std::string& name, const std::string& content) {
    // files::Write waits for the disk, thousands of times.
    std::ofstream(dir_ / name) << content;
    return dir_ / name;
  }
  TempDir dir_;
  RecordingEventLog log_;
};

TEST_F(ImporterTest, LabelledRowBecomesDecisionImpressionAndClick) {
  const std::string in =
      File("in.csv", std::string(kHeader) +
                         "1,1700000000,u1,a1,b1,x|y,0.5,2,7\n"
                         "0,1700000001,null,a2,b1,null,null,1,null\n");
  const Imported got = ImportAll(Mapping(kLabelled), {{in}, {}}, &log_);
  ASSERT_OK(got.status);
  EXPECT_EQ(got.counts.impressions, 2u);
  EXPECT_EQ(got.counts.labelled_clicks, 1u);
  ASSERT_EQ(log_.decisions.size(), 2u);
  const auto& [id, decision] = *log_.decisions.begin();
  EXPECT_EQ(id.ms, 1700000000000u);
  EXPECT_EQ(decision.context().user_id(), "u1");
  EXPECT_EQ(decision.context().attributes(0).name(), "floor");
  EXPECT_EQ(decision.context().attributes(0).number(0), 0.5);
  EXPECT_EQ(decision.ads(0).position(), 1u);
  EXPECT_EQ(decision.ads(0).position_in_placement(), 2u);
  EXPECT_EQ(decision.ads(0).bid_micros(), 7000);
  v1::AdSnapshot ad;
  ASSERT_TRUE(ad.ParseFromString(log_.snapshots.at(decision.ads(0).ad_hash())));
  EXPECT_EQ(ad.advertiser_id(), "b1");
  EXPECT_THAT(ad.attributes(0).text(), ElementsAre("x", "y"));
  // The second row's absent values are absent, not texts.
  const v1::Decision& second = log_.decisions.rbegin()->second;
  EXPECT_EQ(second.context().user_id(), "");
  EXPECT_EQ(second.context().attributes_size(), 0);
  ASSERT_EQ(log_.events.size(), 3u);
  EXPECT_EQ(log_.events[1].type(), v1::EVENT_TYPE_CLICK);
}

TEST_F(ImporterTest, ImportingAgainGivesTheSameIds) {
  const std::string rows = std::string(kHeader) +
                           "1,1700000000,u1,a1,b1,x,0.5,2,7\n"
                           "1,1700000000,u1,a1,b1,x,0.5,2,7\n";
  const std::string in = File("in.csv", rows);
  const std::string moved = File("other_name.csv", rows);
  ASSERT_OK(ImportAll(Mapping(kLabelled), {{in}, {}}, &log_).status);
  EXPECT_EQ(log_.decisions.size(), 2u);  // equal rows are two impressions
  ASSERT_OK(ImportAll(Mapping(kLabelled), {{moved}, {}}, &log_).status);
  EXPECT_EQ(log_.decisions.size(), 2u);
}

TEST_F(ImporterTest, BadRowsAreReportedByLineWithTheReason) {
  v1::ImportMapping mapping = Mapping(kLabelled);
  mapping.set_max_bad_share(1);
  const std::string in =
      File("in.csv", std::string(kHeader) +
                         "2,1700000000,u1,a1,b1,x,0.5,2,7\n"
                         "1,yesterday,u1,a1,b1,x,0.5,2,7\n"
                         "1,1700000000,u1,null,b1,x,0.5,2,7\n"
                         "1,1700000000,u1,a1,b1,x,cheap,2,7\n"
                         "1,1700000000,u1,a1,b1,x,nan,2,7\n"
                         "1,1700000000,u1,a1,b1,x,0.5,0,7\n"
                         "1,1700000000,u1,a1,b1,x,0.5,1,-7\n"
                         "1,1700000000,u1\n"
                         "1,1700000000,\xff,a1,b1,x,0.5,1,7\n"
                         "1,99999999999999,u1,a1,b1,x,0.5,1,7\n");
  const Imported got = ImportAll(mapping, {{in}, {}}, &log_);
  ASSERT_OK(got.status);
  EXPECT_EQ(got.counts.rows_bad, 10u);
  EXPECT_TRUE(log_.decisions.empty());
  EXPECT_THAT(
      got.bad,
      ElementsAre(
          HasSubstr("in.csv:2: column click: \"2\" is no label"),
          HasSubstr("in.csv:3: column t: \"yesterday\" is not a time"),
          HasSubstr("in.csv:4: column ad: no ad id"),
          HasSubstr("in.csv:5: column price: \"cheap\" is not a number"),
          HasSubstr("in.csv:6: column price: \"nan\" is not a number"),
          HasSubstr("in.csv:7: column pos: \"0\" is not a position"),
          HasSubstr("in.csv:8: column bid: \"-7\" is not an amount"),
          HasSubstr("in.csv:9: 3 columns, expected 9"),
          HasSubstr("in.csv:10: not valid UTF-8"),
          HasSubstr("in.csv:11: column t: \"99999999999999\" is out of")));
}

TEST_F(ImporterTest, TooManyBadRowsStopTheImportAndWriteNothing) {
  std::string rows = kHeader;
  for (int i = 0; i < 50; ++i) rows += "1,1700000000,u1,a1,b1,x,0.5,2,7\n";
  rows += "?,1700000000,u1,a1,b1,x,0.5,2,7\n";
  const Imported got =
      ImportAll(Mapping(kLabelled), {{File("in.csv", rows)}, {}}, &log_);
  EXPECT_THAT(got.status, StatusIs(absl::StatusCode::kFailedPrecondition,
                                   HasSubstr("1 of 51 rows are bad")));
  EXPECT_EQ(log_.writes, 0);
}

TEST_F(ImporterTest, SeparateFilesAreJoinedById) {
  const std::string imps = File("imp",
                                "i1\t20131021000000123\t1\tc1\n"
                                "i2\t20131021000001000\t1\tc2\n"
                                "i1\t20131021000005000\t1\tc1\n");
  const std::string clicks = File("clk",
                                  "i2\t20131021000009000\t2\tc2\n"
                                  "i9\t20131021000009000\t2\tc2\n"
                                  "i2\t20131021000010000\t2\tc2\n"
                                  "i9\t20131021000011000\t2\tc2\n");
  const Imported got = ImportAll(Mapping(kSeparate), {{imps}, {clicks}}, &log_);
  ASSERT_OK(got.status);
  EXPECT_EQ(got.counts.rows, 7u);
  EXPECT_EQ(got.counts.impressions, 2u);
  EXPECT_EQ(got.counts.duplicate_impressions, 1u);
  EXPECT_EQ(got.counts.joined_clicks, 1u);
  EXPECT_EQ(got.counts.orphan_clicks, 1u);
  EXPECT_EQ(got.counts.duplicate_clicks, 2u);
  // 2013-10-21 00:00:00.123 in Shanghai is 16:00 of the day before in UTC.
  EXPECT_EQ(log_.decisions.begin()->first.ms, 1382284800123u);
  // The click is filed under the impression's decision, repeated ones too.
  EXPECT_EQ(log_.events[2].decision_id(),
            log_.decisions.rbegin()->first.ToHex());
  EXPECT_EQ(log_.events[2].decision_id(), log_.events[4].decision_id());
  EXPECT_EQ(log_.events[3].decision_id(), log_.events[5].decision_id());
}

TEST_F(ImporterTest, AdjacentRowsOfOneRequestAreOneDecision) {
  const v1::ImportMapping mapping = Mapping(R"(
    format: CSV header: true
    column { column: "y" to: LABEL }
    column { column: "t" to: TIME }
    column { column: "r" to: REQUEST_ID }
    column { column: "ad" to: AD_ID })");
  std::string rows = "y,t,r,ad\n";
  for (int r = 0; r < 5000; ++r) {
    for (int a = 0; a < 3; ++a) {
      rows += absl::StrCat(a == 1, ",", 1000 + r, ",r", r, ",a", a, "\n");
    }
  }
  const Imported got = ImportAll(mapping, {{File("in.csv", rows)}, {}}, &log_);
  ASSERT_OK(got.status);
  EXPECT_EQ(got.counts.impressions, 15000u);
  // More than one batch, and none is split at its border.
  EXPECT_GT(log_.writes, 1);
  ASSERT_EQ(log_.decisions.size(), 5000u);
  for (const auto& [id, decision] : log_.decisions) {
    ASSERT_EQ(decision.ads_size(), 3) << decision.request_id();
    EXPECT_EQ(decision.ads(2).position(), 3u);
  }
}

TEST_F(ImporterTest, FailedWriteIsReported) {
  log_.write_status = absl::ResourceExhaustedError("disk full");
  const std::string in =
      File("in.csv", std::string(kHeader) + "1,1700000000,u,a,b,x,0.5,2,7\n");
  EXPECT_THAT(
      ImportAll(Mapping(kLabelled), {{in}, {}}, &log_).status,
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
}

// A full disk is no property of the row at which it is noticed.
TEST_F(ImporterTest, FailedWriteOfAnEarlyBatchIsNoBadRow) {
  log_.write_status = absl::ResourceExhaustedError("disk full");
  std::string rows = kHeader;
  for (int i = 0; i < 20000; ++i) {
    rows += absl::StrCat("1,", 1700000000 + i, ",u,a,b,x,0.5,2,7\n");
  }
  const Imported got =
      ImportAll(Mapping(kLabelled), {{File("in.csv", rows)}, {}}, &log_);
  EXPECT_THAT(got.status, StatusIs(absl::StatusCode::kResourceExhausted,
                                   HasSubstr("disk full")));
  EXPECT_EQ(got.counts.rows_bad, 0u);
  EXPECT_LT(got.counts.rows, 20000u);
}

TEST_F(ImporterTest, ImportingTwiceChangesNothingInARealLog) {
  v1::StorageConfig config;
  config.set_data_dir(dir_ / "data");
  config.set_durability(v1::StorageConfig::ASYNC);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<EventLog> log,
                       EventLog::Open(config, Clock::Real()));
  std::string rows = kHeader, imps, clicks;
  for (int i = 0; i < 9000; ++i) {
    rows += absl::StrCat(i % 3 == 0, ",", 1700000000 + i / 100, ",u", i % 7,
                         ",a", i % 11, ",b,x,0.5,2,7\n");
    imps +=
        absl::StrCat("i", i % 8000, "\t", 20131021100000000 + i, "\t1\tc\n");
    if (i % 10 == 0) {
      clicks +=
          absl::StrCat("i", i + 100, "\t", 20131021110000000 + i, "\t2\tc\n");
    }
  }
  const ImportInput labelled = {{File("in.csv", rows)}, {}};
  const ImportInput separate = {{File("imp", imps)}, {File("clk", clicks)}};
  const auto import_both = [&] {
    const Imported first = ImportAll(Mapping(kLabelled), labelled, log.get());
    EXPECT_OK(first.status);
    EXPECT_EQ(first.counts.impressions, 9000u);
    const Imported second = ImportAll(Mapping(kSeparate), separate, log.get());
    EXPECT_OK(second.status);
    EXPECT_EQ(second.counts.impressions, 8000u);
    EXPECT_EQ(second.counts.duplicate_impressions, 1000u);
    EXPECT_EQ(second.counts.joined_clicks, 790u);
    EXPECT_EQ(second.counts.orphan_clicks, 110u);
  };
  import_both();
  const EventLogStats once = log->Stats();
  EXPECT_EQ(once.decisions, 17000u);
  EXPECT_EQ(once.events, 9000u + 3000u + 8000u + 900u);
  EXPECT_EQ(once.snapshots, 12u);
  EXPECT_EQ(once.duplicate_events, 0u);
  import_both();
  const EventLogStats twice = log->Stats();
  EXPECT_EQ(twice.decisions, once.decisions);
  EXPECT_EQ(twice.events, once.events);
  EXPECT_EQ(twice.snapshots, once.snapshots);
}

TEST_F(ImporterTest, RequestWithSeveralPlacementsKeepsThemApart) {
  const v1::ImportMapping mapping = Mapping(R"(
    format: CSV header: true
    column { column: "y" to: LABEL }
    column { column: "t" to: TIME }
    column { column: "r" to: REQUEST_ID }
    column { column: "where" to: PLACEMENT }
    column { column: "pos" to: POSITION })");
  const std::string in = File("in.csv",
                              "y,t,r,where,pos\n"
                              "0,5,r,top,1\n0,5,r,top,2\n1,5,r,side,1\n");
  ASSERT_OK(ImportAll(mapping, {{in}, {}}, &log_).status);
  ASSERT_EQ(log_.decisions.size(), 1u);
  const v1::Decision& decision = log_.decisions.begin()->second;
  EXPECT_THAT(decision.placement_ids(), ElementsAre("top", "side"));
  EXPECT_EQ(decision.ads(1).placement_index(), 0u);
  EXPECT_EQ(decision.ads(1).position_in_placement(), 2u);
  EXPECT_EQ(decision.ads(2).placement_index(), 1u);
  EXPECT_EQ(decision.ads(2).position(), 3u);
}

TEST_F(ImporterTest, LongIdsAndSeveralValuesOfOneAreBad) {
  const v1::ImportMapping mapping = Mapping(R"(
    format: JSON_LINES max_bad_share: 1
    column { column: "y" to: LABEL }
    column { column: "t" to: TIME }
    column { column: "ad" to: AD_ID })");
  const std::string long_id(129, 'a');
  const std::string in =
      File("in", absl::StrCat("{\"y\":[0,1],\"t\":5,\"ad\":\"a\"}\n",
                              "{\"y\":0,\"t\":5,\"ad\":\"", long_id, "\"}\n",
                              "{\"y\":true,\"t\":5,\"ad\":\"a\"}\n"));
  const Imported got = ImportAll(mapping, {{in}, {}}, &log_);
  ASSERT_OK(got.status);
  EXPECT_EQ(got.counts.labelled_clicks, 1u);
  EXPECT_THAT(got.bad,
              ElementsAre(HasSubstr("in:1: column y: 2 values, expected one"),
                          HasSubstr("is longer than 128 bytes")));
}

TEST_F(ImporterTest, AnyWrongFileIsFoundBeforeTheFirstIsRead) {
  const std::string good =
      File("in.csv", std::string(kHeader) + "1,1700000000,u,a,b,x,0.5,2,7\n");
  const std::string other = File("other.csv", "click,t\n1,1700000000\n");
  EXPECT_THAT(
      ImportAll(Mapping(kLabelled), {{good, dir_ / "no"}, {}}, &log_).status,
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("no file")));
  EXPECT_THAT(ImportAll(Mapping(kLabelled), {{good, other}, {}}, &log_).status,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("other.csv: no column \"user\"")));
  EXPECT_THAT(
      ImportAll(Mapping(kLabelled), {{good}, {good}}, &log_).status,
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("click files need a mapping with separate_clicks")));
  EXPECT_TRUE(log_.decisions.empty());
}

TEST_F(ImporterTest, ProgressIsTheShareOfAllFiles) {
  std::string rows;
  for (int i = 0; i < 150000; ++i) rows += "0\n";
  const std::string in = File("in", rows);
  const v1::ImportMapping mapping = Mapping(
      "format: LIBSVM column { column: 'label' to: LABEL } "
      "time { unit: ROW_NUMBER start_ms: 1 }");
  std::vector<double> shares;
  ImportObserver observer;
  observer.progress = [&](const ImportCounts&, const std::string& path,
                          double share) {
    EXPECT_EQ(path, in);
    shares.push_back(share);
  };
  ImportCounts counts;
  ASSERT_OK(Import(mapping, {{in, in}, {}}, observer, &log_, &counts));
  EXPECT_EQ(counts.decisions, 300000u);
  // After 100,000, 200,000 and 300,000 rows; the reader is some rows ahead.
  ASSERT_EQ(shares.size(), 3u);
  EXPECT_NEAR(shares[0], 1.0 / 3, 0.5);
  EXPECT_LT(shares[0], shares[1]);
  EXPECT_EQ(shares[2], 1);
}

TEST_F(ImporterTest, EmptyFileImportsNothing) {
  const Imported got =
      ImportAll(Mapping(kSeparate), {{File("a", "")}, {File("b", "")}}, &log_);
  ASSERT_OK(got.status);
  EXPECT_EQ(got.counts.rows, 0u);
}

// Whatever the bytes are: no crash, every row in exactly one place.
TEST_F(ImporterTest, RandomlyChangedFilesAreCountedInFull) {
  const struct {
    std::string mapping, file;
  } seeds[] = {
      {kLabelled, std::string(kHeader) +
                      "1,1700000000,u1,a1,b1,x|y,0.5,2,7\n"
                      "0,1700000001,null,\"a\"\"2\",b1,null,null,1,null\r\n"},
      {kSeparate, "i1\t20131021000000123\t1\tc1\ni2\t2013102100\t1\tc2\n"},
      {"format: JSON_LINES column { column: 'y' to: LABEL } "
       "column { column: 'u.t' to: TIME } "
       "column { column: 'tags' to: AD separator: '|' } "
       "column { column: 'x' to: CONTEXT number: true }",
       "{\"y\":1,\"u\":{\"t\":1700000000123},\"tags\":[\"a\",\"b|c\"]}\n"
       "{\"y\":0,\"u\":{\"t\":3},\"x\":[1e9,-2.5]}\n"},
      {"format: LIBSVM time { unit: ROW_NUMBER start_ms: 5 } "
       "column { column: 'label' to: LABEL } "
       "column { column: 'indices' to: CONTEXT } "
       "column { column: '7' to: CONTEXT number: true }",
       "1 3:1 7:0.5 9:0\n-1 7:2 # note\n"},
  };
  Rng rng(1);
  for (int i = 0; i < 2000; ++i) {
    const auto& seed = seeds[i % 4];
    v1::ImportMapping mapping = Mapping(seed.mapping);
    mapping.set_max_bad_share(1);
    std::string bytes = seed.file + seed.file;
    for (uint64_t n = 1 + rng.Below(8); n > 0 && !bytes.empty(); --n) {
      const size_t at = rng.Below(bytes.size());
      switch (rng.Below(4)) {
        case 0:
          bytes[at] = static_cast<char>(rng.Below(256));
          break;
        case 1:
          bytes.erase(at, 1 + rng.Below(10));
          break;
        case 2:
          bytes.insert(at, bytes.substr(rng.Below(bytes.size()), 20));
          break;
        default:
          bytes.insert(at, 1, "\"\n\r\t,:{}[]\\|e-\0"[rng.Below(16)]);
      }
    }
    if (i % 50 == 0) {
      for (char& c : bytes) c = static_cast<char>(rng.Below(256));
    }
    RecordingEventLog log;
    ImportInput input = {{File("in", bytes)}, {}};
    if (mapping.separate_clicks()) input.clicks = {File("clk", bytes)};
    const Imported got = ImportAll(mapping, input, &log);
    // A header may lose a column, a file may begin like a gzip; else it is
    // read.
    if (!got.status.ok()) continue;
    const ImportCounts& c = got.counts;
    ASSERT_EQ(c.rows, c.rows_bad + c.impressions + c.duplicate_impressions +
                          c.joined_clicks + c.duplicate_clicks +
                          c.orphan_clicks);
    ASSERT_EQ(log.decisions.size(), c.decisions);
    ASSERT_EQ(log.events.size(), c.impressions + c.labelled_clicks +
                                     c.joined_clicks + c.duplicate_clicks +
                                     c.orphan_clicks);
  }
}

TEST_F(ImporterTest, TimesOfEveryUnit) {
  const struct {
    std::string format, text;
    int64_t ms;  // -1: bad
  } cases[] = {
      {"unit: SECONDS", "1700000000.5", 1700000000500},
      {"", "1700000000123", 1700000000123},
      {"unit: MICROSECONDS", "1700000000123456", 1700000000123},
      {"unit: COMPACT", "20260105", 1767571200000},
      {"unit: COMPACT", "2026010501", 1767574800000},
      {"unit: COMPACT", "20260105010203", 1767574923000},
      {"unit: COMPACT", "20260105010203456", 1767574923456},
      {"unit: COMPACT", "20261305", -1},
      {"unit: COMPACT", "20260230", -1},
      {"unit: COMPACT", "2026010524", -1},
      {"unit: COMPACT", "202601050", -1},
      {"unit: COMPACT", "2026x105", -1},
      {"unit: PATTERN pattern: '%Y-%m-%d %H:%M:%S'", "2026-01-05 01:02:03",
       1767574923000},
      {"unit: PATTERN pattern: '%Y-%m-%d'", "05.01.2026", -1},
      {"unit: PATTERN pattern: '%Y-%m-%d %H' other_patterns: '%Y-%m-%d'",
       "2026-01-05", 1767571200000},
      {"unit: SECONDS", "1700000000.123", 1700000000123},
      {"unit: SECONDS", "1e300", -1},
      {"", "-5", -1},
      {"", "", -1},
  };
  for (const auto& c : cases) {
    v1::ImportMapping mapping = Mapping(absl::StrCat(
        "format: TSV max_bad_share: 1 column { column: '1' to: LABEL } "
        "column { column: '2' to: TIME } time { ",
        c.format, " }"));
    RecordingEventLog log;
    const std::string in = File("in.tsv", absl::StrCat("0\t", c.text, "\n"));
    ASSERT_OK(ImportAll(mapping, {{in}, {}}, &log).status);
    if (c.ms < 0) {
      EXPECT_TRUE(log.decisions.empty()) << c.text;
    } else {
      ASSERT_EQ(log.decisions.size(), 1u) << c.text;
      EXPECT_EQ(log.decisions.begin()->first.ms, static_cast<uint64_t>(c.ms))
          << c.text;
    }
  }
}

TEST(ValidateMapping, NamesWhatIsWrong) {
  const auto error = [](const std::string& text) {
    return std::string(ValidateMapping(Mapping(text)).message());
  };
  EXPECT_EQ(error(kLabelled), "");
  EXPECT_THAT(error(""), HasSubstr("format: not set"));
  EXPECT_THAT(error("format: CSV"), HasSubstr("LABEL or separate_clicks"));
  EXPECT_THAT(error("format: CSV column { column: 'y' to: LABEL }"),
              HasSubstr("TIME or time { unit: ROW_NUMBER }"));
  EXPECT_THAT(error("format: CSV column { column: 'y' to: LABEL } "
                    "column { column: 'z' to: LABEL }"),
              HasSubstr("column[1] (z).to: a second column is LABEL"));
  EXPECT_THAT(error("format: CSV column { column: 'y' }"),
              HasSubstr("column[0] (y).to: not set"));
  EXPECT_THAT(error("format: CSV time { unit: ROW_NUMBER } "
                    "separate_clicks: true"),
              HasSubstr("id_column: required"));
  EXPECT_THAT(error("format: CSV time { unit: ROW_NUMBER time_zone: 'Mars' } "
                    "column { column: 'y' to: LABEL }"),
              HasSubstr("unknown zone \"Mars\""));
  EXPECT_THAT(error("format: CSV max_bad_share: 2"),
              HasSubstr("max_bad_share: 2 not in [0, 1]"));
  EXPECT_THAT(error("format: LIBSVM header: true"),
              HasSubstr("header, columns: only with format CSV and TSV"));
  EXPECT_THAT(
      error("format: CSV column { column: 'y' to: LABEL number: true }"),
      HasSubstr("column[0] (y).number: only CONTEXT and AD"));
  EXPECT_THAT(error("format: CSV column { column: 'y' to: AD scale: 2 }"),
              HasSubstr("column[0] (y).scale: only BID and PRICE"));
  EXPECT_THAT(error("format: CSV column { column: 'y' to: BID scale: nan }"),
              HasSubstr("scale: nan is not a positive number"));
  EXPECT_THAT(
      error("format: CSV column { column: 'y' to: LABEL } "
            "column { column: 't' to: TIME } "
            "time { other_patterns: '%Y' }"),
      HasSubstr("time.pattern, other_patterns: only with unit PATTERN"));
}

}  // namespace
}  // namespace adrank
