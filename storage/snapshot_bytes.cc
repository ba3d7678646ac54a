#include "storage/snapshot_bytes.h"

#include <utility>

#include "base/hash.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "storage/log_format.h"

namespace adrank {

EncodedAd EncodeAd(const v1::AdSnapshot& ad) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream out(&stream);
    out.SetSerializationDeterministic(true);
    ad.SerializeToCodedStream(&out);
  }
  return EncodedOf(std::move(bytes));
}

EncodedAd EncodedOf(std::string snapshot_bytes) {
  EncodedAd encoded;
  encoded.bytes = std::move(snapshot_bytes);
  const Hash128Value hash = Hash128(encoded.bytes);
  log_format::AppendBe64(hash.high, &encoded.hash);
  log_format::AppendBe64(hash.low, &encoded.hash);
  return encoded;
}

}  // namespace adrank
