#include "tools/mapped_row.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "base/status_macros.h"
#include "features/text.h"
#include "tools/mapping_check.h"

namespace adrank {
namespace {

using v1::ColumnMapping;
using v1::ImportMapping;
using v1::TimeFormat;

// proto/common.proto: of ads' ids.
constexpr size_t kMaxIdBytes = 128;
// What a decision id can hold: 1970 to the year 10889.
constexpr int64_t kEndOfTimeMs = int64_t{1} << 48;

// For an error: not all of a long value.
std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", text.substr(0, 60), "\"");
}

absl::Status Bad(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(Quoted(text), what));
}

// `width` digits at `at`, 0 behind the end.
int Digits(absl::string_view digits, size_t at, size_t width) {
  int value = 0;
  if (at + width > digits.size()) return 0;
  for (char c : digits.substr(at, width)) value = 10 * value + (c - '0');
  return value;
}

// yyyyMMdd[HH[mm[ss[SSS]]]] in `zone`; false when it is no such time.
bool ParseCompactTime(absl::string_view digits, absl::TimeZone zone,
                      int64_t* time_ms) {
  for (char c : digits) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  const size_t n = digits.size();
  if (n != 8 && n != 10 && n != 12 && n != 14 && n != 17) return false;
  const int month = Digits(digits, 4, 2), day = Digits(digits, 6, 2),
            hour = Digits(digits, 8, 2), minute = Digits(digits, 10, 2),
            second = Digits(digits, 12, 2);
  const absl::CivilSecond civil(Digits(digits, 0, 4), month, day, hour, minute,
                                second);
  // Civil times normalise "February 30"; a log that says so is bad.
  if (civil.month() != month || civil.day() != day || civil.hour() != hour ||
      civil.minute() != minute || civil.second() != second) {
    return false;
  }
  *time_ms =
      absl::ToUnixMillis(absl::FromCivil(civil, zone)) + Digits(digits, 14, 3);
  return true;
}

}  // namespace

void MappedRow::Clear() {
  time_ms = 0;
  id.clear();
  request_id.clear();
  context.Clear();
  ad.Clear();
  placement.clear();
  position = 1;
  bid_micros = price_micros = 0;
  clicked = false;
}

absl::StatusOr<RowMapper> RowMapper::Create(const ImportMapping& mapping) {
  RETURN_IF_ERROR(CheckMapping(mapping));
  RowMapper mapper;
  mapper.missing_.assign(mapping.missing().begin(), mapping.missing().end());
  mapper.positive_.assign(mapping.positive_labels().begin(),
                          mapping.positive_labels().end());
  RETURN_IF_ERROR(mapper.SetTime(mapping.time()));
  for (const ColumnMapping& c : mapping.column()) {
    if (c.to() == ColumnMapping::TIME) {
      mapper.time_column_ = static_cast<int>(mapper.columns_.size());
    }
    mapper.columns_.push_back(c.column());
    mapper.mapped_.push_back(
        {c.to(), c.column(), c.name().empty() ? c.column() : c.name(),
         c.separator(), c.number(), c.scale() == 0 ? 1 : c.scale()});
  }
  if (!mapping.id_column().empty()) {
    mapper.id_column_ = static_cast<int>(mapper.columns_.size());
    mapper.columns_.push_back(mapping.id_column());
  }
  return mapper;
}

absl::Status RowMapper::SetTime(const TimeFormat& format) {
  time_ = format;
  if (time_.step_ms() == 0) time_.set_step_ms(1);
  if (!format.time_zone().empty() &&
      !absl::LoadTimeZone(format.time_zone(), &zone_)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "time.time_zone: unknown zone \"", format.time_zone(), "\""));
  }
  return absl::OkStatus();
}

std::vector<std::string> RowMapper::ClickColumns() const {
  std::vector<std::string> columns = {columns_[id_column_]};
  if (time_column_ >= 0) columns.push_back(columns_[time_column_]);
  return columns;
}

bool RowMapper::Missing(absl::string_view text) const {
  if (text.empty()) return true;
  for (const std::string& missing : missing_) {
    if (text == missing) return true;
  }
  return false;
}

