#include "model/embedding_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/rng.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace adrank {
namespace {

using ::adrank::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr v1::EmbeddingStorage kStorages[] = {v1::STORE_FP32, v1::STORE_BF16,
                                              v1::STORE_INT8};

EmbeddingWeights Random(uint64_t rows, uint32_t dim, bool linear,
                        uint64_t seed) {
  Rng rng(seed);
  const auto fill = [&](size_t n) {
    std::vector<float> v(n);
    for (float& x : v) {
      // Sizes from 1e-6 to 1e3.
      x = static_cast<float>(rng.Normal() *
                             std::pow(10.0, rng.Uniform() * 9 - 6));
    }
    return v;
  };
  EmbeddingWeights w;
  w.dim = dim;
  w.vectors = fill(rows * dim);
  w.parameters = fill(3);
  if (linear) w.linear = fill(rows);
  return w;
}

std::vector<float> Row(const EmbeddingView& view, uint32_t row) {
  std::vector<float> v(view.dim());
  view.AddTo(row, 1, view.dim(), v.data());
  return v;
}

TEST(EmbeddingWeights, RoundTripsWithinTheStoragesBound) {
  uint64_t seed = 0;
  for (const v1::EmbeddingStorage storage : kStorages) {
    for (const uint32_t dim : {1, 2, 3, 4, 5, 16, 17, 63, 64, 128}) {
      const uint64_t rows = 1 + seed % 9;
      const bool linear = seed % 2 == 0;
      const EmbeddingWeights w = Random(rows, dim, linear, ++seed);
      const std::string bytes = SerializeEmbedding(w, rows, storage);
      ASSERT_OK_AND_ASSIGN(const EmbeddingView view,
                           EmbeddingView::Parse(bytes));
      EXPECT_EQ(view.rows(), rows);
      EXPECT_EQ(view.dim(), dim);
      EXPECT_THAT(view.parameters(), ::testing::ElementsAreArray(w.parameters));
      EXPECT_THAT(view.linear(), ::testing::ElementsAreArray(w.linear));
      for (uint32_t r = 0; r < rows; ++r) {
        const float* v = &w.vectors[r * dim];
        const auto [low, high] = std::minmax_element(v, v + dim);
        const std::vector<float> found = Row(view, r);
        for (uint32_t d = 0; d < dim; ++d) {
          const double x = double{v[d]};
          double bound = 0;
          if (storage == v1::STORE_BF16) bound = std::fabs(x) / 256;
          if (storage == v1::STORE_INT8) {
            bound = (double{*high} - double{*low}) / 510 * 1.0001 +
                    3e-7 * std::max(std::fabs(*high), std::fabs(*low));
          }
          EXPECT_NEAR(found[d], x, bound)
              << "storage " << storage << " dim " << dim;
        }
      }
    }
  }
}

TEST(EmbeddingWeights, AddToScalesAndGivesTheSquareOfTheStoredVector) {
  for (const v1::EmbeddingStorage storage : kStorages) {
    const EmbeddingWeights w = Random(4, 5, true, 3);
    const std::string bytes = SerializeEmbedding(w, 4, storage);
    ASSERT_OK_AND_ASSIGN(const EmbeddingView view, EmbeddingView::Parse(bytes));
    const std::vector<float> v = Row(view, 2);
    std::vector<float> to = {1, 1, 1, 1, 1};
    float square = 0;
    for (int d = 0; d < 3; ++d) square += v[d] * v[d];
    EXPECT_EQ(view.AddTo(2, -2, 3, to.data()), square);
    for (int d = 0; d < 5; ++d) EXPECT_EQ(to[d], d < 3 ? 1 - 2 * v[d] : 1);
  }
}

TEST(EmbeddingWeights, AConstantVectorIsExactInBytes) {
  EmbeddingWeights w;
  w.dim = 3;
  w.vectors = {0.1f, 0.1f, 0.1f, 0, 0, 0};
  w.parameters = {0};
  const std::string bytes = SerializeEmbedding(w, 2, v1::STORE_INT8);
  ASSERT_OK_AND_ASSIGN(const EmbeddingView view, EmbeddingView::Parse(bytes));
  EXPECT_THAT(Row(view, 0), ::testing::ElementsAre(0.1f, 0.1f, 0.1f));
  EXPECT_THAT(Row(view, 1), ::testing::ElementsAre(0, 0, 0));
}

TEST(EmbeddingWeights, EveryOtherLengthIsRefused) {
  for (const v1::EmbeddingStorage storage : kStorages) {
    const std::string bytes =
        SerializeEmbedding(Random(3, 5, true, 1), 3, storage);
    for (size_t n = 0; n < bytes.size(); ++n) {
      const std::string cut = bytes.substr(0, n);
      EXPECT_FALSE(EmbeddingView::Parse(cut).ok()) << n;
    }
    const std::string more = bytes + '\0';
    EXPECT_THAT(EmbeddingView::Parse(more).status(),
                StatusIs(kInvalid, HasSubstr("do not fit")));
  }
}

// Without a crash or a read out of bounds, whatever the header says.
TEST(EmbeddingWeights, DamagedHeadersAreRefusedOrStayWithinTheBytes) {
  const std::string whole =
      SerializeEmbedding(Random(3, 5, true, 1), 3, v1::STORE_INT8);
  Rng rng(7);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = whole;
    for (uint64_t n = 1 + rng.Below(3); n > 0; --n) {
      bytes[rng.Below(64)] = static_cast<char>(rng.Below(256));
    }
    const auto view = EmbeddingView::Parse(bytes);
    if (!view.ok()) continue;
    for (uint32_t r = 0; r < view->rows(); ++r) Row(*view, r);
  }
}

TEST(EmbeddingWeights, NumbersThatAreNotFiniteAreRefusedByName) {
  const float bad[] = {std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN()};
  for (const float x : bad) {
    for (const v1::EmbeddingStorage storage :
         {v1::STORE_FP32, v1::STORE_BF16}) {
      EmbeddingWeights w = Random(3, 4, true, 1);
      w.vectors[5] = std::numeric_limits<float>::infinity();
      std::string bytes = SerializeEmbedding(w, 3, storage);
      EXPECT_THAT(EmbeddingView::Parse(bytes).status(),
                  StatusIs(kInvalid, HasSubstr("vector[1]")));
      w = Random(3, 4, true, 1);
      w.linear[2] = x;
      bytes = SerializeEmbedding(w, 3, storage);
      EXPECT_THAT(EmbeddingView::Parse(bytes).status(),
                  StatusIs(kInvalid, HasSubstr("linear[2]")));
      w = Random(3, 4, true, 1);
      w.parameters[0] = x;
      bytes = SerializeEmbedding(w, 3, storage);
      EXPECT_THAT(EmbeddingView::Parse(bytes).status(),
                  StatusIs(kInvalid, HasSubstr("parameter[0]")));
    }
  }
}

}  // namespace
}  // namespace adrank
