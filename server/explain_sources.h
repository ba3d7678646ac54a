// What explanations know from the stores.
#ifndef ADRANK_SERVER_EXPLAIN_SOURCES_H_
#define ADRANK_SERVER_EXPLAIN_SOURCES_H_

#include <cstdint>

#include "server/why_not.h"
#include "storage/catalog_store.h"

namespace adrank {

// Entities as they were at `version`. The store must outlive it.
ExplainSources CatalogSources(CatalogStore* store, int64_t version);

}  // namespace adrank

#endif  // ADRANK_SERVER_EXPLAIN_SOURCES_H_
