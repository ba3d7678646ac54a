// The nearest of many vectors, among those that a filter lets through.
#ifndef ADRANK_SERVER_TRIGGER_VECTOR_INDEX_H_
#define ADRANK_SERVER_TRIGGER_VECTOR_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/huge_pages.h"

namespace adrank {

// Vectors of ads, compared with a request's by cosine or by inner product. For
// cosines they are scaled to length 1; for products all by one power of 2, so
// that none is longer than 1 and products keep their bits. A search reads a
// copy of one byte a component, with which it leaves out all vectors whose
// cosine cannot reach the worst of those found so far; the others are computed
// again in float, and only then the filter is asked, which may be slow. What is
// left out is left out for certain:
//   |q v - q' v'| <= |q| |v - v'| + |q - q'| |v'|
// for quantised q', v', and the lengths |v - v'| are kept. So the result is
// that of a scan in float, bit for bit on every CPU (DotFixed), and never has
// an ad that the filter refuses.
//
// From a stated number of vectors on they are kept in lists around centroids
// (IVF; Jegou, Douze, Schmid 2011, section 4, without product quantisation);
// for products the lists are those of the vectors with one more component that
// makes all equally long (Bachrach et al. 2014): with 0 there for the request,
// the order by cosine is that by product.
// An approximate search reads lists, the one with the nearest centroid first,
// until kPatience in a row have brought nothing. A filter makes it read on, up
// to all, rather than return less. Immutable, thread-safe.
class VectorIndex {
 public:
  // The most components. A byte times a byte, summed, stays below 2^26.
  static constexpr size_t kMaxDims = 2048;
  // Lists without a new one of the best that end an approximate search, and the
  // lists that it reads at least; recall in bench/RESULTS.md.
  static constexpr size_t kPatience = 24;
  static constexpr size_t kMinLists = 32;

  enum class Metric { kCosine, kProduct };

  struct Hit {
    // Cosine, or product with the request's vector scaled to length 1.
    float similarity = 0;
    uint32_t ad = 0;
    uint64_t order = 0;
  };
  // The order of results: most similar first, then by `order`.
  static bool Better(const Hit& a, const Hit& b) {
    return a.similarity != b.similarity ? a.similarity > b.similarity
                                        : a.order < b.order;
  }

  // A request's vector, and storage that is used again; one a thread.
  struct Query {
    float length = 0;               // of the vector
    std::vector<float> unit;        // [dims], the vector / length
    std::vector<int8_t> quantised;  // [dims rounded up to 4]
    float scale = 0;                // unit is about scale x quantised
    float residual = 0;             // length of the difference
    int32_t bias = 0;
    std::vector<uint32_t> passed;
    std::vector<std::pair<float, uint32_t>> lists;
  };

  // The best so far, at most k.
  class Top;

  class Builder;

  VectorIndex() = default;

  size_t size() const { return ads_.size(); }
  // Components of each vector; 0: there is none.
  size_t dims() const { return dims_; }
  size_t bytes() const;
  bool approximate() const { return !list_begin_.empty(); }
  uint32_t ad(size_t i) const { return ads_[i]; }

  // Hits tie in the order of these, of each ad; else of the ads' numbers, as
  // number << 32 | 0xffffffff.
  void SetOrder(absl::FunctionRef<uint64_t(uint32_t ad)> order);

  // REQUIRES: vector.size() == dims(), finite, not all 0.
  void Prepare(absl::Span<const float> vector, Query* query) const;
  // Of vector i.
  float Similarity(size_t i, const Query& query) const;
  Hit HitOf(size_t i, const Query& query) const {
    return {Similarity(i, query), ads_[i],
            order_.empty() ? uint64_t{ads_[i]} << 32 | 0xffffffffu : order_[i]};
  }

  // Asked with the number of a vector.
  using Filter = absl::FunctionRef<bool(uint32_t i)>;
  // Adds to *top what belongs there: of all vectors.
  void Search(Filter filter, Query* query, Top* top) const;
  // Of the given vectors: costs what they are, not what all are.
  void SearchAmong(absl::Span<const uint32_t> vectors, Filter filter,
                   Query* query, Top* top) const;
  // REQUIRES: approximate().
  void SearchApproximately(Filter filter, Query* query, Top* top) const;

 private:
  // Vectors [begin, end). True when *top changed.
  bool SearchRange(size_t begin, size_t end, Filter filter, Query* query,
                   Top* top) const;
  const float* vector(size_t i) const { return &vectors_[i * dims_]; }

  size_t dims_ = 0, groups_ = 0;
  Metric metric_ = Metric::kCosine;
  // Of products: what the vectors were divided by; a power of 2.
  float unit_ = 1;
  HugeVector<float> vectors_;    // [size][dims], none longer than 1
  std::vector<uint32_t> ads_;    // [size]
  std::vector<uint64_t> order_;  // [size] or empty
  // vector_kernel.h
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  HugeVector<Line> blocks_;       // [size / 16 rounded up][groups]
  HugeVector<float> scales_;      // [a multiple of 16]
  HugeVector<float> residuals_;   // the same; huge negative past the last
  std::vector<float> centroids_;  // [lists][dims]
  // [lists + 1]: list l is vectors [list_begin_[l], list_begin_[l + 1]).
  std::vector<uint32_t> list_begin_;
};

class VectorIndex::Top {
 public:
  // Keeps hits of at least min_similarity.
  void Start(size_t k, float min_similarity);
  size_t k() const { return k_; }
  // Whether a hit would be kept.
  bool Wants(const Hit& hit) const {
    return hit.similarity >= min_similarity_ && (!full_ || Better(hit, worst_));
  }
  // No hit below this is wanted.
  float threshold() const {
    return full_ ? worst_.similarity : min_similarity_;
  }
  // REQUIRES: Wants(hit).
  void Add(const Hit& hit);
  // There are k.
  bool Full() const { return full_; }
  // The best k, in order. Ends the search.
  std::vector<Hit>& Finish();

 private:
  void Shrink();
  size_t k_ = 0;
  float min_similarity_ = -1;
  bool full_ = false;
  Hit worst_;              // of the best k when there are k
  std::vector<Hit> hits_;  // fewer than 2 k
};

class VectorIndex::Builder {
 public:
  // Of vectors with `dims` components; 0: as many as the first has.
  explicit Builder(size_t dims = 0, Metric metric = Metric::kCosine) {
    index_.dims_ = dims;
    index_.metric_ = metric;
  }

  // InvalidArgument unless the vector has 1 to kMaxDims finite components, as
  // many as the others; for cosines some not 0, for products none beyond 1e30.
  absl::Status Add(uint32_t ad, absl::Span<const float> vector);
  size_t size() const { return index_.ads_.size(); }
  // In lists when there are `approximate_from` vectors or more (not 0).
  VectorIndex Build(size_t approximate_from) &&;

 private:
  void ScaleForProducts();
  // The vectors with one component more, all of length 1.
  HugeVector<float> EquallyLong() const;
  void Cluster();
  void Quantise();
  VectorIndex index_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_VECTOR_INDEX_H_
