#include "server/trigger/conjunction_index.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/rng.h"
#include "gtest/gtest.h"
#include "server/trigger/sort_distinct.h"

namespace adrank {
namespace {

constexpr uint32_t kAttributes = 8;
constexpr uint32_t kSymbols = 10;  // of each attribute
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Documents as lists of conjunctions of literals: what the scan reads.
using Document = std::vector<std::vector<Literal>>;

class World {
 public:
  explicit World(uint64_t seed) : rng_(seed) {
    for (uint32_t a = 0; a < kAttributes; ++a) {
      predicates_.AddAttribute();
      for (uint32_t s = 0; s < kSymbols; ++s) predicates_.AddSymbol(a);
    }
  }

  Literal ALiteral() {
    const auto a = static_cast<uint32_t>(rng_.Below(kAttributes));
    const uint64_t kind = rng_.Below(10);
    std::vector<uint32_t> symbols;
    for (uint64_t n = kind == 0  ? 0
                      : kind < 7 ? 1
                                 : 1 + rng_.Below(4);
         n > 0; --n) {
      symbols.push_back(a * kSymbols +
                        static_cast<uint32_t>(rng_.Below(kSymbols)));
    }
    const double min = static_cast<double>(rng_.Below(10));
    const Literal literal =
        kind == 9 ? predicates_.Range(a, min,
                                      rng_.Bernoulli(0.5) ? kInfinity : min + 2)
                  : predicates_.InSet(a, std::move(symbols));
    return rng_.Bernoulli(0.15) ? literal.Negation() : literal;
  }

  Document ADocument(uint64_t most) {
    Document document;
    const uint64_t n = rng_.Bernoulli(0.8) ? 1 : rng_.Below(4);
    for (uint64_t c = 0; c < n; ++c) {
      auto& conjunction = document.emplace_back();
      // Rarely nothing is asked.
      for (uint64_t l = rng_.Below(200) == 0 ? 0 : 1 + rng_.Below(most); l > 0;
           --l) {
        conjunction.push_back(ALiteral());
      }
    }
    return document;
  }

  void ARequest(ResolvedContext* context) {
    predicates_.Clear(context);
    for (uint32_t a = 0; a < kAttributes; ++a) {
      for (uint64_t n = rng_.Below(3); n > 0; --n) {
        if (rng_.Bernoulli(0.8)) {
          predicates_.Put(
              a * kSymbols + static_cast<uint32_t>(rng_.Below(kSymbols)),
              context);
        } else {
          predicates_.PutNumber(a, static_cast<double>(rng_.Below(12)),
                                context);
        }
      }
    }
  }

  Rng& rng() { return rng_; }
  const PredicateSet& predicates() const { return predicates_; }

