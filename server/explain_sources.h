// What explanations know from the stores.
#ifndef ADRANK_SERVER_EXPLAIN_SOURCES_H_
#define ADRANK_SERVER_EXPLAIN_SOURCES_H_

#include <cstdint>

#include "server/why_not.h"
#include "storage/catalog_store.h"

namespace adrank {

class FrequencyCaps;
class Ledger;

// All must outlive the sources that are made of them.
struct ExplainStores {
  CatalogStore* catalog = nullptr;
  const Ledger* ledger = nullptr;  // null: budgets are disabled
  FrequencyCaps* caps = nullptr;
};

// Of the past: entities as they were at `version`. What budgets and counters
// were then is not known.
ExplainSources PastSources(CatalogStore* catalog, int64_t version);

// Of now, for the catalogue of `version`.
ExplainSources LiveSources(const ExplainStores& stores, int64_t version);

}  // namespace adrank

#endif  // ADRANK_SERVER_EXPLAIN_SOURCES_H_
