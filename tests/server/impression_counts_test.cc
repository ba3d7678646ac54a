#include "server/impression_counts.h"

#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace adrank {
namespace {

using testing::TempDir;

TEST(ImpressionCounts, CountsFromManyThreads) {
  ImpressionCounts counts;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 30000; ++i) counts.Add(absl::StrCat("ad", i % 300));
    });
  }
  for (std::thread& t : threads) t.join();
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(counts.Of(absl::StrCat("ad", i)), 400u);
  }
  EXPECT_EQ(counts.Of("never"), 0u);
}

TEST(ImpressionCounts, SurviveARestart) {
  TempDir dir;
  ImpressionCounts counts;
  EXPECT_OK(counts.Load(dir / "absent"));
  for (int i = 0; i < 1000; ++i) {
    for (int k = 0; k <= i % 5; ++k) counts.Add(absl::StrCat("ad", i));
  }
  ASSERT_OK(counts.Save(dir / "i.bin"));
  ImpressionCounts later;
  later.Add("ad0");
  ASSERT_OK(later.Load(dir / "i.bin"));
  EXPECT_EQ(later.Of("ad0"), 2u);
  for (int i = 1; i < 1000; ++i) {
    EXPECT_EQ(later.Of(absl::StrCat("ad", i)),
              static_cast<uint32_t>(i % 5 + 1));
  }
}

TEST(ImpressionCounts, RefuseADamagedFile) {
  TempDir dir;
  ImpressionCounts counts;
  for (int i = 0; i < 20; ++i) counts.Add(absl::StrCat("ad", i));
  ASSERT_OK(counts.Save(dir / "i.bin"));
  const std::string bytes = *files::Read(dir / "i.bin");
  for (size_t at = 0; at < bytes.size(); at += 7) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    ASSERT_OK(files::Write(dir / "bad", bad));
    EXPECT_EQ(ImpressionCounts().Load(dir / "bad").code(),
              absl::StatusCode::kDataLoss)
        << at;
    ASSERT_OK(files::Write(dir / "bad", bytes.substr(0, at)));
    EXPECT_EQ(ImpressionCounts().Load(dir / "bad").code(),
              absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace adrank
