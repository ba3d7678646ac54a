#include "tools/mapped_row.h"

#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/civil_time.h"
#include "base/status_macros.h"
#include "features/text.h"

namespace adrank {
namespace {

using v1::ColumnMapping;
using v1::ImportMapping;
using v1::TimeFormat;

bool MayRepeat(ColumnMapping::Target target) {
  return target == ColumnMapping::CONTEXT || target == ColumnMapping::AD;
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", text.substr(0, 60), "\"");
}

absl::Status CheckColumns(const ImportMapping& mapping) {
  absl::flat_hash_set<int> targets;
  absl::flat_hash_set<std::string> names;
  for (int i = 0; i < mapping.column_size(); ++i) {
    const ColumnMapping& c = mapping.column(i);
    const std::string at = absl::StrCat("column[", i, "]");
    if (c.column().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(at, ".column: empty"));
    }
    if (c.to() == ColumnMapping::TARGET_UNSPECIFIED) {
      return absl::InvalidArgumentError(
          absl::StrCat(at, " (", c.column(), ").to: not set"));
    }
    if (!MayRepeat(c.to())) {
      if (!targets.insert(c.to()).second) {
        return absl::InvalidArgumentError(
            absl::StrCat(at, " (", c.column(), ").to: a second column is ",
                         ColumnMapping::Target_Name(c.to())));
      }
      continue;
    }
    const std::string& name = c.name().empty() ? c.column() : c.name();
    if (!names.insert(absl::StrCat(c.to(), "/", name)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(at, ": a second attribute is named \"", name, "\""));
    }
  }
  const bool has_label = targets.contains(ColumnMapping::LABEL);
  if (has_label == mapping.separate_clicks()) {
    return absl::InvalidArgumentError(
        "give either a column to LABEL or separate_clicks: true");
  }
  const bool by_row = mapping.time().unit() == TimeFormat::ROW_NUMBER;
  if (targets.contains(ColumnMapping::TIME) == by_row) {
    return absl::InvalidArgumentError(
        "give either a column to TIME or time { unit: ROW_NUMBER }");
  }
  if (mapping.separate_clicks() && mapping.id_column().empty()) {
    return absl::InvalidArgumentError(
        "id_column: required with separate_clicks");
  }
  return absl::OkStatus();
}

int64_t Micros(double units) { return std::llround(units); }

// yyyyMMdd[HH[mm[ss[SSS]]]] in `zone`; false when it is no such time.
bool ParseCompactTime(absl::string_view digits, absl::TimeZone zone,
                      int64_t* time_ms) {
  for (char c : digits) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  const size_t n = digits.size();
  if (n != 8 && n != 10 && n != 12 && n != 14 && n != 17) return false;
  const auto number = [&](size_t at, size_t width) {
    int value = 0;
    if (at + width <= n &&
        !absl::SimpleAtoi(digits.substr(at, width), &value)) {
      return -1;
    }
    return value;
  };
  const absl::CivilSecond second(number(0, 4), number(4, 2), number(6, 2),
                                 number(8, 2), number(10, 2), number(12, 2));
  // Civil times normalise "February 30"; a log that says so is bad.
  if (second.month() != number(4, 2) || second.day() != number(6, 2) ||
      second.hour() != number(8, 2) || second.minute() != number(10, 2) ||
      second.second() != number(12, 2)) {
    return false;
  }
  *time_ms = absl::ToUnixMillis(absl::FromCivil(second, zone)) + number(14, 3);
  return true;
}

}  // namespace

