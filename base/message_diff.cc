#include "base/message_diff.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace adrank {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// index -1: the field is singular.
std::string ValueText(const Message& message, const FieldDescriptor* field,
                      int index) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    const Reflection* r = message.GetReflection();
    const Message& value = index < 0
                               ? r->GetMessage(message, field)
                               : r->GetRepeatedMessage(message, field, index);
    printer.PrintToString(value, &text);
    return absl::StrCat("{ ", text, "}");
  }
  printer.PrintFieldValueToString(message, field, index, &text);
  return text;
}

template <typename T>
bool SameBits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

bool SameScalar(const Message& a, int i, const Message& b, int j,
                const FieldDescriptor* field) {
  const Reflection* r = a.GetReflection();
  const bool one = !field->is_repeated();
  switch (field->cpp_type()) {
#define ADRANK_CASE(TYPE, Name)                                           \
  case FieldDescriptor::CPPTYPE_##TYPE:                                   \
    return one ? SameBits(r->Get##Name(a, field), r->Get##Name(b, field)) \
               : SameBits(r->GetRepeated##Name(a, field, i),              \
                          r->GetRepeated##Name(b, field, j));
    ADRANK_CASE(INT32, Int32)
    ADRANK_CASE(INT64, Int64)
    ADRANK_CASE(UINT32, UInt32)
    ADRANK_CASE(UINT64, UInt64)
    ADRANK_CASE(DOUBLE, Double)
    ADRANK_CASE(FLOAT, Float)
    ADRANK_CASE(BOOL, Bool)
    ADRANK_CASE(ENUM, EnumValue)
#undef ADRANK_CASE
    case FieldDescriptor::CPPTYPE_STRING:
      return one ? r->GetString(a, field) == r->GetString(b, field)
                 : r->GetRepeatedString(a, field, i) ==
                       r->GetRepeatedString(b, field, j);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      break;
  }
  return false;
}

class Differ {
 public:
  explicit Differ(size_t limit) : limit_(limit) {}

  void Compare(const Message& a, const Message& b, const std::string& prefix) {
    const auto* type = a.GetDescriptor();
    std::vector<const FieldDescriptor*> fields;
    for (int i = 0; i < type->field_count(); ++i) {
      fields.push_back(type->field(i));
    }
    std::sort(fields.begin(), fields.end(),
              [](const FieldDescriptor* x, const FieldDescriptor* y) {
                return x->number() < y->number();
              });
    for (const FieldDescriptor* field : fields) {
      const std::string path = prefix + field->name();
      if (field->is_repeated()) {
        CompareLists(a, b, field, path);
      } else {
        CompareField(a, b, field, path);
      }
    }
  }

  std::vector<FieldDifference> found;

 private:
  void Add(const std::string& path, std::string left, std::string right) {
    if (found.size() < limit_) {
      found.push_back({path, std::move(left), std::move(right)});
    }
  }

  void CompareField(const Message& a, const Message& b,
                    const FieldDescriptor* field, const std::string& path) {
    const Reflection* r = a.GetReflection();
    if (field->has_presence()) {
      const bool in_a = r->HasField(a, field), in_b = r->HasField(b, field);
      if (!in_a && !in_b) return;
      if (in_a != in_b) {
        return Add(path, in_a ? ValueText(a, field, -1) : "",
                   in_b ? ValueText(b, field, -1) : "");
      }
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      return Compare(r->GetMessage(a, field), r->GetMessage(b, field),
                     path + ".");
    }
    if (!SameScalar(a, -1, b, -1, field)) {
      Add(path, ValueText(a, field, -1), ValueText(b, field, -1));
    }
  }

  bool SameElement(const Message& a, int i, const Message& b, int j,
                   const FieldDescriptor* field) const {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return SameScalar(a, i, b, j, field);
    }
    const Reflection* r = a.GetReflection();
    return DiffMessages(r->GetRepeatedMessage(a, field, i),
                        r->GetRepeatedMessage(b, field, j), 1)
        .empty();
  }

  // What the lists share at both ends is passed over; between, elements are
  // compared in pairs, and what one list has more is its own.
  void CompareLists(const Message& a, const Message& b,
                    const FieldDescriptor* field, const std::string& path) {
    const Reflection* r = a.GetReflection();
    const int n = r->FieldSize(a, field), m = r->FieldSize(b, field);
    int begin = 0;
    while (begin < n && begin < m && SameElement(a, begin, b, begin, field)) {
      ++begin;
    }
    int tail = 0;
    while (tail < n - begin && tail < m - begin &&
           SameElement(a, n - 1 - tail, b, m - 1 - tail, field)) {
      ++tail;
    }
    const int end_a = n - tail, end_b = m - tail;
    for (int i = begin; i < std::max(end_a, end_b); ++i) {
      const std::string element = absl::StrCat(path, "[", i, "]");
      if (i >= end_a) {
        Add(element, "", ValueText(b, field, i));
      } else if (i >= end_b) {
        Add(element, ValueText(a, field, i), "");
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        Compare(r->GetRepeatedMessage(a, field, i),
                r->GetRepeatedMessage(b, field, i), element + ".");
      } else if (!SameScalar(a, i, b, i, field)) {
        Add(element, ValueText(a, field, i), ValueText(b, field, i));
      }
    }
  }

  const size_t limit_;
};

}  // namespace

std::vector<FieldDifference> DiffMessages(const Message& left,
                                          const Message& right, size_t limit) {
  Differ differ(limit);
  differ.Compare(left, right, "");
  return std::move(differ.found);
}

}  // namespace adrank
