// Requests as bytes. gRPC answers a request that does not parse with
// UNIMPLEMENTED and no word, before any of our code runs; text that is not
// UTF-8 is such a case. Services that promise to name the wrong field take the
// bytes and parse them here.
#ifndef ADRANK_SERVER_RPC_RAW_MESSAGE_H_
#define ADRANK_SERVER_RPC_RAW_MESSAGE_H_

#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace adrank {

// InvalidArgument: "context.query: not valid UTF-8" names the first such field;
// else the bytes are no message of this type.
absl::Status ParseRaw(const grpc::ByteBuffer& bytes,
                      google::protobuf::Message* message);

// Replaces *bytes.
absl::Status SerializeRaw(const google::protobuf::Message& message,
                          grpc::ByteBuffer* bytes);

}  // namespace adrank

#endif  // ADRANK_SERVER_RPC_RAW_MESSAGE_H_
