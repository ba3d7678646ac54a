// VectorIndex::Builder: lengths, lists, bytes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/rng.h"
#include "model/kernels/gemm.h"
#include "server/trigger/vector_index.h"
#include "server/trigger/vector_kernel.h"

namespace adrank {
namespace {

// Of the sample that centroids are learnt from; rounds after which they hardly
// move any more.
constexpr size_t kSamplesPerList = 32;
constexpr int kRounds = 8;
// Vectors whose products with all centroids are computed together.
constexpr size_t kTile = 256;
// Of a component, for products: lengths and their powers of 2 stay finite.
constexpr float kLargest = 1e30f;
// Below any threshold, whatever it is multiplied with.
constexpr float kNever = -1e30f;

double Squares(const float* v, size_t dims) {
  double squares = 0;
  for (size_t i = 0; i < dims; ++i) squares += double{v[i]} * v[i];
  return squares;
}

void Normalise(float* v, size_t dims) {
  const double squares = Squares(v, dims);
  if (squares == 0) return;
  const double norm = std::sqrt(squares);
  for (size_t i = 0; i < dims; ++i) v[i] = static_cast<float>(v[i] / norm);
}

// The nearest of the centroids, [lists][dims], to each of the vectors.
void Assign(const float* vectors, size_t n, const std::vector<float>& centroids,
            size_t dims, uint32_t* nearest) {
  const size_t lists = centroids.size() / dims;
  PackedMatrix packed;
  packed.Pack(centroids.data(), dims, lists, dims, /*transposed=*/true);
  std::vector<float> products(kTile * lists);
  for (size_t begin = 0; begin < n; begin += kTile) {
    const size_t rows = std::min(kTile, n - begin);
    Gemm(rows, vectors + begin * dims, dims, packed, false, products.data(),
         lists);
    for (size_t r = 0; r < rows; ++r) {
      const float* row = &products[r * lists];
      nearest[begin + r] =
          static_cast<uint32_t>(std::max_element(row, row + lists) - row);
    }
  }
}

// Spherical k-means (Dhillon and Modha 2001) of a sample: a centroid is the
// direction of the sum of its vectors; an empty one takes a vector at random.
std::vector<float> Centroids(const HugeVector<float>& vectors, size_t dims,
                             size_t lists) {
  const size_t n = vectors.size() / dims;
  const size_t samples = std::min(n, lists * kSamplesPerList);
  Rng rng(n);
  std::vector<float> sample(samples * dims);
  for (size_t s = 0; s < samples; ++s) {
    // One of each stretch of n / samples.
    const size_t first = s * n / samples, next = (s + 1) * n / samples;
    std::memcpy(&sample[s * dims],
                &vectors[(first + rng.Below(next - first)) * dims],
                dims * sizeof(float));
  }
  const auto any = [&] { return &sample[rng.Below(samples) * dims]; };
  std::vector<float> centroids(lists * dims);
  for (size_t l = 0; l < lists; ++l) {
    std::memcpy(&centroids[l * dims], any(), dims * sizeof(float));
  }
  std::vector<uint32_t> nearest(samples);
  for (int round = 0; round < kRounds; ++round) {
    Assign(sample.data(), samples, centroids, dims, nearest.data());
    std::fill(centroids.begin(), centroids.end(), 0.0f);
    std::vector<uint32_t> sizes(lists);
    for (size_t s = 0; s < samples; ++s) {
      ++sizes[nearest[s]];
      float* sum = &centroids[nearest[s] * dims];
      for (size_t i = 0; i < dims; ++i) sum[i] += sample[s * dims + i];
    }
    for (size_t l = 0; l < lists; ++l) {
      float* centroid = &centroids[l * dims];
      if (sizes[l] == 0) std::memcpy(centroid, any(), dims * sizeof(float));
      Normalise(centroid, dims);
    }
  }
  return centroids;
}

}  // namespace

absl::Status VectorIndex::Builder::Add(uint32_t ad,
                                       absl::Span<const float> vector) {
  const auto wrong = [](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat("embedding ", parts...));
  };
  if (vector.empty() || vector.size() > kMaxDims) {
    return wrong("has ", vector.size(), " components, not 1 to ", kMaxDims);
  }
  if (index_.dims_ != 0 && vector.size() != index_.dims_) {
    return wrong("has ", vector.size(), " components, others have ",
                 index_.dims_);
  }
  const bool cosine = index_.metric_ == Metric::kCosine;
  bool zero = true;
  for (const float x : vector) {
    if (!std::isfinite(x)) return wrong("has a component that is not finite");
    if (!cosine && std::abs(x) > kLargest) {
      return wrong("has a component beyond ", kLargest);
    }
    zero = zero && x == 0;
  }
  if (zero && cosine) return wrong("is 0 in all components");
  index_.dims_ = vector.size();
  auto& all = index_.vectors_;
  all.insert(all.end(), vector.begin(), vector.end());
  if (cosine) {
    Normalise(all.data() + all.size() - vector.size(), vector.size());
  }
  index_.ads_.push_back(ad);
  return absl::OkStatus();
}

