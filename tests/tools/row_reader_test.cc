#include "tools/row_reader.h"

#include <zlib.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/rng.h"
#include "base/textproto.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/row_reader_oracle.h"
#include "tools/line_reader.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::adrank::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::ImportMapping Mapping(const std::string& text) {
  v1::ImportMapping mapping;
  EXPECT_OK(ParseTextProto(text, "mapping", &mapping));
  return mapping;
}

// Each row as "line: cell|cell", a cell's texts joined by "+"; a bad row as
// "line! reason".
std::vector<std::string> ReadAll(const std::string& path,
                                 const v1::ImportMapping& mapping,
                                 const std::vector<std::string>& wanted) {
  auto reader = RowReader::Open(path, mapping, wanted);
  if (!reader.ok()) return {std::string(reader.status().message())};
  std::vector<std::string> rows;
  Row row;
  while ((*reader)->Next(&row)) {
    std::vector<std::string> cells;
    for (const auto& cell : row.cells)
      cells.push_back(absl::StrJoin(cell, "+"));
    rows.push_back(
        row.status.ok()
            ? absl::StrCat(row.line, ": ", absl::StrJoin(cells, "|"))
            : absl::StrCat(row.line, "! ", std::string(row.status.message())));
  }
  if (!(*reader)->status().ok()) {
    rows.push_back(std::string((*reader)->status().message()));
  }
  return rows;
}

std::vector<std::string> ReadText(const std::string& content,
                                  const v1::ImportMapping& mapping,
                                  const std::vector<std::string>& wanted) {
  TempDir dir;
  // files::Write waits for the disk, thousands of times.
  std::ofstream(dir / "in") << content;
  return ReadAll(dir / "in", mapping, wanted);
}

TEST(RowReader, CsvWithHeaderFindsColumnsByName) {
  EXPECT_THAT(ReadText("a,b,c\r\n1,2,3\r\n\r\n4,,6\n",
                       Mapping("format: CSV header: true"), {"c", "b"}),
              ElementsAre("2: 3|2", "4: 6|"));
}

TEST(RowReader, CsvQuotesMayHoldSeparatorsQuotesAndNewlines) {
  EXPECT_THAT(ReadText("a,b\n\"x,\"\"y\"\"\",\"two\nlines\"\n\"\",z\n",
                       Mapping("format: CSV header: true"), {"a", "b"}),
              ElementsAre("2: x,\"y\"|two\nlines", "4: |z"));
}

TEST(RowReader, CsvOddRowsAreBadAndNamedByLine) {
  EXPECT_THAT(ReadText("a,b\n1\n\"x\"y,2\n1,2\n\"open,3\n",
                       Mapping("format: CSV header: true"), {"a"}),
              ElementsAre("2! 1 columns, expected 2",
                          "3! column 1: text after closing quote", "4: 1",
                          "5! quote is never closed"));
}

TEST(RowReader, TsvWithoutHeaderCountsColumns) {
  EXPECT_THAT(
      ReadText("1\t\"q\t3\n4\t5\t6\n", Mapping("format: TSV"), {"2", "3"}),
      ElementsAre("1: \"q|3", "2: 5|6"));
}

TEST(RowReader, UnknownColumnsAreAnError) {
  EXPECT_THAT(
      ReadText("a,b\n1,2\n", Mapping("format: CSV header: true"), {"c"}),
      ElementsAre(HasSubstr("no column \"c\"; there are: a, b")));
  EXPECT_THAT(ReadText("a,a\n", Mapping("format: CSV header: true"), {"a"}),
              ElementsAre(HasSubstr("column \"a\" occurs twice")));
  EXPECT_THAT(ReadText("", Mapping("format: CSV header: true"), {"a"}),
              ElementsAre(HasSubstr("no header line")));
}

TEST(RowReader, JsonPathsArraysAndNumbers) {
  EXPECT_THAT(
      ReadText(R"({"u":{"id":123456789012},"tags":["a","b"],"x":0.5,"ok":true}
{"u":3}
not json
)",
               Mapping("format: JSON_LINES"), {"u.id", "tags", "x", "ok"}),
      ElementsAre("1: 123456789012|a+b|0.5|1", "2: |||",
                  HasSubstr("3! no JSON object")));
}

TEST(RowReader, LibsvmIndicesAndValues) {
  EXPECT_THAT(ReadText("1 3:1 7:0.5 9:0\n0 3:x\n-1 7:2 # note\n",
                       Mapping("format: LIBSVM"), {"label", "indices", "7"}),
              ElementsAre("1: 1|3+7|0.5", "2! \"3:x\" is not index:value",
                          "3: -1|7|2"));
}

