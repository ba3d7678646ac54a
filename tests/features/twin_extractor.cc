#include "tests/features/twin_extractor.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "features/feature_id.h"
#include "features/text.h"

namespace adrank::testing {
namespace {

using v1::Field;

std::string NumberText(double v) {
  // The fewest digits that read back.
  if (v == 0) return "0";
  char buffer[64];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(buffer, sizeof(buffer), "%.*g", digits, v);
    if (std::strtod(buffer, nullptr) == v) break;
  }
  const bool whole = std::floor(v) == v;
  if (std::fabs(v) < 1e21 && whole) {
    std::snprintf(buffer, sizeof(buffer), "%.0f", v);
  }
  return buffer;
}

std::vector<double> Numbers(const v1::Attribute& a) {
  std::vector<double> out;
  for (const std::string& text : a.text()) {
    char* end = nullptr;
    const double v = std::strtod(text.c_str(), &end);
    if (!text.empty() && *end == '\0' && std::isfinite(v)) out.push_back(v);
  }
  for (double v : a.number()) {
    if (std::isfinite(v)) out.push_back(v);
  }
  return out;
}

std::vector<std::string> Texts(const v1::Attribute& a) {
  std::vector<std::string> out(a.text().begin(), a.text().end());
  for (double v : a.number()) {
    if (std::isfinite(v)) out.push_back(NumberText(v));
  }
  return out;
}

// The value of a field's source as an attribute.
v1::Attribute Value(const Field& f, const v1::Context& context,
                    const std::string& placement, const v1::AdSnapshot& ad,
                    uint32_t position) {
  v1::Attribute out;
  const std::string source =
      f.source().empty() ? absl::StrCat("context.", f.name()) : f.source();
  if (source == "user_id") out.add_text(context.user_id());
  if (source == "query") out.add_text(context.query());
  if (source == "placement") out.add_text(placement);
  if (source == "ad.id") out.add_text(ad.ad_id());
  if (source == "ad.ad_group_id") out.add_text(ad.ad_group_id());
  if (source == "ad.campaign_id") out.add_text(ad.campaign_id());
  if (source == "ad.advertiser_id") out.add_text(ad.advertiser_id());
  if (source == "position" && position > 0) out.add_number(position);
  if (source == "time" && context.time_ms() != 0) {
    out.add_number(static_cast<double>(context.time_ms()));
  }
  if (out.text_size() + out.number_size() > 0) return out;
  for (const v1::Attribute& a : context.attributes()) {
    if (source == absl::StrCat("context.", a.name())) return a;
  }
  for (const v1::Attribute& a : ad.attributes()) {
    if (source == absl::StrCat("ad.", a.name())) return a;
  }
  return out;
}

int64_t Bin(const Field& f, double v) {
  if (f.kind() == Field::LOG_SQUARE_BIN) {
    return v <= 2 ? static_cast<int64_t>(v)
                  : 3 + static_cast<int64_t>(std::pow(std::log(v), 2));
  }
  if (f.kind() == Field::HOUR) {
    const double hours = std::floor(v / 3600e3);
    return static_cast<int64_t>(hours - 24 * std::floor(hours / 24));
  }
  if (f.kind() == Field::WEEKDAY) {  // 1970-01-01 was a Thursday
    const double days = std::floor(v / 86400e3) + 3;
    return static_cast<int64_t>(days - 7 * std::floor(days / 7));
  }
  int64_t bin = 0;
  for (double b : f.boundaries()) bin += b <= v;
  return bin;
}

std::string BinText(const Field& f, int64_t bin) {
  static const char* const kDays[] = {"Mon", "Tue", "Wed", "Thu",
                                      "Fri", "Sat", "Sun"};
  return f.kind() == Field::WEEKDAY ? kDays[bin] : std::to_string(bin);
}

std::vector<TwinEntry> FieldEntries(const Field& f, int index,
                                    const v1::Attribute& value) {
  const uint64_t salt = Hash64(f.name());
  const size_t limit = f.max_values() == 0 ? 64 : f.max_values();
  std::vector<TwinEntry> all;
  if (f.kind() == Field::LOG1P || f.kind() == Field::IDENTITY) {
    double sum = 0;
    std::vector<double> numbers = Numbers(value);
    if (numbers.size() > limit) numbers.resize(limit);
    for (double v : numbers) {
      sum += f.kind() == Field::IDENTITY ? v
             : v < 0                     ? -std::log1p(-v)
                                         : std::log1p(v);
    }
    if (f.pooling() == Field::MEAN) sum /= static_cast<double>(numbers.size());
    const float pooled = static_cast<float>(sum);
    if (!numbers.empty() && std::isfinite(pooled)) {
      all.push_back({index, NumberId(salt), pooled,
                     NumberText(static_cast<double>(pooled))});
    }
    return all;
  }
  if (f.kind() == Field::TOKENS) {
    for (const std::string& text : Texts(value)) {
      for (const std::string& token : Tokenize(text)) {
        all.push_back({index, TextId(salt, token), 1, token});
      }
    }
  } else if (f.kind() == Field::CATEGORICAL ||
             f.kind() == Field::KIND_UNSPECIFIED) {
    for (const std::string& text : Texts(value)) {
      if (!text.empty()) all.push_back({index, TextId(salt, text), 1, text});
    }
  } else if (f.kind() != Field::QUANTILE_BIN || f.boundaries_size() > 0) {
    for (double v : Numbers(value)) {
      const int64_t bin = Bin(f, v);
      all.push_back({index, BinId(salt, bin), 1, BinText(f, bin)});
    }
  }
  std::vector<TwinEntry> kept;
  std::map<uint64_t, bool> seen;
  for (const TwinEntry& entry : all) {
    if (kept.size() < limit && !std::exchange(seen[entry.id], true)) {
      kept.push_back(entry);
    }
  }
  for (TwinEntry& entry : kept) {
    if (f.pooling() == Field::MEAN) {
      entry.value = 1.0f / static_cast<float>(kept.size());
    }
  }
  return kept;
}

std::vector<TwinEntry> CrossEntries(
    const v1::Cross& cross, int index,
    const std::vector<const std::vector<TwinEntry>*>& components) {
  std::vector<TwinEntry> rows = {
      {index, CrossStart(Hash64(cross.name())), 1, ""}};
  for (const auto* component : components) {
    std::vector<TwinEntry> longer;
    for (const TwinEntry& row : rows) {
      for (const TwinEntry& entry : *component) {
        longer.push_back({index, CrossNext(row.id, entry.id),
                          row.value * entry.value,
                          absl::StrCat(row.text, row.text.empty() ? "" : " x ",
                                       entry.text)});
      }
    }
    rows = std::move(longer);
  }
  for (TwinEntry& row : rows) row.id = CrossEnd(row.id);
  if (rows.size() > 1024) rows.resize(1024);
  return rows;
}

// 'c'ontext, 'a'd or 'x'.
char PartOfField(const Field& f) {
  if (f.source() == "position") return 'x';
  return f.source().substr(0, 3) == "ad." ? 'a' : 'c';
}

}  // namespace

TwinRow TwinExtract(const v1::FeatureSpec& spec, const v1::Context& context,
                    const std::string& placement, const v1::AdSnapshot& ad,
                    uint32_t position) {
  TwinRow row;
  const auto append = [&row](char part, const std::vector<TwinEntry>& entries) {
    auto& to = part == 'c' ? row.context : part == 'a' ? row.ad : row.cross;
    to.insert(to.end(), entries.begin(), entries.end());
  };
  std::map<std::string, std::vector<TwinEntry>> entries;
  std::map<std::string, char> parts;
  int index = 0;
  for (const Field& f : spec.fields()) {
    entries[f.name()] =
        FieldEntries(f, index++, Value(f, context, placement, ad, position));
    parts[f.name()] = PartOfField(f);
    append(parts[f.name()], entries[f.name()]);
  }
  for (const v1::Cross& cross : spec.crosses()) {
    std::vector<const std::vector<TwinEntry>*> components;
    char part = parts[cross.of(0)];
    for (const std::string& name : cross.of()) {
      components.push_back(&entries[name]);
      if (parts[name] != part) part = 'x';
    }
    append(part, CrossEntries(cross, index++, components));
  }
  return row;
}

}  // namespace adrank::testing
