// Hot path: no allocation after warm-up but for tokens of non-ASCII text.
//
// From the values of one field to its entries in a row. Written once for rows
// and for their descriptions: a Sink is told each entry, and how to say it.
#ifndef ADRANK_FEATURES_FIELD_VALUES_H_
#define ADRANK_FEATURES_FIELD_VALUES_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "features/feature_batch.h"
#include "features/feature_id.h"
#include "features/spec_check.h"
#include "features/text.h"
#include "features/transforms.h"
#include "proto/common.pb.h"

namespace adrank {

// What extraction needs of a field.
struct FieldPlan {
  uint64_t salt = 0;
  uint16_t index = 0;
  v1::Field::Kind kind = v1::Field::CATEGORICAL;
  SourceKind source = SourceKind::kContextAttribute;
  bool mean = false;
  uint32_t max_values = 0;
  // Of an attribute: its number in the AttributeTable of its side.
  size_t slot = 0;
  std::vector<double> boundaries;
};

// The sink of rows.
struct RowSink {
  FeatureBatch* batch;
  template <typename Say>
  void Add(uint16_t field, uint64_t id, float value, const Say& /*say*/) {
    batch->Add(field, id, value);
  }
};

// The sink of descriptions: texts[e] says the value of entry e.
struct DescriptionSink {
  FeatureBatch* batch;
  std::vector<std::string>* texts;
  template <typename Say>
  void Add(uint16_t field, uint64_t id, float value, const Say& say) {
    batch->Add(field, id, value);
    texts->push_back(say());
  }
};

struct TokenScratch {
  std::string normalized;
  std::vector<absl::string_view> tokens;
};

// Calls on_number(v) for each finite number of `attribute`, texts that write
// numbers first, until it returns false.
template <typename OnNumber>
void ForEachNumber(const v1::Attribute& attribute, const OnNumber& on_number) {
  for (const std::string& text : attribute.text()) {
    double v;
    if (ParseFinite(text, &v) && !on_number(v)) return;
  }
  for (const double v : attribute.number()) {
    if (std::isfinite(v) && !on_number(v)) return;
  }
}

// Calls on_text(text) for each non-empty text of `attribute`, then for each
// finite number's text, until it returns false.
template <typename OnText>
void ForEachText(const v1::Attribute& attribute, const OnText& on_text) {
  // By index: libprotobuf's iterators of strings are calls.
  for (int i = 0, n = attribute.text_size(); i < n; ++i) {
    const std::string& text = attribute.text(i);
    if (!text.empty() && !on_text(absl::string_view(text))) return;
  }
  for (int i = 0, n = attribute.number_size(); i < n; ++i) {
    const double v = attribute.number(i);
    char buffer[kNumberTextSize];
    if (std::isfinite(v) && !on_text(FormatNumber(v, buffer))) return;
  }
}

// Adds the distinct ids of one field to a row that is being built.
template <typename Sink>
class DistinctIds {
 public:
  DistinctIds(const FieldPlan& plan, Sink* sink)
      : plan_(plan), sink_(sink), begin_(sink->batch->ids.size()) {}

  // False when the field has all the values it may have.
  template <typename Say>
  bool Add(uint64_t id, const Say& say) {
    const std::vector<uint64_t>& ids = sink_->batch->ids;
    for (size_t e = begin_; e < ids.size(); ++e) {
      if (ids[e] == id) return true;
    }
    sink_->Add(plan_.index, id, 1.0f, say);
    return sink_->batch->ids.size() - begin_ < plan_.max_values;
  }

  bool AddText(absl::string_view text) {
    return Add(TextId(plan_.salt, text), [text] { return std::string(text); });
  }
  bool AddBin(int64_t bin) {
    return Add(BinId(plan_.salt, bin), [bin] { return absl::StrCat(bin); });
  }

  // Call once, after the last value.
  void Finish() {
    std::vector<float>& values = sink_->batch->values;
    const size_t n = values.size() - begin_;
    if (!plan_.mean || n < 2) return;
    const float weight = 1.0f / static_cast<float>(n);
    for (size_t e = begin_; e < values.size(); ++e) values[e] = weight;
  }

 private:
  const FieldPlan& plan_;
  Sink* sink_;
  size_t begin_;
};

inline int64_t BinOf(const FieldPlan& plan, double v) {
  return plan.kind == v1::Field::LOG_SQUARE_BIN
             ? LogSquareBin(v)
             : QuantileBin(plan.boundaries, v);
}

// LOG1P and IDENTITY: one entry, the sum or the mean of the first max_values
// numbers. Absent where float cannot hold it.
template <typename Sink>
class NumberEntry {
 public:
  explicit NumberEntry(const FieldPlan& plan) : plan_(plan) {}

