#include "server/rpc/raw_message.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "features/text.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

namespace adrank {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;

constexpr int kMaxDepth = 100;

std::string FindBadText(const Descriptor& type, int depth,
                        CodedInputStream* in);

// As FindBadText, for the field whose tag was read.
std::string FindInField(const FieldDescriptor& field, int depth,
                        CodedInputStream* in) {
  int size = 0;
  if (!in->ReadVarintSizeAsInt(&size)) return "";
  if (field.type() == FieldDescriptor::TYPE_STRING) {
    std::string text;
    return in->ReadString(&text, size) && !IsValidUtf8(text) ? field.name()
                                                             : "";
  }
  const CodedInputStream::Limit limit = in->PushLimit(size);
  const std::string inner = FindBadText(*field.message_type(), depth + 1, in);
  in->PopLimit(limit);
  return inner.empty() ? "" : absl::StrCat(field.name(), ".", inner);
}

// Path of the first string that is not UTF-8; empty when none was found in what
// can be read.
std::string FindBadText(const Descriptor& type, int depth,
                        CodedInputStream* in) {
  std::map<int, int> seen;  // field number -> elements of a repeated field
  while (const uint32_t tag = in->ReadTag()) {
    const FieldDescriptor* field =
        type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool has_text = field != nullptr && depth < kMaxDepth &&
                          WireFormatLite::GetTagWireType(tag) ==
                              WireFormatLite::WIRETYPE_LENGTH_DELIMITED &&
                          (field->type() == FieldDescriptor::TYPE_STRING ||
                           field->type() == FieldDescriptor::TYPE_MESSAGE);
    if (!has_text) {
      if (!WireFormatLite::SkipField(in, tag)) return "";
      continue;
    }
    std::string path = FindInField(*field, depth, in);
    const int index = seen[field->number()]++;
    if (path.empty()) continue;
    if (field->is_repeated()) {
      path.insert(field->name().size(), absl::StrCat("[", index, "]"));
    }
    return path;
  }
  return "";
}

}  // namespace

absl::Status ParseRaw(const grpc::ByteBuffer& bytes,
                      google::protobuf::Message* message) {
  grpc::ByteBuffer shared = bytes;  // readers take no const buffer
  {
    grpc::ProtoBufferReader reader(&shared);
    if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) {
      return absl::OkStatus();
    }
  }
  const Descriptor& type = *message->GetDescriptor();
  std::string bad;
  grpc::ProtoBufferReader reader(&shared);
  if (reader.status().ok()) {
    CodedInputStream in(&reader);
    bad = FindBadText(type, 0, &in);
  }
  return absl::InvalidArgumentError(
      bad.empty() ? absl::StrCat("the bytes are no ", type.full_name())
                  : absl::StrCat(bad, ": not valid UTF-8"));
}

absl::Status SerializeRaw(const google::protobuf::Message& message,
                          grpc::ByteBuffer* bytes) {
  const size_t size = message.ByteSizeLong();
  bytes->Clear();  // the writer wants an empty one
  grpc::ProtoBufferWriter writer(bytes, 1 << 20, static_cast<int>(size));
  if (message.SerializeToZeroCopyStream(&writer)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cannot serialise ", message.GetDescriptor()->full_name()));
}

}  // namespace adrank
