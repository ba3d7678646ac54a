// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/trigger/source_merge.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/rng.h"

namespace adrank {
namespace {

constexpr uint32_t kFree = 0xffffffffu;

// Ads by number.
class Table {
 public:
  Table(size_t at_most, MergeScratch* scratch) : scratch_(*scratch) {
    size_t size = 16;
    while (size < 2 * at_most) size *= 2;
    scratch_.slots.assign(size, kFree);
    scratch_.ads.clear();
  }

  // The place of the ad in scratch->ads, where `match` is put when it is new.
  std::pair<uint32_t, bool> Add(const AdMatch& match) {
    std::vector<AdMatch>& ads = scratch_.ads;
    const size_t mask = scratch_.slots.size() - 1;
    for (size_t at = MixBits(match.ad) & mask;; at = (at + 1) & mask) {
      uint32_t& slot = scratch_.slots[at];
      if (slot == kFree) {
        slot = static_cast<uint32_t>(ads.size());
        ads.push_back(match);
        return {slot, true};
      }
      if (ads[slot].ad == match.ad) return {slot, false};
    }
  }

 private:
  MergeScratch& scratch_;
};

}  // namespace

absl::StatusOr<SourceQuota> SourceQuota::Create(const v1::TriggerConfig& config,
                                                uint32_t max_candidates) {
  SourceQuota quota;
  quota.keyword = config.quota().keyword();
  quota.embedding = config.quota().embedding();
  quota.targeting = config.quota().targeting();
  quota.model = config.quota().model();
  if (quota.sum() > max_candidates) {
    return absl::InvalidArgumentError(
        absl::StrCat("trigger.quota: ", quota.sum(), " in all exceed the ",
                     max_candidates, " of limits.max_candidates"));
  }
  return quota;
}

size_t MergeSources(
    const SourceLists& lists, const SourceQuota& quota, size_t limit,
    absl::FunctionRef<bool(const AdMatch&, const AdMatch&)> better,
    MergeScratch* scratch, std::vector<AdMatch>* out) {
  Table table(lists.keyword.size() + lists.embedding.size() +
                  lists.targeting.size() + lists.model.size(),
              scratch);
  std::vector<AdMatch>& ads = scratch->ads;
  for (const AdMatch& m : lists.keyword) table.Add(m);
  for (const AdMatch& m : lists.embedding) {
    ads[table.Add(m).first].similarity = m.similarity;
  }
  for (const AdMatch& m : lists.model) table.Add(m);
  for (const AdMatch& m : lists.targeting) table.Add(m);

  out->clear();
  scratch->taken.assign(ads.size(), 0);
  const uint64_t sum = quota.sum();
  const auto take = [&](absl::Span<const AdMatch> list, uint64_t share) {
    if (sum > limit) share = share * limit / sum;
    for (size_t i = 0; i < list.size() && share > 0; ++i) {
      const uint32_t place = table.Add(list[i]).first;
      if (scratch->taken[place]) continue;
      scratch->taken[place] = 1;
      out->push_back(ads[place]);
      --share;
    }
  };
  take(lists.keyword, quota.keyword);
  take(lists.embedding, quota.embedding);
  take(lists.model, quota.model);
  take(lists.targeting, quota.targeting);

  std::vector<AdMatch>& rest = scratch->rest;
  rest.clear();
  for (size_t i = 0; i < ads.size(); ++i) {
    if (!scratch->taken[i]) rest.push_back(ads[i]);
  }
  const size_t room = limit - out->size();
  if (rest.size() > room) {
    std::nth_element(rest.begin(), rest.begin() + room, rest.end(), better);
    rest.resize(room);
  }
  out->insert(out->end(), rest.begin(), rest.end());
  std::sort(out->begin(), out->end(), better);
  return ads.size();
}

}  // namespace adrank