  bool Add(double v) {
    sum_ += plan_.kind == v1::Field::LOG1P ? SignedLog1p(v) : v;
    return ++count_ < plan_.max_values;
  }

  void Finish(Sink* sink) const {
    if (count_ == 0) return;
    const double v = plan_.mean ? sum_ / count_ : sum_;
    const float value = static_cast<float>(v);
    if (!std::isfinite(value)) return;
    sink->Add(plan_.index, NumberId(plan_.salt), value, [value] {
      char buffer[kNumberTextSize];
      return std::string(FormatNumber(static_cast<double>(value), buffer));
    });
  }

 private:
  const FieldPlan& plan_;
  double sum_ = 0;
  uint32_t count_ = 0;
};

// False when the field has all the values it may have.
template <typename Sink>
bool AddTokens(absl::string_view text, TokenScratch* scratch,
               DistinctIds<Sink>* ids) {
  TokenizeInto(text, &scratch->normalized, &scratch->tokens);
  for (absl::string_view token : scratch->tokens) {
    if (!ids->AddText(token)) return false;
  }
  return true;
}

// A text that is no attribute: a query, an id. Empty is absent.
template <typename Sink>
void AddTextField(const FieldPlan& plan, absl::string_view text,
                  TokenScratch* scratch, Sink* sink) {
  if (text.empty()) return;
  DistinctIds<Sink> ids(plan, sink);
  if (plan.kind == v1::Field::TOKENS) {
    AddTokens(text, scratch, &ids);
  } else {
    ids.AddText(text);
  }
  ids.Finish();
}

// A number that is no attribute: the position.
template <typename Sink>
void AddNumberField(const FieldPlan& plan, double v, Sink* sink) {
  if (plan.kind == v1::Field::LOG1P || plan.kind == v1::Field::IDENTITY) {
    NumberEntry<Sink> entry(plan);
    entry.Add(v);
    entry.Finish(sink);
    return;
  }
  DistinctIds<Sink> ids(plan, sink);
  if (plan.kind == v1::Field::CATEGORICAL) {
    char buffer[kNumberTextSize];
    ids.AddText(FormatNumber(v, buffer));
  } else {
    ids.AddBin(BinOf(plan, v));
  }
}

// HOUR and WEEKDAY. 0 is "not known".
template <typename Sink>
void AddTimeField(const FieldPlan& plan, const absl::TimeZone& zone,
                  int64_t time_ms, Sink* sink) {
  if (time_ms == 0) return;
  const absl::CivilSecond local =
      absl::ToCivilSecond(absl::FromUnixMillis(time_ms), zone);
  if (plan.kind == v1::Field::HOUR) {
    const int hour = local.hour();
    sink->Add(plan.index, BinId(plan.salt, hour), 1.0f,
              [hour] { return absl::StrCat(hour); });
    return;
  }
  const absl::Weekday weekday = absl::GetWeekday(local);
  static_assert(static_cast<int>(absl::Weekday::monday) == 0);
  sink->Add(plan.index, BinId(plan.salt, static_cast<int>(weekday)), 1.0f,
            [weekday] {
              static constexpr const char* kNames[] = {
                  "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
              return std::string(kNames[static_cast<int>(weekday)]);
            });
}

template <typename Sink>
void AddAttributeField(const FieldPlan& plan, const v1::Attribute& attribute,
                       TokenScratch* scratch, Sink* sink) {
  if (plan.kind == v1::Field::LOG1P || plan.kind == v1::Field::IDENTITY) {
    NumberEntry<Sink> entry(plan);
    ForEachNumber(attribute, [&](double v) { return entry.Add(v); });
    entry.Finish(sink);
    return;
  }
  DistinctIds<Sink> ids(plan, sink);
  if (plan.kind == v1::Field::CATEGORICAL) {
    ForEachText(attribute,
                [&](absl::string_view text) { return ids.AddText(text); });
  } else if (plan.kind == v1::Field::TOKENS) {
    ForEachText(attribute, [&](absl::string_view text) {
      return AddTokens(text, scratch, &ids);
    });
  } else {
    ForEachNumber(attribute,
                  [&](double v) { return ids.AddBin(BinOf(plan, v)); });
  }
  ids.Finish();
}

}  // namespace adrank

#endif  // ADRANK_FEATURES_FIELD_VALUES_H_