absl::Status RowMapper::Map(const Row& row, MappedRow* out) {
  out->Clear();
  const int64_t row_number = rows_++;
  RETURN_IF_ERROR(row.status);
  if (!IsValidUtf8(row.raw)) {
    return absl::InvalidArgumentError("not valid UTF-8");
  }
  for (size_t i = 0; i < mapped_.size(); ++i) {
    absl::Status status = MapColumn(mapped_[i], row.cells[i], out);
    if (!status.ok()) return Annotate(status, "column " + columns_[i]);
  }
  if (id_column_ >= 0) {
    RETURN_IF_ERROR(MapId(row.cells[id_column_], &out->id));
  }
  if (time_.unit() == TimeFormat::ROW_NUMBER) {
    out->time_ms = time_.start_ms() + row_number * time_.step_ms();
    if (out->time_ms < 0 || out->time_ms >= kEndOfTimeMs) {
      return absl::InvalidArgumentError(
          absl::StrCat("time ", out->time_ms, " is out of range"));
    }
  }
  out->context.set_time_ms(out->time_ms);
  return absl::OkStatus();
}

absl::Status RowMapper::MapClick(const Row& row, MappedRow* out) {
  out->Clear();
  RETURN_IF_ERROR(row.status);
  RETURN_IF_ERROR(MapId(row.cells[0], &out->id));
  if (time_column_ < 0) return absl::OkStatus();
  absl::Status status =
      MapTime(row.cells[1].empty() ? "" : row.cells[1].front(), &out->time_ms);
  if (!status.ok()) {
    return Annotate(status, "column " + columns_[time_column_]);
  }
  return absl::OkStatus();
}

absl::Status RowMapper::MapId(const Cell& cell, std::string* id) const {
  if (cell.size() != 1 || Missing(cell[0])) {
    return absl::InvalidArgumentError(
        absl::StrCat("column ", columns_[id_column_], ": no id"));
  }
  id->assign(cell[0].data(), cell[0].size());
  return absl::OkStatus();
}

absl::Status RowMapper::MapTime(absl::string_view text, int64_t* time_ms) {
  if (text != last_time_ || text.empty()) {
    ASSIGN_OR_RETURN(const int64_t parsed, ParseTime(text));
    if (parsed < 0 || parsed >= kEndOfTimeMs) {
      return Bad(text, " is out of range");
    }
    last_time_.assign(text.data(), text.size());
    last_time_ms_ = parsed;
  }
  *time_ms = last_time_ms_;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> RowMapper::ParseTime(absl::string_view text) const {
  if (time_.unit() == TimeFormat::COMPACT) {
    int64_t time_ms = 0;
    if (!ParseCompactTime(text, zone_, &time_ms)) {
      return Bad(text, " is not a time like yyyyMMddHHmmssSSS");
    }
    return time_ms;
  }
  if (time_.unit() == TimeFormat::PATTERN) {
    absl::Time time;
    std::string error;
    if (absl::ParseTime(time_.pattern(), text, zone_, &time, &error)) {
      return absl::ToUnixMillis(time);
    }
    for (const std::string& pattern : time_.other_patterns()) {
      if (absl::ParseTime(pattern, text, zone_, &time, &error)) {
        return absl::ToUnixMillis(time);
      }
    }
    return Bad(text, absl::StrCat(" is not a time like ", time_.pattern()));
  }
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
    return Bad(text, " is not a time");
  }
  // 1700000000.123 s is 1700000000123 ms, not 122.9999....
  const double ms =
      time_.unit() == TimeFormat::SECONDS        ? std::round(value * 1e3)
      : time_.unit() == TimeFormat::MICROSECONDS ? std::floor(value / 1e3)
                                                 : std::floor(value);
  if (!(std::abs(ms) < 0x1p48)) return Bad(text, " is out of range");
  return static_cast<int64_t>(ms);
}

absl::Status RowMapper::AddValue(const Column& column, absl::string_view text,
                                 v1::Attribute* attribute) const {
  if (Missing(text)) return absl::OkStatus();
  if (!column.number) {
    attribute->add_text(text.data(), text.size());
    return absl::OkStatus();
  }
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
    return Bad(text, " is not a number");
  }
  attribute->add_number(value);
  return absl::OkStatus();
}

