// Where two messages of one type differ, field by field.
#ifndef ADRANK_BASE_MESSAGE_DIFF_H_
#define ADRANK_BASE_MESSAGE_DIFF_H_

#include <cstddef>
#include <string>
#include <vector>

#include "google/protobuf/message.h"

namespace adrank {

struct FieldDifference {
  // "budget.daily_micros", "keywords[2].text".
  std::string path;
  // As text proto, messages on one line; empty: the field, or the element, is
  // only on the other side. Numbers are printed so that different ones look
  // different.
  std::string left, right;
};

// The first `limit` differences in the order of the fields' numbers. None
// exactly when the messages serialise to the same bytes (for messages without
// maps and unknown fields): floats are compared by their bits. Of repeated
// fields, elements that were put in, taken out or replaced in one place of the
// list show as such; the indices are the left list's, behind its end the
// right's.
// REQUIRES: both are of one type.
std::vector<FieldDifference> DiffMessages(
    const google::protobuf::Message& left,
    const google::protobuf::Message& right, size_t limit);

}  // namespace adrank

#endif  // ADRANK_BASE_MESSAGE_DIFF_H_
