// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/trigger/vector_index.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/kernels/vector.h"
#include "server/trigger/vector_kernel.h"

namespace adrank {
namespace {

// Blocks between two looks at the threshold: 512 vectors, 32 KB of 64
// components.
constexpr size_t kChunk = 32;
// Beyond the rounding of DotFixed over kMaxDims components (132 steps of 2^-24)
// and of the bound itself.
constexpr float kRounding = 2e-5f;

}  // namespace

size_t VectorIndex::bytes() const {
  return (vectors_.capacity() + scales_.capacity() + residuals_.capacity() +
          centroids_.capacity()) *
             sizeof(float) +
         blocks_.capacity() * sizeof(Line) +
         order_.capacity() * sizeof(uint64_t) +
         (ads_.capacity() + list_begin_.capacity()) * sizeof(uint32_t);
}

void VectorIndex::SetOrder(absl::FunctionRef<uint64_t(uint32_t ad)> order) {
  order_.resize(size());
  for (size_t i = 0; i < size(); ++i) order_[i] = order(ads_[i]);
}

void VectorIndex::Prepare(absl::Span<const float> vector, Query* query) const {
  double squares = 0, largest = 0;
  for (const float x : vector) {
    squares += double{x} * x;
    largest = std::max(largest, std::abs(double{x}));
  }
  const double norm = std::sqrt(squares);
  query->length = static_cast<float>(norm);
  query->unit.resize(dims_);
  query->quantised.assign(groups_ * 4, 0);
  query->scale = static_cast<float>(largest / norm / 127);
  query->bias = 0;
  double residual = 0;
  for (size_t i = 0; i < dims_; ++i) {
    const auto unit = static_cast<float>(vector[i] / norm);
    const auto byte = static_cast<int8_t>(std::lround(unit / query->scale));
    query->unit[i] = unit;
    query->quantised[i] = byte;
    query->bias += 128 * byte;
    const double difference = double{unit} - double{query->scale} * byte;
    residual += difference * difference;
  }
  query->residual = static_cast<float>(std::sqrt(residual));
  query->passed.resize(kChunk * kVectorBlock);
}

float VectorIndex::Similarity(size_t i, const Query& query) const {
  const float dot = DotFixed(query.unit.data(), vector(i), dims_);
  return metric_ == Metric::kCosine ? std::clamp(dot, -1.0f, 1.0f)
                                    : dot * unit_;
}

bool VectorIndex::SearchRange(size_t begin, size_t end, Filter filter,
                              Query* query, Top* top) const {
  bool changed = false;
  VectorScan scan;
  scan.groups = groups_;
  scan.query = query->quantised.data();
  scan.bias = query->bias;
  scan.scale = query->scale;
  scan.residual_factor = 1 + query->residual;
  const size_t last = (end + kVectorBlock - 1) / kVectorBlock;
  for (size_t b = begin / kVectorBlock; b < last; b += kChunk) {
    scan.count = std::min(kChunk, last - b);
    scan.blocks = blocks_[b * groups_].bytes;
    scan.scales = &scales_[b * kVectorBlock];
    scan.residuals = &residuals_[b * kVectorBlock];
    scan.threshold = top->threshold() / unit_ - query->residual - kRounding;
    const size_t n = RunVectorScan(scan, query->passed.data());
    for (size_t p = 0; p < n; ++p) {
      const size_t i = b * kVectorBlock + query->passed[p];
      if (i < begin || i >= end) continue;  // of a list beside this one
      if (p + 4 < n) {
        __builtin_prefetch(vector(b * kVectorBlock + query->passed[p + 4]));
      }
      const Hit hit = HitOf(i, *query);
      if (!top->Wants(hit) || !filter(static_cast<uint32_t>(i))) continue;
      top->Add(hit);
      changed = true;
    }
  }
  return changed;
}

void VectorIndex::Search(Filter filter, Query* query, Top* top) const {
  SearchRange(0, size(), filter, query, top);
}

void VectorIndex::SearchAmong(absl::Span<const uint32_t> vectors, Filter filter,
                              Query* query, Top* top) const {
  for (size_t p = 0; p < vectors.size(); ++p) {
    const uint32_t i = vectors[p];
    if (p + 4 < vectors.size()) __builtin_prefetch(vector(vectors[p + 4]));
    const Hit hit = HitOf(i, *query);
    if (top->Wants(hit) && filter(i)) top->Add(hit);
  }
}

void VectorIndex::SearchApproximately(Filter filter, Query* query,
                                      Top* top) const {
  auto& lists = query->lists;
  lists.clear();
  for (size_t l = 0; l + 1 < list_begin_.size(); ++l) {
    lists.emplace_back(
        -DotFixed(query->unit.data(), &centroids_[l * dims_], dims_),
        static_cast<uint32_t>(l));
  }
  size_t without = 0, read = 0;
  // Sorted as far as it is read.
  size_t sorted = 0;
  for (size_t n = 0; n < lists.size(); ++n) {
    if (n == sorted) {
      sorted = std::min(lists.size(), std::max<size_t>(64, 2 * sorted));
      std::partial_sort(lists.begin() + n, lists.begin() + sorted, lists.end());
    }
    const uint32_t l = lists[n].second;
    if (list_begin_[l] == list_begin_[l + 1]) continue;
    const bool changed =
        SearchRange(list_begin_[l], list_begin_[l + 1], filter, query, top);
    without = changed ? 0 : without + 1;
    if (++read >= kMinLists && without >= kPatience && top->Full()) return;
  }
}

void VectorIndex::Top::Start(size_t k, float min_similarity) {
  k_ = k;
  min_similarity_ = min_similarity;
  full_ = k == 0;
  // None is better than this, with k == 0; products know no bound.
  worst_ = {std::numeric_limits<float>::infinity(), 0, 0};
  hits_.clear();
}

void VectorIndex::Top::Shrink() {
  std::nth_element(hits_.begin(), hits_.begin() + (k_ - 1), hits_.end(),
                   Better);
  hits_.resize(k_);
  worst_ = hits_.back();
  full_ = true;
}

void VectorIndex::Top::Add(const Hit& hit) {
  hits_.push_back(hit);
  // The first k at once, later ones together.
  if (hits_.size() == (full_ ? 2 * k_ : k_)) Shrink();
}

std::vector<VectorIndex::Hit>& VectorIndex::Top::Finish() {
  if (hits_.size() > k_) Shrink();
  std::sort(hits_.begin(), hits_.end(), Better);
  return hits_;
}

}  // namespace adrank
