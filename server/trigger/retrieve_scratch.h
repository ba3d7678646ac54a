// What retrieval works with from request to request.
#ifndef ADRANK_SERVER_TRIGGER_RETRIEVE_SCRATCH_H_
#define ADRANK_SERVER_TRIGGER_RETRIEVE_SCRATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/admission.h"
#include "server/trigger/ad_tags.h"
#include "server/trigger/conjunction_index.h"
#include "server/trigger/keyword_index.h"
#include "server/trigger/keyword_set.h"
#include "server/trigger/predicates.h"
#include "server/trigger/retrieval.h"
#include "server/trigger/source_merge.h"
#include "server/trigger/vector_index.h"

namespace adrank {

class Stemmer;

// Per-request storage that is used again; one a thread.
struct RetrieveScratch {
  // What the request says to the base, and to the changes upon it.
  struct Part {
    ResolvedContext context;
    ResolvedQuery query;
    ResolvedQuery stems;     // the query's, where positives match by stems
    bool negatives = false;  // some negative keyword matches the query
  };
  RetrieveScratch();
  ~RetrieveScratch();
  RetrieveScratch(RetrieveScratch&&);
  RetrieveScratch& operator=(RetrieveScratch&&);
  Part parts[2];
  std::vector<uint32_t> blocked;  // advertisers, sorted
  BlockedTags blocked_tags;
  // The stems of the query's words: the first `stemmed` are in use.
  std::unique_ptr<Stemmer> stemmer;
  std::vector<std::string> stems;
  size_t stemmed = 0;
  const AdmissionTerms* terms = nullptr;  // of the request
  ConjunctionIndex::Walk walk;
  KeywordIndex::Scratch keywords;
  std::vector<uint32_t> positives;  // that match the query
  std::vector<uint64_t> bitmap;     // all zero between uses
  std::vector<AdMatch> merged;
  // Of RetrieveSources.
  Retrieval by_keyword, by_targeting, by_vector, by_model;
  std::vector<AdMatch> keyword_by_ad;  // by_keyword's, in the order of numbers
  std::vector<uint32_t> among;         // vectors
  MergeScratch merge;
  VectorIndex::Query query_vector;
  VectorIndex::Top top;
};

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_RETRIEVE_SCRATCH_H_
