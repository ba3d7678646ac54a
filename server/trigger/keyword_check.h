// Keywords that would match nothing, or everything.
#ifndef ADRANK_SERVER_TRIGGER_KEYWORD_CHECK_H_
#define ADRANK_SERVER_TRIGGER_KEYWORD_CHECK_H_

#include "absl/status/status.h"
#include "proto/catalog.pb.h"

namespace adrank {

// InvalidArgument, naming entity and keyword, for a keyword (of an ad group, or
// a campaign's negative) of whose text the normaliser leaves no word ("!!!"),
// and for a positive BROAD one of stop words only ("the", "of the"; English):
// every other query has those, and nobody means them. As EXACT or PHRASE ("the
// who") they are fine. OK for other entities.
absl::Status CheckKeywords(const v1::CatalogEntity& entity);

}  // namespace adrank

#endif  // ADRANK_SERVER_TRIGGER_KEYWORD_CHECK_H_
