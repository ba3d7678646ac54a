// FeatureSpec + messages -> feature rows. The only code that turns a raw value
// into a feature id; trainer and server both call it.
#ifndef ADRANK_FEATURES_FEATURE_EXTRACTOR_H_
#define ADRANK_FEATURES_FEATURE_EXTRACTOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "features/feature_batch.h"
#include "proto/common.pb.h"
#include "proto/feature_spec.pb.h"

namespace adrank {

struct CompiledSpec;

// The position that serving assumes: "clicked, if shown first".
inline constexpr uint32_t kServingPosition = 1;

// A compiled FeatureSpec. Immutable and thread-safe: no clock, no files.
// A missing attribute, a non-finite number or text that is no number (for a
// numeric kind) is an absent feature, never a fake id.
class FeatureExtractor {
 public:
  // InvalidArgument, naming the field, for: an empty or repeated name, an
  // unknown source or time zone, a kind that does not suit its source,
  // boundaries that do not increase, a QUANTILE_BIN without boundaries unless
  // `allow_unlearnt_bins` (its features are then absent), a cross of an unknown
  // field, of fewer than two or more than three fields, of numeric-valued
  // kinds, or of itself through other crosses.
  static absl::StatusOr<std::unique_ptr<const FeatureExtractor>> Create(
      const v1::FeatureSpec& spec, bool allow_unlearnt_bins = false);
  ~FeatureExtractor();

  const v1::FeatureSpec& spec() const;

  // Fields in the spec's order, then crosses; FeatureBatch::fields indexes it.
  const std::vector<std::string>& field_names() const;

  // Each appends one row.
  void ExtractContext(const v1::Context& context, absl::string_view placement,
                      FeatureBatch* out) const;
  void ExtractAd(const v1::AdSnapshot& ad, FeatureBatch* out) const;
  // `position` is 1-based in the placement; kServingPosition when serving.
  void ExtractCrosses(const FeatureBatch& contexts, size_t context_row,
                      const FeatureBatch& ads, size_t ad_row, uint32_t position,
                      FeatureBatch* out) const;

  // Clears *out and extracts all three parts. `positions` is empty (every
  // candidate at kServingPosition) or has one per ad.
  void Extract(const v1::Context& context, absl::string_view placement,
               absl::Span<const v1::AdSnapshot* const> ads,
               absl::Span<const uint32_t> positions,
               RequestFeatures* out) const;

  // 64-bit fingerprint of candidate `i`'s full row: field, id and value bits in
  // order. Equal at serving and training or the two have drifted apart. Never
  // 0.
  static uint64_t Fingerprint(const RequestFeatures& features, size_t i);

  // What each entry of candidate `i`'s full row says, for people:
  // "city=Berlin", "price:bin=7", "city x category=Berlin x shoes". In the
  // order of the full row of Extract() of the same arguments. Slow.
  std::vector<std::string> Describe(const v1::Context& context,
                                    absl::string_view placement,
                                    const v1::AdSnapshot& ad,
                                    uint32_t position) const;

 private:
  explicit FeatureExtractor(std::unique_ptr<const CompiledSpec> compiled);
  std::unique_ptr<const CompiledSpec> compiled_;
};

}  // namespace adrank

#endif  // ADRANK_FEATURES_FEATURE_EXTRACTOR_H_