TEST(RowReader, GzipIsReadAndATornOneIsReported) {
  TempDir dir;
  const std::string path = dir / "in.gz";
  gzFile out = gzopen(path.c_str(), "wb");
  std::string content;
  for (int i = 0; i < 20000; ++i) content += absl::StrCat(i * 7919, "\t1\n");
  gzwrite(out, content.data(), static_cast<unsigned>(content.size()));
  gzclose(out);
  EXPECT_EQ(ReadAll(path, Mapping("format: TSV"), {"1"}).size(), 20000u);

  ASSERT_OK_AND_ASSIGN(const std::string bytes, files::Read(path));
  ASSERT_OK(files::Write(path, bytes.substr(0, bytes.size() / 2)));
  const std::vector<std::string> rows =
      ReadAll(path, Mapping("format: TSV"), {"1"});
  EXPECT_THAT(rows.back(), HasSubstr("gzip stream ends early"));
  // The line that the tear went through is not among them.
  ASSERT_GT(rows.size(), 2u);
  const size_t last = rows.size() - 1;
  EXPECT_EQ(rows[last - 1], absl::StrCat(last, ": ", (last - 1) * 7919));
}

TEST(RowReader, EmptyFilesHaveNoRows) {
  for (const char* content : {"", "\n", "\r\n\n\n", "\xef\xbb\xbf", "\n\r\n"}) {
    for (const char* format : {"CSV", "TSV", "JSON_LINES", "LIBSVM"}) {
      EXPECT_THAT(
          ReadText(content, Mapping(absl::StrCat("format: ", format)), {"1"}),
          ElementsAre())
          << format;
    }
  }
}

TEST(RowReader, ByteOrderMarkCrLfAndNoLastNewline) {
  const v1::ImportMapping header = Mapping("format: CSV header: true");
  EXPECT_THAT(ReadText("\xef\xbb\xbf\"a\",b\r\n1,2\r\n3,4", header, {"a", "b"}),
              ElementsAre("2: 1|2", "3: 3|4"));
  EXPECT_THAT(ReadText("\xef\xbb\xbf"
                       "1\t2\r\n3\t4\r",
                       Mapping("format: TSV"), {"1", "2"}),
              ElementsAre("1: 1|2", "2: 3|4"));
  EXPECT_THAT(
      ReadText("\xef\xbb\xbf{\"x\":1}", Mapping("format: JSON_LINES"), {"x"}),
      ElementsAre("1: 1"));
}

TEST(RowReader, StrayQuoteCostsItsOwnLineOnly) {
  std::string content = "a,b\n\"oops,1\n";
  for (int i = 0; i < 5; ++i) content += "x,1\n";
  // The next quote closes it, but not at the end of a column.
  content += "\"two\nlines\",2\ny,3\n";
  EXPECT_THAT(
      ReadText(content, Mapping("format: CSV header: true"), {"a", "b"}),
      ElementsAre("2! column 1: text after closing quote", "3: x|1", "4: x|1",
                  "5: x|1", "6: x|1", "7: x|1", "8: two\nlines|2", "10: y|3"));
}

TEST(RowReader, HugeRowsAreBadAndSkippedWhole) {
  const std::string huge(3 * LineReader::kMaxBytes + 17, 'x');
  const std::string fits(LineReader::kMaxBytes - 5, 'y');
  const std::string bad =
      absl::StrCat("longer than ", LineReader::kMaxBytes, " bytes");
  EXPECT_THAT(
      ReadText(absl::StrCat("1\ta\n", huge, "\n2\tb\n", fits, "\tc\n", huge),
               Mapping("format: TSV"), {"2"}),
      ElementsAre("1: a", "2! " + bad, "3: b", "4: c", "5! " + bad));
  // A quote that stays open over more than a row may hold.
  std::string open = "a\n\"open\n";
  for (int i = 0; i < 300; ++i) open += std::string(8191, 'z') + "\n";
  const std::vector<std::string> rows =
      ReadText(open, Mapping("format: CSV header: true"), {"a"});
  ASSERT_EQ(rows.size(), 301u);
  EXPECT_EQ(rows[0], "2! quote is never closed");
  EXPECT_EQ(rows[300].substr(0, 5), "302: ");
}

TEST(RowReader, JsonNumbersStayAsTheyAreWritten) {
  EXPECT_THAT(ReadText(R"({"id":9223372036854775807,"t":1700000000.125,"e":1e-7}
{"id":18446744073709551616,"t":-0,"e":null}
)",
                       Mapping("format: JSON_LINES"), {"id", "t", "e"}),
              ElementsAre("1: 9223372036854775807|1700000000.125|1e-7",
                          "2: 18446744073709551616|-0|"));
}

