// Ads as the log keeps them: the bytes of their snapshots, under a hash.
#ifndef ADRANK_STORAGE_SNAPSHOT_BYTES_H_
#define ADRANK_STORAGE_SNAPSHOT_BYTES_H_

#include <string>

#include "proto/common.pb.h"

namespace adrank {

// The 16 bytes that name a snapshot, and the bytes they name.
struct EncodedAd {
  std::string hash;
  std::string bytes;
};
// Deterministic serialisation of the snapshot and its hash.
EncodedAd EncodeAd(const v1::AdSnapshot& ad);
// What EncodeAd returns for the snapshot whose deterministic serialisation this
// is.
EncodedAd EncodedOf(std::string snapshot_bytes);

}  // namespace adrank

#endif  // ADRANK_STORAGE_SNAPSHOT_BYTES_H_
