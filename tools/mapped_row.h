// One row of a foreign log, in the system's words.
#ifndef ADRANK_TOOLS_MAPPED_ROW_H_
#define ADRANK_TOOLS_MAPPED_ROW_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/common.pb.h"
#include "proto/import_mapping.pb.h"
#include "tools/row_reader.h"

namespace adrank {

struct MappedRow {
  int64_t time_ms = 0;
  // Value of mapping.id_column; empty without one.
  std::string id;
  std::string request_id;
  v1::Context context;
  v1::AdSnapshot ad;
  std::string placement;
  uint32_t position = 1;
  int64_t bid_micros = 0;
  int64_t price_micros = 0;
  bool clicked = false;
};

// A compiled ImportMapping. Immutable but for the row counter of ROW_NUMBER
// times; not thread-safe.
class RowMapper {
 public:
  // InvalidArgument names the field that is wrong.
  static absl::StatusOr<RowMapper> Create(const v1::ImportMapping& mapping);

  // Columns to ask a RowReader for; for rows of click files, only id and time.
  const std::vector<std::string>& columns() const { return columns_; }
  std::vector<std::string> ClickColumns() const;

  // The reason why a row is bad names the column and the value.
  absl::Status Map(const Row& row, MappedRow* out);
  // Fills in id and time of a row read with ClickColumns().
  absl::Status MapClick(const Row& row, MappedRow* out);

 private:
  RowMapper() = default;
  absl::Status MapColumn(const v1::ColumnMapping& column,
                         const std::vector<absl::string_view>& cell,
                         MappedRow* out) const;
  absl::Status MapAttribute(const v1::ColumnMapping& column,
                            const std::vector<absl::string_view>& cell,
                            v1::Attribute* attribute) const;
  absl::Status MapTime(absl::string_view text, int64_t* time_ms) const;
  bool Missing(absl::string_view text) const;

  v1::ImportMapping mapping_;
  std::vector<std::string> columns_;
  absl::flat_hash_set<std::string> missing_;
  absl::flat_hash_set<std::string> positive_;
  absl::TimeZone zone_ = absl::UTCTimeZone();
  int time_column_ = -1;  // index into columns_
  int id_column_ = -1;
  int64_t rows_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_MAPPED_ROW_H_
