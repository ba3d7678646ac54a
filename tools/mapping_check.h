// What an import mapping must say.
#ifndef ADRANK_TOOLS_MAPPING_CHECK_H_
#define ADRANK_TOOLS_MAPPING_CHECK_H_

#include "absl/status/status.h"
#include "proto/import_mapping.pb.h"

namespace adrank {

// InvalidArgument names the field that is wrong or has no effect. The time zone
// is looked up by RowMapper::Create.
absl::Status CheckMapping(const v1::ImportMapping& mapping);

}  // namespace adrank

#endif  // ADRANK_TOOLS_MAPPING_CHECK_H_
