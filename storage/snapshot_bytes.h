// Ads that are kept as the bytes of their snapshots.
#ifndef ADRANK_STORAGE_SNAPSHOT_BYTES_H_
#define ADRANK_STORAGE_SNAPSHOT_BYTES_H_

#include <string>

#include "storage/event_log.h"

namespace adrank {

// What EncodeAd returns for the snapshot whose deterministic serialisation this
// is.
EncodedAd EncodedOf(std::string snapshot_bytes);

}  // namespace adrank

#endif  // ADRANK_STORAGE_SNAPSHOT_BYTES_H_
