// One row of a foreign log, in the system's words.
#ifndef ADRANK_TOOLS_MAPPED_ROW_H_
#define ADRANK_TOOLS_MAPPED_ROW_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/common.pb.h"
#include "proto/import_mapping.pb.h"
#include "tools/row_reader.h"

namespace adrank {

struct MappedRow {
  // As new, but keeps the memory of the messages.
  void Clear();

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

// A compiled ImportMapping. Not thread-safe: counts rows for ROW_NUMBER times.
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
  using Cell = std::vector<absl::string_view>;
  struct Column {
    v1::ColumnMapping::Target to;
    std::string column;
    std::string name;  // of the attribute
    std::string separator;
    bool number;
    double scale;
  };

  RowMapper() = default;
  absl::Status SetTime(const v1::TimeFormat& format);
  absl::Status MapColumn(const Column& column, const Cell& cell,
                         MappedRow* out);
  absl::Status MapAttribute(
      const Column& column, const Cell& cell,
      google::protobuf::RepeatedPtrField<v1::Attribute>* attributes) const;
  absl::Status AddValue(const Column& column, absl::string_view text,
                        v1::Attribute* attribute) const;
  // One value or none, "missing" being none.
  absl::Status MapSingle(const Column& column, absl::string_view text,
                         MappedRow* out);
  absl::Status MapLabel(absl::string_view text, MappedRow* out) const;
  absl::Status MapTime(absl::string_view text, int64_t* time_ms);
  absl::StatusOr<int64_t> ParseTime(absl::string_view text) const;
  absl::Status MapId(const Cell& cell, std::string* id) const;
  bool Missing(absl::string_view text) const;

  std::vector<std::string> columns_;
  std::vector<Column> mapped_;  // mapped_[i] reads columns_[i]
  std::vector<std::string> missing_;
  std::vector<std::string> positive_;
  v1::TimeFormat time_;
  absl::TimeZone zone_ = absl::UTCTimeZone();
  int time_column_ = -1;  // index into columns_
  int id_column_ = -1;
  int64_t rows_ = 0;
  // The last time that was read: logs repeat it, and zones are slow.
  std::string last_time_;
  int64_t last_time_ms_ = 0;
};

}  // namespace adrank

#endif  // ADRANK_TOOLS_MAPPED_ROW_H_
