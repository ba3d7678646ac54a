#include "tools/row_reader.h"

#include <zlib.h>

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/textproto.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

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
  EXPECT_OK(files::Write(dir / "in", content));
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
  EXPECT_THAT(ReadAll(path, Mapping("format: TSV"), {"1"}).back(),
              HasSubstr("gzip stream ends early"));
}

TEST(RowReader, AbsentFileIsNamed) {
  EXPECT_THAT(
      RowReader::Open("/nonexistent/x", Mapping("format: TSV"), {"1"}),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/x")));
}

}  // namespace
}  // namespace adrank
