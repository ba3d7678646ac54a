// Hot path: no allocation after warm-up, no locks, no logging.
#include "server/trigger/keyword_index.h"

#include <algorithm>

#include "server/trigger/keyword_hash.h"

namespace adrank {

void KeywordIndex::Match(const KeywordSet& set, const ResolvedQuery& query,
                         Scratch* scratch, std::vector<uint32_t>* out) const {
  out->clear();
  FindBags(query, scratch);
  for (const uint32_t b : scratch->bags) {
    const Bag& bag = bags_[b];
    for (uint32_t i = bag.sequences_begin; i < bag.sequences_end; ++i) {
      const uint32_t end = MatchedEnd(sequences_[i], set, query);
      out->insert(out->end(), postings_.begin() + sequences_[i].begin,
                  postings_.begin() + end);
    }
  }
}

bool KeywordIndex::MatchesAny(const KeywordSet& set, const ResolvedQuery& query,
                              Scratch* scratch) const {
  FindBags(query, scratch);
  for (const uint32_t b : scratch->bags) {
    const Bag& bag = bags_[b];
    for (uint32_t i = bag.sequences_begin; i < bag.sequences_end; ++i) {
      const Sequence& s = sequences_[i];
      if (MatchedEnd(s, set, query) > s.begin) return true;
    }
  }
  return false;
}

uint32_t KeywordIndex::MatchedEnd(const Sequence& s, const KeywordSet& set,
                                  const ResolvedQuery& query) const {
  // Its words are in the query: BROAD holds.
  if (s.phrase == s.end ||
      !set.Matches(s.keyword, v1::MATCH_TYPE_PHRASE, query)) {
    return s.phrase;
  }
  return s.exact == s.end || set.tokens(s.keyword).size() != query.tokens.size()
             ? s.exact
             : s.end;
}

void KeywordIndex::FindBags(const ResolvedQuery& query,
                            Scratch* scratch) const {
  std::vector<uint32_t>& words = scratch->words;
  words.clear();
  scratch->bags.clear();
  for (const uint32_t token : query.tokens) {
    if (token < known_.size() && known_[token]) words.push_back(token);
  }
  if (words.empty()) return;
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  if (words.size() <= kMaxHashedWords) {
    HashSubsets(scratch);
  } else {
    ScanLists(query, scratch);
  }
}

void KeywordIndex::HashSubsets(Scratch* scratch) const {
  const std::vector<uint32_t>& words = scratch->words;
  const uint32_t subsets = 1u << words.size();
  const size_t slot_mask = slots_.size() - 1;
  std::vector<uint64_t>& hashes = scratch->hashes;
  hashes.assign(subsets, 0);
  // All addresses first, so that the cache misses overlap.
  for (uint32_t s = 1; s < subsets; ++s) {
    hashes[s] = hashes[s & (s - 1)] ^ HashToken(words[__builtin_ctz(s)]);
    __builtin_prefetch(&slots_[hashes[s] & slot_mask]);
  }
  for (uint32_t s = 1; s < subsets; ++s) {
    for (size_t i = hashes[s] & slot_mask; slots_[i].bag != kEmpty;
         i = (i + 1) & slot_mask) {
      if (slots_[i].hash != hashes[s]) continue;
      const Bag& bag = bags_[slots_[i].bag];
      uint32_t n = bag.tokens_begin;
      for (uint32_t rest = s; rest != 0 && n < bag.tokens_end;
           rest &= rest - 1) {
        if (tokens_[n++] != words[__builtin_ctz(rest)]) {
          n = kEmpty;
          break;
        }
      }
      if (n == bag.tokens_end &&
          bag.tokens_end - bag.tokens_begin ==
              static_cast<uint32_t>(__builtin_popcount(s))) {
        scratch->bags.push_back(slots_[i].bag);
      }
    }
  }
}

void KeywordIndex::ScanLists(const ResolvedQuery& query,
                             Scratch* scratch) const {
  const std::vector<uint32_t>& words = scratch->words;
  for (const uint32_t word : words) {
    for (uint32_t i = lists_[word]; i < lists_[word + 1]; ++i) {
      const Bag& bag = bags_[list_bags_[i]];
      if ((bag.signature & ~query.signature) == 0 &&
          std::includes(words.begin(), words.end(),
                        tokens_.begin() + bag.tokens_begin,
                        tokens_.begin() + bag.tokens_end)) {
        scratch->bags.push_back(list_bags_[i]);
      }
    }
  }
}

size_t KeywordIndex::bytes() const {
  return bags_.capacity() * sizeof(Bag) +
         sequences_.capacity() * sizeof(Sequence) +
         slots_.capacity() * sizeof(Slot) + known_.capacity() +
         sizeof(uint32_t) * (postings_.capacity() + tokens_.capacity() +
                             lists_.capacity() + list_bags_.capacity());
}

}  // namespace adrank