// A power of 2 changes exponents only: products with vectors of another index,
// scaled by another power, compare bit for bit.
void VectorIndex::Builder::ScaleForProducts() {
  const size_t dims = index_.dims_;
  double longest = 0;
  for (size_t i = 0; i < index_.size(); ++i) {
    longest = std::max(longest, Squares(index_.vector(i), dims));
  }
  if (longest == 0) return;
  int exponent = 0;
  // A little longer, so that rounding leaves none above 1.
  std::frexp(std::sqrt(longest) * (1 + 1e-6), &exponent);
  index_.unit_ = std::ldexp(1.0f, exponent);
  for (float& x : index_.vectors_) x /= index_.unit_;
}

HugeVector<float> VectorIndex::Builder::EquallyLong() const {
  const size_t dims = index_.dims_;
  HugeVector<float> longer;
  longer.reserve(index_.size() * (dims + 1));
  for (size_t i = 0; i < index_.size(); ++i) {
    const float* v = index_.vector(i);
    longer.insert(longer.end(), v, v + dims);
    longer.push_back(
        static_cast<float>(std::sqrt(std::max(0.0, 1 - Squares(v, dims)))));
  }
  return longer;
}

void VectorIndex::Builder::Cluster() {
  const size_t n = index_.size(), dims = index_.dims_;
  // A search reads all centroids, and tens of lists.
  const auto lists = static_cast<size_t>(std::sqrt(static_cast<double>(n)));
  std::vector<uint32_t> list_of(n);
  {
    HugeVector<float> longer_vectors;
    if (index_.metric_ == Metric::kProduct) longer_vectors = EquallyLong();
    const HugeVector<float>& all =
        longer_vectors.empty() ? index_.vectors_ : longer_vectors;
    const size_t longer = all.size() / n;
    const std::vector<float> centroids = Centroids(all, longer, lists);
    Assign(all.data(), n, centroids, longer, list_of.data());
    index_.centroids_.resize(lists * dims);
    for (size_t l = 0; l < lists; ++l) {
      std::memcpy(&index_.centroids_[l * dims], &centroids[l * longer],
                  dims * sizeof(float));
    }
  }
  // Counting sort; within a list the order stays.
  std::vector<uint32_t>& begin = index_.list_begin_;
  begin.assign(lists + 1, 0);
  for (const uint32_t l : list_of) ++begin[l + 1];
  for (size_t l = 0; l < lists; ++l) begin[l + 1] += begin[l];
  std::vector<uint32_t> next(begin.begin(), begin.end() - 1), ads(n);
  HugeVector<float> sorted(n * dims);
  for (size_t i = 0; i < n; ++i) {
    const uint32_t to = next[list_of[i]]++;
    ads[to] = index_.ads_[i];
    std::memcpy(&sorted[to * dims], index_.vector(i), dims * sizeof(float));
  }
  index_.ads_ = std::move(ads);
  index_.vectors_ = std::move(sorted);
}

void VectorIndex::Builder::Quantise() {
  const size_t n = index_.size(), dims = index_.dims_;
  const size_t blocks = (n + kVectorBlock - 1) / kVectorBlock;
  index_.groups_ = (dims + 3) / 4;
  index_.scales_.assign(blocks * kVectorBlock, 0.0f);
  index_.residuals_.assign(blocks * kVectorBlock, kNever);
  Line zero;
  std::memset(zero.bytes, 128, sizeof(zero.bytes));
  index_.blocks_.assign(blocks * index_.groups_, zero);
  for (size_t i = 0; i < n; ++i) {
    const float* v = index_.vector(i);
    float largest = 0;
    for (size_t c = 0; c < dims; ++c) {
      largest = std::max(largest, std::abs(v[c]));
    }
    // All 0: any scale.
    const float scale = largest > 0 ? largest / 127 : 1.0f;
    const size_t block = i / kVectorBlock * index_.groups_;
    double squares = 0;
    for (size_t c = 0; c < dims; ++c) {
      const auto q = static_cast<int>(std::lround(v[c] / scale));
      index_.blocks_[block + c / 4].bytes[i % kVectorBlock * 4 + c % 4] =
          static_cast<uint8_t>(q + 128);
      const double difference = double{v[c]} - double{scale} * q;
      squares += difference * difference;
    }
    index_.scales_[i] = scale;
    index_.residuals_[i] = static_cast<float>(std::sqrt(squares));
  }
}

VectorIndex VectorIndex::Builder::Build(size_t approximate_from) && {
  if (index_.metric_ == Metric::kProduct) ScaleForProducts();
  if (approximate_from != 0 && size() >= approximate_from) {
    Cluster();
  } else {
    index_.vectors_.shrink_to_fit();
    index_.ads_.shrink_to_fit();
  }
  Quantise();
  return std::move(index_);
}

}  // namespace adrank
