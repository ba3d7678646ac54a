// KeywordIndex's constructor: groups postings by keyword, keywords by set of
// words, and files the sets.
#include <algorithm>
#include <numeric>
#include <utility>

#include "server/trigger/keyword_hash.h"
#include "server/trigger/keyword_index.h"

namespace adrank {
namespace {

// BROAD before PHRASE before EXACT: what a query matches is a prefix.
uint32_t Rank(v1::MatchType type) {
  return type == v1::MATCH_TYPE_EXACT    ? 2
         : type == v1::MATCH_TYPE_PHRASE ? 1
                                         : 0;
}

}  // namespace

class KeywordIndex::Builder {
 public:
  Builder(const KeywordSet& set, absl::Span<const KeywordPosting> postings,
          KeywordIndex* index)
      : set_(set), postings_(postings), index_(*index) {}

  void Build() {
    SortPostings();
    SortTokens();
    MakeBags();
    MakeSlots();
    MakeLists();
  }

 private:
  // Counting sort by (keyword, type).
  void SortPostings() {
    starts_.assign(3 * set_.size() + 1, 0);
    for (const KeywordPosting& p : postings_) ++starts_[Key(p) + 1];
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
    std::vector<uint32_t> next(starts_.begin(), starts_.end());
    index_.postings_.resize(postings_.size());
    for (size_t i = 0; i < postings_.size(); ++i) {
      index_.postings_[next[Key(postings_[i])]++] = static_cast<uint32_t>(i);
    }
  }

  static size_t Key(const KeywordPosting& p) {
    return 3 * size_t{p.keyword} + Rank(p.type);
  }

  // The distinct tokens of each keyword that is used, ascending, and the
  // keywords so that those of one bag are neighbours.
  void SortTokens() {
    begins_.resize(set_.size() + 1);
    for (uint32_t k = 0; k < set_.size(); ++k) {
      begins_[k] = static_cast<uint32_t>(sorted_.size());
      if (starts_[3 * size_t{k}] == starts_[3 * size_t{k} + 3]) continue;
      const auto tokens = set_.tokens(k);
      if (tokens.empty()) continue;
      sorted_.insert(sorted_.end(), tokens.begin(), tokens.end());
      const auto first = sorted_.begin() + begins_[k];
      std::sort(first, sorted_.end());
      sorted_.erase(std::unique(first, sorted_.end()), sorted_.end());
      uint64_t hash = 0;
      for (size_t i = begins_[k]; i < sorted_.size(); ++i) {
        hash ^= HashToken(sorted_[i]);
      }
      keywords_.push_back({hash, k});
    }
    begins_[set_.size()] = static_cast<uint32_t>(sorted_.size());
    std::sort(keywords_.begin(), keywords_.end(),
              [this](const auto& a, const auto& b) {
                if (a.first != b.first) return a.first < b.first;
                const auto x = Tokens(a.second), y = Tokens(b.second);
                if (x != y) {
                  return std::lexicographical_compare(x.begin(), x.end(),
                                                      y.begin(), y.end());
                }
                return a.second < b.second;
              });
  }

  absl::Span<const uint32_t> Tokens(uint32_t keyword) const {
    return {sorted_.data() + begins_[keyword],
            begins_[keyword + 1] - begins_[keyword]};
  }

  void MakeBags() {
    index_.known_.assign(set_.words(), 0);
    uses_.assign(set_.words(), 0);
    for (size_t i = 0; i < keywords_.size(); ++i) {
      const uint32_t k = keywords_[i].second;
      if (i == 0 || Tokens(k) != Tokens(keywords_[i - 1].second)) {
        AddBag(k, keywords_[i].first);
      }
      const uint32_t* start = &starts_[3 * size_t{k}];
      index_.sequences_.push_back({k, start[0], start[1], start[2], start[3]});
      index_.bags_.back().sequences_end =
          static_cast<uint32_t>(index_.sequences_.size());
    }
  }

  void AddBag(uint32_t keyword, uint64_t hash) {
    const auto begin = static_cast<uint32_t>(index_.tokens_.size());
    const auto sequences = static_cast<uint32_t>(index_.sequences_.size());
    Bag bag = {0, begin, begin, sequences, sequences};
    for (const uint32_t token : Tokens(keyword)) {
      index_.tokens_.push_back(token);
      index_.known_[token] = 1;
      ++uses_[token];
      bag.signature |= SignatureBit(token);
    }
    bag.tokens_end = static_cast<uint32_t>(index_.tokens_.size());
    index_.bags_.push_back(bag);
    hashes_.push_back(hash);
  }

  void MakeSlots() {
    size_t size = 2;
    while (size < 2 * index_.bags_.size()) size *= 2;
    index_.slots_.resize(size);
    for (uint32_t b = 0; b < index_.bags_.size(); ++b) {
      size_t i = hashes_[b] & (size - 1);
      while (index_.slots_[i].bag != kEmpty) i = (i + 1) & (size - 1);
      index_.slots_[i] = {hashes_[b], b};
    }
  }

  // Counting sort of bags by their rarest word.
  void MakeLists() {
    std::vector<uint32_t> rarest;
    index_.lists_.assign(set_.words() + 1, 0);
    for (const Bag& bag : index_.bags_) {
      rarest.push_back(*std::min_element(
          index_.tokens_.begin() + bag.tokens_begin,
          index_.tokens_.begin() + bag.tokens_end,
          [this](uint32_t a, uint32_t b) { return uses_[a] < uses_[b]; }));
      ++index_.lists_[rarest.back() + 1];
    }
    std::partial_sum(index_.lists_.begin(), index_.lists_.end(),
                     index_.lists_.begin());
    std::vector<uint32_t> next = index_.lists_;
    index_.list_bags_.resize(rarest.size());
    for (uint32_t b = 0; b < rarest.size(); ++b) {
      index_.list_bags_[next[rarest[b]]++] = b;
    }
  }

  const KeywordSet& set_;
  const absl::Span<const KeywordPosting> postings_;
  KeywordIndex& index_;
  std::vector<uint32_t> starts_;  // [3 * keywords + 1], into postings_
  std::vector<uint32_t> begins_;  // [keywords + 1], into sorted_
  std::vector<uint32_t> sorted_;
  std::vector<std::pair<uint64_t, uint32_t>> keywords_;  // hash, keyword
  std::vector<uint64_t> hashes_;                         // [bags]
  std::vector<uint32_t> uses_;                           // [words], by bags
};

KeywordIndex::KeywordIndex(const KeywordSet& set,
                           absl::Span<const KeywordPosting> postings) {
  Builder(set, postings, this).Build();
}

}  // namespace adrank