TEST(RowReader, JsonObjectsInArraysAndDottedKeys) {
  EXPECT_THAT(ReadText(R"({"ads":[{"id":"a"},{"id":"b","x":1},[["c"]]],"u.id":7}
{"ads":{"id":{"id":"deep"}},"u":{"id":8,"z":{"id":9}},"id":1}
{"u":{"id":"\u00e9\n"},"ads":[]}
)",
                       Mapping("format: JSON_LINES"), {"ads.id", "u.id"}),
              ElementsAre("1: a+b|7", "2: |8", "3: |\xc3\xa9\n"));
}

TEST(RowReader, JsonThatIsNoObjectIsBad) {
  const std::vector<std::string> rows = ReadText(
      absl::StrCat("[1]\n3\n{\"a\":1}x\n{\"a\":\n{'a':1}\n{\"a\":\"\xff\"}\n",
                   absl::string_view("{\"a\":1}\0\n", 9), "null\n",
                   std::string(200000, '['),
                   "\n{\"x\":", std::string(200000, '['), "\n{\"a\":2}\n"),
      Mapping("format: JSON_LINES"), {"a"});
  ASSERT_EQ(rows.size(), 11u);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_THAT(rows[i], HasSubstr("! no JSON object: ")) << i;
  }
  EXPECT_EQ(rows[10], "11: 2");
}

TEST(RowReader, LibsvmCommentsQidAndOddValues) {
  EXPECT_THAT(
      ReadText("1 qid:7 3:1 # x:y\n# all comment\n0 3:nan\n1 :1\n+1\n",
               Mapping("format: LIBSVM"), {"label", "indices", "qid"}),
      ElementsAre("1: 1|3|7", "2! no label", "3! \"3:nan\" is not index:value",
                  "4! \":1\" is not index:value", "5: +1||"));
}

// Texts that are mostly rows, with everything that can go wrong in them.
std::string RandomRows(Rng* rng, size_t size) {
  static constexpr absl::string_view kPieces[] = {
      "a",    "bc", ",",  ",",    "\t", "\"",
      "\"\"", "\n", "\n", "\r\n", "\r", "x,y\n"};
  std::string text;
  while (text.size() < size) {
    const auto piece = kPieces[rng->Below(std::size(kPieces))];
    text.append(piece.data(), piece.size());
  }
  return text;
}

TEST(RowReader, DelimitedRowsAreThoseOfTheOracle) {
  Rng rng(20260105);
  for (int i = 0; i < 3000; ++i) {
    const bool csv = i % 2 == 0;
    const std::string text = RandomRows(&rng, rng.Below(200));
    const auto expected = testing::OracleRows(text, csv ? ',' : '\t', csv, 2);
    const v1::ImportMapping mapping = Mapping(absl::StrCat(
        "format: ", csv ? "CSV" : "TSV", " columns: 'p' columns: 'q'"));
    std::vector<std::string> want;
    for (const auto& row : expected) {
      want.push_back(row.good ? absl::StrCat(row.line, ": ",
                                             absl::StrJoin(row.fields, "|"))
                              : absl::StrCat(row.line, "!"));
    }
    std::vector<std::string> got = ReadText(text, mapping, {"p", "q"});
    for (std::string& row : got) {
      const size_t mark = row.find_first_of(":!");
      if (row[mark] == '!') row.resize(mark + 1);
    }
    ASSERT_EQ(got, want) << "text " << i << ": " << text;
  }
}

// The reader's buffer holds some 256 KiB: rows and quotes lie across its ends.
TEST(RowReader, LongFilesAreThoseOfTheOracle) {
  Rng rng(3);
  std::string text;
  while (text.size() < 1500000) {
    text += absl::StrCat("\"", std::string(rng.Below(300), 'q'),
                         rng.Bernoulli(0.3) ? "\r\n" : "\"\"", "\",",
                         std::string(rng.Below(300), 'p'), "\n");
  }
  const auto expected = testing::OracleRows(text, ',', true, 2);
  const auto got = ReadText(
      text, Mapping("format: CSV columns: 'p' columns: 'q'"), {"p", "q"});
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i], absl::StrCat(expected[i].line, ": ",
                                   absl::StrJoin(expected[i].fields, "|")));
  }
}

TEST(RowReader, AbsentFileIsNamed) {
  EXPECT_THAT(
      RowReader::Open("/nonexistent/x", Mapping("format: TSV"), {"1"}),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/x")));
}

}  // namespace
}  // namespace adrank
