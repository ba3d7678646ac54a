#include "model/logistic_model.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <new>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "model/vocabulary.h"

namespace {
thread_local bool counting = false;
thread_local int allocations = 0;
}  // namespace

__attribute__((noinline)) void* operator new(size_t size) {
  if (counting) ++allocations;
  if (void* p = std::malloc(size)) return p;
  std::abort();
}
__attribute__((noinline)) void operator delete(void* p) noexcept {
  std::free(p);
}
__attribute__((noinline)) void operator delete(void* p, size_t) noexcept {
  std::free(p);
}

namespace adrank {
namespace {

struct Scene {
  std::vector<float> weights;
  float bias = 0;
  RequestFeatures features;
  RequestRows rows;
};

void FillRow(Rng* rng, size_t entries, uint32_t table, FeatureBatch* batch,
             std::vector<uint32_t>* rows) {
  for (size_t e = 0; e < entries; ++e) {
    batch->Add(static_cast<uint16_t>(rng->Below(9)), 1 + (*rng)() / 2,
               static_cast<float>(rng->Normal()));
    const bool known = table > 0 && rng->Bernoulli(0.8);
    rows->push_back(known ? static_cast<uint32_t>(rng->Below(table)) : kNoRow);
  }
  batch->EndRow();
}

Scene RandomScene(Rng* rng, size_t candidates, size_t most, uint32_t table) {
  Scene s;
  s.bias = static_cast<float>(rng->Normal());
  for (uint32_t i = 0; i < table; ++i) {
    s.weights.push_back(
        static_cast<float>(rng->Normal() * std::exp(3 * rng->Normal())));
  }
  FillRow(rng, rng->Below(most + 1), table, &s.features.context,
          &s.rows.context);
  for (size_t i = 0; i < candidates; ++i) {
    FillRow(rng, rng->Below(most + 1), table, &s.features.ads, &s.rows.ads);
    FillRow(rng, rng->Below(most + 1), table, &s.features.crosses,
            &s.rows.crosses);
  }
  return s;
}

double NaivePart(const Scene& s, const FeatureBatch& batch,
                 const std::vector<uint32_t>& rows, size_t row) {
  double sum = 0;
  for (size_t e = batch.offsets[row]; e < batch.offsets[row + 1]; ++e) {
    const double weight = rows[e] == kNoRow ? 0 : s.weights[rows[e]];
    sum += weight * batch.values[e];
  }
  return sum;
}

// The contract's sentence, for one candidate alone.
float NaiveLogit(const Scene& s, size_t i) {
  return static_cast<float>(
      s.bias + NaivePart(s, s.features.context, s.rows.context, 0) +
      NaivePart(s, s.features.ads, s.rows.ads, i) +
      NaivePart(s, s.features.crosses, s.rows.crosses, i));
}

TEST(LogisticModel, EqualsTheNaiveLogitBitForBit) {
  Rng rng(1);
  for (size_t candidates : {0, 1, 2, 3, 4, 5, 17, 300}) {
    for (size_t most : {0, 1, 3, 40}) {
      for (uint32_t table : {0u, 1u, 1000u}) {
        const Scene s = RandomScene(&rng, candidates, most, table);
        const LogisticModel model(s.bias, s.weights);
        std::vector<float> logits(candidates, -1);
        model.Logits(s.features, s.rows, absl::MakeSpan(logits));
        for (size_t i = 0; i < candidates; ++i) {
          EXPECT_EQ(std::bit_cast<uint32_t>(logits[i]),
                    std::bit_cast<uint32_t>(NaiveLogit(s, i)));
        }
      }
    }
  }
}

void CopyRow(const FeatureBatch& from, const std::vector<uint32_t>& from_rows,
             size_t row, FeatureBatch* to, std::vector<uint32_t>* to_rows) {
  for (size_t e = from.offsets[row]; e < from.offsets[row + 1]; ++e) {
    to->Add(from.fields[e], from.ids[e], from.values[e]);
    to_rows->push_back(from_rows[e]);
  }
  to->EndRow();
}

TEST(LogisticModel, ACandidateDoesNotSeeTheOthers) {
  Rng rng(2);
  const Scene s = RandomScene(&rng, 50, 20, 100);
  const LogisticModel model(s.bias, s.weights);
  std::vector<float> logits(50);
  model.Logits(s.features, s.rows, absl::MakeSpan(logits));
  for (size_t i = 0; i < 50; ++i) {
    Scene alone;
    CopyRow(s.features.context, s.rows.context, 0, &alone.features.context,
            &alone.rows.context);
    CopyRow(s.features.ads, s.rows.ads, i, &alone.features.ads,
            &alone.rows.ads);
    CopyRow(s.features.crosses, s.rows.crosses, i, &alone.features.crosses,
            &alone.rows.crosses);
    std::vector<float> logit(1);
    model.Logits(alone.features, alone.rows, absl::MakeSpan(logit));
    EXPECT_EQ(std::bit_cast<uint32_t>(logit[0]),
              std::bit_cast<uint32_t>(logits[i]));
  }
}

TEST(LogisticModel, LookupAndLogitsDoNotAllocateAfterWarmUp) {
  Rng rng(3);
  Scene s = RandomScene(&rng, 100, 20, 1000);
  const std::string bytes = Vocabulary::Serialize({1, 2, 3}, {});
  const absl::StatusOr<Vocabulary> vocabulary = Vocabulary::Parse(bytes);
  ASSERT_TRUE(vocabulary.ok());
  const LogisticModel model(s.bias, s.weights);
  std::vector<float> logits(100);
  vocabulary->Lookup(s.features, &s.rows);
  model.Logits(s.features, s.rows, absl::MakeSpan(logits));
  allocations = 0;
  counting = true;
  vocabulary->Lookup(s.features, &s.rows);
  model.Logits(s.features, s.rows, absl::MakeSpan(logits));
  counting = false;
  EXPECT_EQ(allocations, 0);
}

TEST(Explain, ContributionsAndBiasSumToTheLogit) {
  Rng rng(4);
  for (int round = 0; round < 100; ++round) {
    const Scene s = RandomScene(&rng, 5, 30, 200);
    const LogisticModel model(s.bias, s.weights);
    std::vector<float> logits(5);
    model.Logits(s.features, s.rows, absl::MakeSpan(logits));
    for (size_t i = 0; i < 5; ++i) {
      const Explanation why = model.Explain(s.features, s.rows, i);
      EXPECT_EQ(why.base, model.bias());
      EXPECT_EQ(why.logit, logits[i]);
      double sum = why.base;
      double magnitude = std::fabs(why.base);
      for (const Contribution& c : why.contributions) {
        sum += c.contribution;
        magnitude += std::fabs(c.contribution);
      }
      EXPECT_NEAR(sum, logits[i], 6e-8 * std::fabs(sum) + 1e-14 * magnitude);
      EXPECT_NEAR(why.gap, logits[i] - sum, 1e-14 * magnitude);
    }
  }
}

TEST(Explain, EntriesFollowTheFullRow) {
  Scene s;
  s.weights = {0.5f, -2.0f};
  s.features.context.Add(3, 10, 2.0f);
  s.features.context.EndRow();
  s.features.ads.EndRow();
  s.features.ads.Add(4, 11, 1.0f);
  s.features.ads.EndRow();
  s.features.crosses.EndRow();
  s.features.crosses.Add(5, 12, 1.0f);
  s.features.crosses.EndRow();
  s.rows = {{0}, {kNoRow}, {1}};
  const auto found =
      LogisticModel(0, s.weights).Explain(s.features, s.rows, 1).contributions;
  ASSERT_EQ(found.size(), 3u);
  for (uint32_t e = 0; e < 3; ++e) {
    EXPECT_EQ(found[e].entry, e);
    EXPECT_EQ(found[e].field, 3 + e);
  }
  EXPECT_EQ(found[0].value, 2);
  EXPECT_EQ(found[0].weight, 0.5f);
  EXPECT_EQ(found[0].contribution, 1);
  EXPECT_EQ(found[1].contribution, 0);
  EXPECT_EQ(found[2].contribution, -2);
}

}  // namespace
}  // namespace adrank