absl::Status RowMapper::MapAttribute(
    const Column& column, const Cell& cell,
    google::protobuf::RepeatedPtrField<v1::Attribute>* attributes) const {
  v1::Attribute* attribute = attributes->Add();
  for (absl::string_view text : cell) {
    if (column.separator.empty()) {
      RETURN_IF_ERROR(AddValue(column, text, attribute));
      continue;
    }
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find(column.separator, at), text.size());
      RETURN_IF_ERROR(AddValue(column, text.substr(at, end - at), attribute));
      at = end + column.separator.size();
    }
  }
  if (attribute->text().empty() && attribute->number().empty()) {
    attributes->RemoveLast();
  } else {
    attribute->set_name(column.name);
  }
  return absl::OkStatus();
}

absl::Status RowMapper::MapColumn(const Column& column, const Cell& cell,
                                  MappedRow* out) {
  if (column.to == ColumnMapping::CONTEXT) {
    return MapAttribute(column, cell, out->context.mutable_attributes());
  }
  if (column.to == ColumnMapping::AD) {
    return MapAttribute(column, cell, out->ad.mutable_attributes());
  }
  if (cell.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(cell.size(), " values, expected one"));
  }
  const absl::string_view text = cell.empty() ? "" : cell.front();
  return MapSingle(column, text, out);
}

absl::Status RowMapper::MapLabel(absl::string_view text, MappedRow* out) const {
  if (!positive_.empty()) {
    if (Missing(text)) return absl::InvalidArgumentError("no label");
    out->clicked =
        std::find(positive_.begin(), positive_.end(), text) != positive_.end();
    return absl::OkStatus();
  }
  double label = 0;
  if (!absl::SimpleAtod(text, &label) ||
      (label != 1 && label != 0 && label != -1)) {
    return Bad(text,
               " is no label: not 1, 0 or -1 (positive_labels declares "
               "others)");
  }
  out->clicked = label == 1;
  return absl::OkStatus();
}

absl::Status RowMapper::MapSingle(const Column& column, absl::string_view text,
                                  MappedRow* out) {
  if (column.to == ColumnMapping::LABEL) return MapLabel(text, out);
  if (column.to == ColumnMapping::TIME) return MapTime(text, &out->time_ms);
  if (Missing(text)) {
    if (column.to == ColumnMapping::AD_ID) {
      return absl::InvalidArgumentError("no ad id");
    }
    return absl::OkStatus();
  }
  const auto set_id = [text](std::string* id) {
    if (text.size() > kMaxIdBytes) {
      return Bad(text,
                 absl::StrCat("... is longer than ", kMaxIdBytes, " bytes"));
    }
    id->assign(text.data(), text.size());
    return absl::OkStatus();
  };
  const auto set_micros = [&](int64_t* micros) {
    double money = 0;
    if (!absl::SimpleAtod(text, &money) ||
        !(money * column.scale >= 0 && money * column.scale < 9e18)) {
      return Bad(text, " is not an amount of money");
    }
    *micros = std::llround(money * column.scale);
    return absl::OkStatus();
  };
  switch (column.to) {
    case ColumnMapping::USER_ID:
      out->context.set_user_id(text.data(), text.size());
      return absl::OkStatus();
    case ColumnMapping::QUERY:
      out->context.set_query(text.data(), text.size());
      return absl::OkStatus();
    case ColumnMapping::AD_ID:
      return set_id(out->ad.mutable_ad_id());
    case ColumnMapping::ADVERTISER_ID:
      return set_id(out->ad.mutable_advertiser_id());
    case ColumnMapping::CAMPAIGN_ID:
      return set_id(out->ad.mutable_campaign_id());
    case ColumnMapping::AD_GROUP_ID:
      return set_id(out->ad.mutable_ad_group_id());
    case ColumnMapping::PLACEMENT:
      return set_id(&out->placement);
    case ColumnMapping::REQUEST_ID:
      out->request_id.assign(text.data(), text.size());
      return absl::OkStatus();
    case ColumnMapping::POSITION:
      if (!absl::SimpleAtoi(text, &out->position) || out->position < 1 ||
          out->position > 10000) {
        return Bad(text, " is not a position from 1 to 10000");
      }
      return absl::OkStatus();
    case ColumnMapping::BID:
      return set_micros(&out->bid_micros);
    default:  // PRICE
      return set_micros(&out->price_micros);
  }
}

}  // namespace adrank