 private:
  Rng rng_;
  PredicateSet predicates_;
};

ConjunctionIndex Build(
    const std::vector<Document>& documents, const PredicateSet& predicates,
    size_t parallel_from = ConjunctionIndex::Builder::kParallelFrom) {
  ConjunctionIndex::Builder builder(&predicates);
  for (const Document& document : documents) {
    std::vector<ConjunctionIndex::Conjunction> conjunctions;
    for (const auto& literals : document) {
      conjunctions.push_back(builder.AddConjunction(literals));
    }
    builder.AddDocument(conjunctions);
  }
  return std::move(builder).Build(parallel_from);
}

std::vector<uint32_t> Scan(const std::vector<Document>& documents,
                           const PredicateSet& predicates,
                           const ResolvedContext& context) {
  std::vector<uint32_t> found;
  for (uint32_t d = 0; d < documents.size(); ++d) {
    const bool matches = std::any_of(
        documents[d].begin(), documents[d].end(), [&](const auto& literals) {
          return std::all_of(literals.begin(), literals.end(), [&](Literal l) {
            return predicates.Holds(l, context);
          });
        });
    if (matches) found.push_back(d);
  }
  return found;
}

std::vector<uint32_t> Walk(const ConjunctionIndex& index,
                           const PredicateSet& predicates,
                           const ResolvedContext& context, size_t wanted,
                           size_t stop_at, ConjunctionIndex::Walk* walk) {
  std::vector<uint32_t> found;
  index.Start(context, wanted, walk);
  while (found.size() < stop_at && index.Next(predicates, context, walk)) {
    found.insert(found.end(), walk->found.begin(), walk->found.end());
  }
  if (found.size() > stop_at) found.resize(stop_at);
  return found;
}

// Returns how many documents matched.
size_t Compare(uint64_t seed, size_t n, uint64_t most, int requests) {
  World world(seed);
  std::vector<Document> documents;
  for (size_t i = 0; i < n; ++i) documents.push_back(world.ADocument(most));
  // By several threads, and by one.
  const ConjunctionIndex index = seed % 2 == 0
                                     ? Build(documents, world.predicates(), 0)
                                     : Build(documents, world.predicates());
  EXPECT_EQ(index.documents(), n);
  ResolvedContext context;
  ConjunctionIndex::Walk walk;
  size_t total = 0;
  for (int r = 0; r < requests; ++r) {
    world.ARequest(&context);
    const auto expected = Scan(documents, world.predicates(), context);
    total += expected.size();
    for (const size_t wanted : {size_t{1}, size_t{7}, size_t{500}, n}) {
      for (const size_t stop_at : {wanted, n}) {
        auto prefix = expected;
        if (prefix.size() > stop_at) prefix.resize(stop_at);
        EXPECT_EQ(
            Walk(index, world.predicates(), context, wanted, stop_at, &walk),
            prefix)
            << "seed " << seed << " request " << r << " wanted " << wanted;
      }
    }
    if (::testing::Test::HasFailure()) break;
  }
  return total;
}

TEST(ConjunctionIndex, EqualsTheScanAtSmallSizes) {
  size_t total = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    total += Compare(seed, seed % 40, 4, 20);
  }
  EXPECT_GT(total, 1000u);
}

// Several windows, also empty ones, and both ways of sorting.
TEST(ConjunctionIndex, EqualsTheScanAcrossWindows) {
  EXPECT_GT(Compare(1001, 30000, 3, 10), 10000u);
  EXPECT_GT(Compare(1002, 60000, 9, 10), 100u);
}

TEST(ConjunctionIndex, LongSetsHangAtTheirAttribute) {
  PredicateSet predicates;
  predicates.AddAttribute();
  std::vector<uint32_t> symbols;
  for (size_t i = 0; i <= ConjunctionIndex::kMaxAccessSymbols; ++i) {
    symbols.push_back(predicates.AddSymbol(0));
  }
  const uint32_t other = predicates.AddSymbol(0);
  const Document document = {{predicates.InSet(0, symbols)}};
  const ConjunctionIndex index = Build({document, document}, predicates);
  ResolvedContext context;
  ConjunctionIndex::Walk walk;
  for (const uint32_t symbol : symbols) {
    predicates.Clear(&context);
    predicates.Put(symbol, &context);
    EXPECT_EQ(Walk(index, predicates, context, 9, 9, &walk).size(), 2u);
  }
  predicates.Clear(&context);
  predicates.Put(other, &context);
  EXPECT_EQ(Walk(index, predicates, context, 9, 9, &walk).size(), 0u);
}

// Scratch that other requests, and other sets, have used.
TEST(ConjunctionIndex, ScratchOfAnotherIndexIsHarmless) {
  ResolvedContext context;
  ConjunctionIndex::Walk walk;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    PredicateSet predicates;
    const uint64_t attributes = 1 + seed * 7 % 13;
    std::vector<Document> documents;
    for (uint32_t a = 0; a < attributes; ++a) {
      predicates.AddAttribute();
      documents.push_back({{Literal::OfSymbol(predicates.AddSymbol(a))}});
    }
    const ConjunctionIndex index = Build(documents, predicates);
    for (uint32_t a = 0; a < attributes; ++a) {
      predicates.Clear(&context);
      predicates.Put(a, &context);
      EXPECT_EQ(Walk(index, predicates, context, 99, 99, &walk),
                std::vector<uint32_t>{a});
    }
  }
}

TEST(ConjunctionIndex, EmptyIndexFindsNothing) {
  ConjunctionIndex::Walk walk;
  ResolvedContext context;
  EXPECT_TRUE(
      Walk(ConjunctionIndex(), PredicateSet(), context, 5, 5, &walk).empty());
}

TEST(PredicateSet, EqualPredicatesHaveEqualLiterals) {
  PredicateSet set;
  set.AddAttribute();
  const uint32_t a = set.AddSymbol(0), b = set.AddSymbol(0);
  EXPECT_EQ(set.InSet(0, {a, b}), set.InSet(0, {b, a, b}));
  EXPECT_EQ(set.InSet(0, {a, a}), Literal::OfSymbol(a));
  EXPECT_EQ(set.Range(0, -0.0, 1), set.Range(0, 0.0, 1));
  EXPECT_FALSE(set.Range(0, 0, 1) == set.Range(0, 0, 2));
}

TEST(SortDistinct, EqualsSortAndUnique) {
  Rng rng(3);
  std::vector<uint64_t> bitmap;
  for (const uint32_t size : {0, 1, 5, 100, 5000}) {
    for (const uint32_t range : {1u, 63u, 64u, 65u, 10000u, 10000000u}) {
      const uint32_t begin = 1000;
      std::vector<uint32_t> numbers;
      for (uint32_t i = 0; i < size; ++i) {
        numbers.push_back(begin + static_cast<uint32_t>(rng.Below(range)));
      }
      std::vector<uint32_t> expected = numbers;
      std::sort(expected.begin(), expected.end());
      expected.erase(std::unique(expected.begin(), expected.end()),
                     expected.end());
      SortDistinct(begin, begin + range, &bitmap, &numbers);
      ASSERT_EQ(numbers, expected) << size << " of " << range;
      ASSERT_EQ(std::count(bitmap.begin(), bitmap.end(), 0u),
                static_cast<std::ptrdiff_t>(bitmap.size()));
    }
  }
}

}  // namespace
}  // namespace adrank
