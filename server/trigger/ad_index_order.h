// The order of AdIndex's matches; for ad_index_*.cc.
#ifndef ADRANK_SERVER_TRIGGER_AD_INDEX_ORDER_H_
#define ADRANK_SERVER_TRIGGER_AD_INDEX_ORDER_H_

#include <cstddef>
#include <cstdint>

#include "server/trigger/ad_index.h"

namespace adrank {

// Best value first, then the order of ids.
class AdIndex::Order {
 public:
  explicit Order(const AdIndex& index)
      : ranks_(index.new_ad_ranks_.data()),
        base_(index.base_ == nullptr ? index.size() : index.base_->size()) {}

  bool operator()(const AdMatch& a, const AdMatch& b) const {
    return a.value != b.value ? a.value > b.value : Key(a.ad) < Key(b.ad);
  }

  // The base's numbers are in the order of ids, so are those of new ads, each
  // of which stands before the first of the base with a greater id.
  uint64_t Key(uint32_t ad) const {
    return ad < base_ ? uint64_t{ad} << 32 | 0xffffffffu
                      : uint64_t{ranks_[ad - base_]} << 32 | (ad - base_);
  }

 private:
  const uint32_t* ranks_;
  const size_t base_;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_AD_INDEX_ORDER_H_