absl::StatusOr<RowMapper> RowMapper::Create(const ImportMapping& mapping) {
  if (mapping.format() == ImportMapping::FORMAT_UNSPECIFIED) {
    return absl::InvalidArgumentError("format: not set");
  }
  if (!(mapping.max_bad_share() >= 0 && mapping.max_bad_share() <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_bad_share: ", mapping.max_bad_share(), " not in [0, 1]"));
  }
  RETURN_IF_ERROR(CheckColumns(mapping));
  RowMapper mapper;
  mapper.mapping_ = mapping;
  mapper.missing_.insert("");
  for (const std::string& text : mapping.missing()) {
    mapper.missing_.insert(text);
  }
  for (const std::string& text : mapping.positive_labels()) {
    mapper.positive_.insert(text);
  }
  const TimeFormat& time = mapping.time();
  if (!time.time_zone().empty() &&
      !absl::LoadTimeZone(time.time_zone(), &mapper.zone_)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "time.time_zone: unknown zone \"", time.time_zone(), "\""));
  }
  if (time.unit() == TimeFormat::PATTERN && time.pattern().empty()) {
    return absl::InvalidArgumentError("time.pattern: required");
  }
  for (const ColumnMapping& c : mapping.column()) {
    if (c.to() == ColumnMapping::TIME) {
      mapper.time_column_ = static_cast<int>(mapper.columns_.size());
    }
    mapper.columns_.push_back(c.column());
  }
  if (!mapping.id_column().empty()) {
    mapper.id_column_ = static_cast<int>(mapper.columns_.size());
    mapper.columns_.push_back(mapping.id_column());
  }
  return mapper;
}

std::vector<std::string> RowMapper::ClickColumns() const {
  std::vector<std::string> columns = {columns_[id_column_]};
  if (time_column_ >= 0) columns.push_back(columns_[time_column_]);
  return columns;
}

bool RowMapper::Missing(absl::string_view text) const {
  return missing_.contains(text);
}

absl::Status RowMapper::Map(const Row& row, MappedRow* out) {
  *out = MappedRow();
  const int64_t row_number = rows_++;
  RETURN_IF_ERROR(row.status);
  if (!IsValidUtf8(row.raw)) {
    return absl::InvalidArgumentError("not valid UTF-8");
  }
  for (int i = 0; i < mapping_.column_size(); ++i) {
    RETURN_IF_ERROR(Annotate(MapColumn(mapping_.column(i), row.cells[i], out),
                             absl::StrCat("column ", columns_[i])));
  }
  if (id_column_ >= 0) {
    const auto& cell = row.cells[id_column_];
    if (cell.empty() || Missing(cell[0])) {
      return absl::InvalidArgumentError(
          absl::StrCat("column ", columns_[id_column_], ": no id"));
    }
    out->id = std::string(cell[0]);
  }
  if (mapping_.time().unit() == TimeFormat::ROW_NUMBER) {
    const int64_t step = mapping_.time().step_ms();
    out->time_ms = mapping_.time().start_ms() + row_number * (step ? step : 1);
  }
  out->context.set_time_ms(out->time_ms);
  return absl::OkStatus();
}

absl::Status RowMapper::MapClick(const Row& row, MappedRow* out) {
  *out = MappedRow();
  RETURN_IF_ERROR(row.status);
  if (row.cells[0].empty() || Missing(row.cells[0][0])) {
    return absl::InvalidArgumentError(
        absl::StrCat("column ", columns_[id_column_], ": no id"));
  }
  out->id = std::string(row.cells[0][0]);
  if (time_column_ < 0) return absl::OkStatus();
  const absl::string_view text =
      row.cells[1].empty() ? "" : row.cells[1].front();
  return Annotate(MapTime(text, &out->time_ms),
                  absl::StrCat("column ", columns_[time_column_]));
}

absl::Status RowMapper::MapTime(absl::string_view text,
                                int64_t* time_ms) const {
  const TimeFormat& format = mapping_.time();
  if (format.unit() == TimeFormat::COMPACT) {
    if (!ParseCompactTime(text, zone_, time_ms)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(text), " is not a time like yyyyMMddHHmmssSSS"));
    }
  } else if (format.unit() == TimeFormat::PATTERN) {
    absl::Time time;
    std::string error;
    if (!absl::ParseTime(format.pattern(), text, zone_, &time, &error)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(text), " is not a time like ", format.pattern()));
    }
    *time_ms = absl::ToUnixMillis(time);
  } else {
    double value = 0;
    if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(text), " is not a time"));
    }
    const double scale = format.unit() == TimeFormat::SECONDS        ? 1e3
                         : format.unit() == TimeFormat::MICROSECONDS ? 1e-3
                                                                     : 1;
    if (!(std::abs(value * scale) < 0x1p48)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(text), " is out of range"));
    }
    *time_ms = static_cast<int64_t>(value * scale);
  }
  // What a decision id can hold: 1970 to year 10889.
  if (*time_ms < 0 || *time_ms >= int64_t{1} << 48) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is out of range"));
  }
  return absl::OkStatus();
}

