#include "model/embedding_model.h"

#include <cmath>

#include "gmock/gmock.h"
#include "tests/model/an_embedding.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::ALayout;
using ::adrank::testing::AnEmbedding;
using ::adrank::testing::ARequest;
using ::adrank::testing::GraphOf;
using ::adrank::testing::Graphs;
using ::adrank::testing::Logits;
using ::adrank::testing::NamedGraph;
using ::adrank::testing::PoolSlowly;
using ::adrank::testing::ReferenceGraph;
using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kFolded = ReferenceGraph::Form::kFolded;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(EmbeddingModel, LogitsAreThoseOfTheFormulas) {
  for (const NamedGraph& named : Graphs()) {
    const AnEmbedding a(named.text);
    const ARequest request(9, 3);
    const std::vector<float> logits = Logits(*a.model, request);
    const auto expected = a.reference.Run(PoolSlowly(a, request), kFolded);
    for (size_t i = 0; i < logits.size(); ++i) {
      EXPECT_NEAR(logits[i], expected.logits[i],
                  2e-5 * (1 + std::fabs(expected.logits[i])))
          << named.name << " candidate " << i;
    }
  }
}

TEST(EmbeddingModel, ACandidatesBitsDoNotDependOnTheOthers) {
  for (const NamedGraph& named : Graphs()) {
    const AnEmbedding a(named.text);
    for (const size_t n : {1, 2, 63, 64, 65, 130}) {
      const ARequest request(n, n);
      const std::vector<float> logits = Logits(*a.model, request);
      for (size_t i = 0; i < n; ++i) {
        ASSERT_EQ(logits[i], Logits(*a.model, request.Only(i))[0])
            << named.name << " candidate " << i << " of " << n;
      }
    }
  }
}

TEST(EmbeddingModel, UnknownEntriesAddNothing) {
  for (const NamedGraph& named : Graphs()) {
    const AnEmbedding a(named.text);
    ARequest request(4, 5);
    ARequest nothing(0, 0);
    nothing.features.context.Clear();
    nothing.features.context.EndRow();
    nothing.features.ads.EndRow();
    nothing.features.crosses.EndRow();
    nothing.rows = {};
    for (auto* rows :
         {&request.rows.context, &request.rows.ads, &request.rows.crosses}) {
      std::fill(rows->begin(), rows->end(), kNoRow);
    }
    for (const float logit : Logits(*a.model, request)) {
      EXPECT_EQ(logit, Logits(*a.model, nothing)[0]) << named.name;
    }
  }
}

// By hand: one field of two entries, (1, 2) + 2 (0.5, -1) = (2, 0), and another
// of (3, 4): linear 1 + 2 x 0.25 + 0.5, FM <(2, 0), (3, 4)> between the fields
// and <(1, 2), (1, -2)> = -3 within the first.
TEST(EmbeddingModel, EntriesOfAMultiValuedFieldAreSummed) {
  EmbeddingWeights w;
  w.dim = 2;
  w.linear = {1, 0.25f, 0.5f};
  w.vectors = {1, 2, 0.5f, -1, 3, 4};
  w.parameters = {-1};
  const std::string bytes = SerializeEmbedding(w, 3, v1::STORE_FP32);
  ASSERT_OK_AND_ASSIGN(const EmbeddingView view, EmbeddingView::Parse(bytes));
  ASSERT_OK_AND_ASSIGN(
      const auto model,
      EmbeddingModel::Create(GraphOf("dim: 2 linear: true pairwise: FM"),
                             ALayout(), view));
  ARequest r(0, 0);
  r.features.context.Clear();
  r.rows = {};
  AnEmbedding::Add(0, 1, &r.features.context, &r.rows.context, 1);
  AnEmbedding::Add(1, 2, &r.features.context, &r.rows.context, 1);
  AnEmbedding::Add(2, 1, &r.features.ads, &r.rows.ads, 0);
  r.features.context.EndRow();
  r.features.ads.EndRow();
  r.features.crosses.EndRow();
  EXPECT_EQ(Logits(*model, r)[0], -1 + 2 + 6 - 3);
}

TEST(EmbeddingModel, WeightsOfAnotherGraphAreRefused) {
  const AnEmbedding a("dim: 3 linear: true streams { layers { units: 4 } }");
  struct Other {
    const char* graph;
    const char* says;
  };
  for (const Other& other : {
           Other{"dim: 3 linear: true streams { layers { units: 5 } }",
                 "parameters, dim 3, a linear part; the graph has"},
           Other{"dim: 4 field_dims { field: 'ad' dim: 3 } streams {}",
                 "the graph has"},
           Other{"dim: 3 streams { layers { units: 4 } }",
                 "dim 3, no linear part"},
       }) {
    EXPECT_THAT(EmbeddingModel::Create(GraphOf(other.graph), ALayout(),
                                       a.model->weights())
                    .status(),
                StatusIs(kInvalid, HasSubstr(other.says)));
  }
}

}  // namespace
}  // namespace adrank