absl::Status RowMapper::MapAttribute(const ColumnMapping& column,
                                     const std::vector<absl::string_view>& cell,
                                     v1::Attribute* attribute) const {
  for (absl::string_view text : cell) {
    std::vector<absl::string_view> parts = {text};
    if (!column.separator().empty()) {
      parts = absl::StrSplit(text, column.separator());
    }
    for (absl::string_view part : parts) {
      if (Missing(part)) continue;
      if (!column.number()) {
        attribute->add_text(part.data(), part.size());
        continue;
      }
      double value = 0;
      if (!absl::SimpleAtod(part, &value) || !std::isfinite(value)) {
        return absl::InvalidArgumentError(
            absl::StrCat(Quoted(part), " is not a number"));
      }
      attribute->add_number(value);
    }
  }
  return absl::OkStatus();
}

absl::Status RowMapper::MapColumn(const ColumnMapping& column,
                                  const std::vector<absl::string_view>& cell,
                                  MappedRow* out) const {
  if (MayRepeat(column.to())) {
    v1::Attribute attribute;
    RETURN_IF_ERROR(MapAttribute(column, cell, &attribute));
    if (attribute.text().empty() && attribute.number().empty()) {
      return absl::OkStatus();
    }
    attribute.set_name(column.name().empty() ? column.column() : column.name());
    *(column.to() == ColumnMapping::AD ? out->ad.add_attributes()
                                       : out->context.add_attributes()) =
        std::move(attribute);
    return absl::OkStatus();
  }
  const absl::string_view text = cell.empty() ? "" : cell.front();
  const bool missing = Missing(text);
  const std::string value = missing ? "" : std::string(text);
  switch (column.to()) {
    case ColumnMapping::LABEL: {
      if (!mapping_.positive_labels().empty()) {
        if (missing) return absl::InvalidArgumentError("no label");
        out->clicked = positive_.contains(text);
        return absl::OkStatus();
      }
      double label = 0;
      if (!absl::SimpleAtod(text, &label) ||
          (label != 1 && label != 0 && label != -1)) {
        return absl::InvalidArgumentError(
            absl::StrCat(Quoted(text),
                         " is no label: not 1, 0 or -1 (positive_labels "
                         "declares others)"));
      }
      out->clicked = label == 1;
      return absl::OkStatus();
    }
    case ColumnMapping::TIME:
      return MapTime(text, &out->time_ms);
    case ColumnMapping::USER_ID:
      out->context.set_user_id(value);
      return absl::OkStatus();
    case ColumnMapping::QUERY:
      out->context.set_query(value);
      return absl::OkStatus();
    case ColumnMapping::AD_ID:
      if (missing) return absl::InvalidArgumentError("no ad id");
      out->ad.set_ad_id(value);
      return absl::OkStatus();
    case ColumnMapping::ADVERTISER_ID:
      out->ad.set_advertiser_id(value);
      return absl::OkStatus();
    case ColumnMapping::CAMPAIGN_ID:
      out->ad.set_campaign_id(value);
      return absl::OkStatus();
    case ColumnMapping::AD_GROUP_ID:
      out->ad.set_ad_group_id(value);
      return absl::OkStatus();
    case ColumnMapping::PLACEMENT:
      out->placement = value;
      return absl::OkStatus();
    case ColumnMapping::REQUEST_ID:
      out->request_id = value;
      return absl::OkStatus();
    case ColumnMapping::POSITION: {
      if (missing) return absl::OkStatus();
      if (!absl::SimpleAtoi(text, &out->position) || out->position < 1 ||
          out->position > 10000) {
        return absl::InvalidArgumentError(
            absl::StrCat(Quoted(text), " is not a position from 1 on"));
      }
      return absl::OkStatus();
    }
    default: {  // BID, PRICE
      if (missing) return absl::OkStatus();
      double money = 0;
      const double scale = column.scale() == 0 ? 1 : column.scale();
      if (!absl::SimpleAtod(text, &money) ||
          !(money * scale >= 0 && money * scale < 9e18)) {
        return absl::InvalidArgumentError(
            absl::StrCat(Quoted(text), " is not an amount of money"));
      }
      (column.to() == ColumnMapping::BID ? out->bid_micros
                                         : out->price_micros) =
          Micros(money * scale);
      return absl::OkStatus();
    }
  }
}

}  // namespace adrank
